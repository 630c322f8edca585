"""Find e-mail addresses, street addresses and names in salutations, in English and Chinese."""

import re
from collections.abc import Iterator

from recsys_spark.privacy.kernels.spans import Span, group_spans

EMAIL = r"@|＠|[\[(] ?at ?[\])]"
"""A regular expression of RE2, as ADDRESS and NAME are: a text without a match has no such value."""

_EMAIL = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._%+'-]{0,63}\s?@\s?(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,"
    r"61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}(?![A-Za-z0-9])",
    re.ASCII,
)

_OBFUSCATED = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63} ?[\[(] ?at ?[\])] ?[A-Za-z0-9-]+(?:(?:\.| ?[\[(] ?dot ?[\])] ?)[A-Za-z0-9-]+)+",
    re.ASCII,
)

# --- street addresses ---

_STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place|"
    r"Pl|Square|Sq|Terrace|Parkway|Pkwy|"
    r"Highway|Hwy|Close|Crescent|Circle|Cir|Trail|Mews|Gardens|Grove|Plaza)"
)

_UNIT = r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm)\.? ?#?[A-Za-z0-9-]{1,6}|,? #[A-Za-z0-9-]{1,6})"

_PLACE = (
    r"(?:,? [A-Z][A-Za-z.'-]+(?: [A-Z][A-Za-z.'-]+){0,2},? [A-Z]{2} \d{5}(?:-\d{4})?|,? "
    r"(?:[A-Z][A-Za-z]+ ?){1,2},? [A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2})"
)

ADDRESS = rf" {_STREET}\b|[Pp]\.? ?[Oo]\.? [Bb]ox|号|弄|信箱"

_ADDRESS = re.compile(
    rf"(?<![A-Za-z0-9.$€£#/-])((?:(?:Flat|Apt|Unit|Suite|Apartment) [A-Za-z0-9-]{{1,5}},? "
    rf")?\d{{1,5}}(?:-\d{{1,5}})?[A-Za-z]?,? (?!Degree|Deg|Pcs|Pc|Pack|Oz|Inch|Piece|Count|"
    rf"Way|Row|New)(?:(?:[NSEW]|North|South|East|West|NE|NW|SE|SW)\.? )?"
    rf"(?:(?:[A-Z][a-z'’.-]+|\d{{1,3}}(?:st|nd|rd|th)|[A-Z]) ){{1,"
    rf"3}}{_STREET}\b(?![-’'])(?:\.(?=,? [A-Z0-9#])(?!\s[A-Z][a-z]+ [a-z]))?(?: (?:NW|NE|"
    rf"SW|SE|[NSEW])\b)?{_UNIT}?{_PLACE}?)",
    re.ASCII,
)

_BOX = re.compile(r"\b([Pp]\.? ?[Oo]\.? [Bb]ox \d{1,7})", re.ASCII)

_CHINESE_ENDS, _CHINESE_GREETING = re.compile("[号弄箱]"), re.compile("[敬爱好启上]")

_HAN = r"(?:(?![到在于址住寄往至是为给的送发从])[一-鿿])"

_CHINESE_ADDRESS = re.compile(
    rf"((?:{_HAN}{{2,8}}?(?:省|自治区))?(?:{_HAN}{{2,7}}?(?:市|自治州|盟))?(?:{_HAN}{{1,"
    rf"7}}?(?:区|县|旗|镇|乡|街道|新区))?"
    rf"(?:{_HAN}{{1,8}}?(?:村|社区))?{_HAN}{{1,8}}?(?:大道|大街|路|街|道|巷|胡同|"
    rf"弄)[东西南北中]?(?:[一二三四五六七八九十]?段)?"
    r" ?\d{1,5}(?:[-—]\d{1,4})?(?:号|弄)(?:院|楼|大厦)?"
    rf"(?:[一-鿿]{{0,8}}?\d{{1,5}}(?:号楼|栋|幢|座|单元|室|层|楼|号|房))*(?:(?<=[元楼栋])\d{{2,4}}(?![\d元.]))?)"
)

_CHINESE_BOX = re.compile(r"((?:邮政)?信箱 ?\d{1,6}号?|\d{1,6}号?信箱)")

# --- names in salutations ---

NAME = (
    r"\b(?:Dear|Hi|Hello|Hey|Greetings|Attn|ATTN|Attention|Good [MmAaEe](?:orning|"
    r"fternoon|vening))(?: there)?[:,]? ?[A-Z]"
    r"|(?:egards|incerely|yours|truly|heers|ishes|aithfully|hanks), ?[A-Z]"
    r"|尊敬的|亲爱的|敬爱的|您好|你好|敬上|谨上|敬启|[上下早晚][午上]好"
)

_PART = r"[A-Z](?:[a-z]{0,2}[A-Z][a-zà-öø-ÿ]+|[a-zà-öø-ÿ]+|['’][A-Z][a-zà-öø-ÿ]+)(?:[-'’][A-Z]?[a-zà-öø-ÿ]+)?"

_FULL = rf"{_PART}(?: (?:[A-Z]\.|(?:van|de|der|den|la|von|bin|al|da|di)(?= )|{_PART})){{0,3}}"

_GREETING = (
    r"\b(?:Dear|Hi|Hello|Hey|Greetings,?|Good (?:[Mm]orning|[Aa]fternoon|[Ee]vening),?|"
    r"Attn:?|ATTN:?|Attention:?)(?: there,?)?"
)

_TITLE = r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Madam|Doctor)\.?"

_TITLED = re.compile(rf"{_GREETING} {_TITLE} ({_FULL})")

_BARE = re.compile(rf"{_GREETING} ({_FULL})(?=\s*[,:!;—–]|\s+[-–—] |\.\s|\s*$)")

_CLOSING = re.compile(
    rf"(?:[Rr]egards|[Ss]incerely(?: yours)?|truly|Cheers|[Bb]est wishes|[Ww]arm wishes|"
    rf"faithfully|Thanks|Many thanks),\s?({_FULL})(?=\s*[.!,]?\s*$|\.\s|,\s)"
)

_NOBODY = frozenset(
    re.findall(
        r"\w+",
        """
    Customer Customers Sir Sirs Madam Friend Friends All Team Reader Readers Santa Diary Kitty World Dolly Valued
    Guest Guests Everyone Everybody Parents Parent Users User Members Member Colleague Colleagues There Again Fi
    Folks Guys Ladies Students Student Teacher Teachers Editor Seller Sellers Buyer Buyers Shopper Shoppers Mom Dad
    Mother Father God Lord Baby Darling Moon Sunshine Beautiful Goodbye Goodnight Neighbor Neighbour Neighbors Kids
    Children Hiring Support Client Clients Amazon Honey Love Life Summer Spring Winter Jesus Evan Future Stranger
    Our Fellow Subscriber Subscribers Partner Partners Supplier Human Resources Sales Service Staff Management The
    My Your A An Please We I You It This That
    """,
    )
)

_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢"
    "蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史"
    "顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦"
    "申尤毕聂丛焦向柳邢路岳齐梅莫庄辛管祝左涂谷祁时舒耿牟卜詹关苗凌费纪靳盛童欧甄项曲成游"
    "阳裴席卫查屈鲍位覃霍翁隋植甘景薄单包司柏宁柯阮桂闵解强柴华车冉房边辜吉饶刁瞿戚丘古米"
    "池滕晋苑邬臧畅宫"
)

_FAMILY = rf"(?:欧阳|司马|上官|诸葛|夏侯|皇甫|尉迟|公孙|慕容|司徒|令狐|[{_SURNAMES}])"

_GIVEN = r"(?:(?!先生|女士|小姐|太太|老师|经理|教授|医生|博士|主任|同学|顾客|客户|用户)[一-鿿])"

_HONORIFIC = r"(?:先生|女士|小姐|太太|老师|经理|教授|医生|博士|主任|同学|总监|总|师傅|律师|工程师|院长|校长)"

_CHINESE_NAMES = (
    re.compile(rf"(?:尊敬的|亲爱的|敬爱的) ?({_FAMILY}{_GIVEN}{{0,2}}?)(?={_HONORIFIC})"),
    re.compile(rf"(?:尊敬的|亲爱的|敬爱的) ?({_FAMILY}{_GIVEN}{{1,2}})(?=\s*[，,：:！!。])"),
    re.compile(rf"(?<![一-鿿])({_FAMILY}{_GIVEN}{{0,2}}?)(?={_HONORIFIC}\s?[，,：:！!]?\s?(?:您好|"
        rf"你好|早上好|下午好|晚上好|上午好))"),
    re.compile(rf"(?<![一-鿿])({_FAMILY}{_GIVEN}{{1,2}}?)(?=\s?[，,：:！!]?\s?(?:您好|你好|早上好|"
        rf"下午好|晚上好|上午好))"),
    re.compile(rf"(?:您好|你好|早上好|下午好|晚上好|上午好)\s?[，,！!]?\s?({_FAMILY}{_GIVEN}{{0,2}}?)(?={_HONORIFIC})"),
    re.compile(rf"(?<![一-鿿])({_FAMILY}{_GIVEN}{{1,2}})(?=\s?(?:敬上|谨上|敬启))"),
)  # fmt: skip


def email_spans(text: str) -> Iterator[Span]:
    """E-mail addresses, also with ``(at)`` and ``[dot]``."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Span("email", *match.span())
    if "at" in text and ("(" in text or "[" in text):
        for match in _OBFUSCATED.finditer(text):
            yield Span("email", *match.span())


def address_spans(text: str) -> Iterator[Span]:
    """Street addresses with a number, and boxes of a post office."""
    yield from group_spans("address", _ADDRESS, text)
    if "ox" in text:
        yield from group_spans("address", _BOX, text)
    if _CHINESE_ENDS.search(text):
        for pattern in (_CHINESE_ADDRESS, _CHINESE_BOX):
            yield from group_spans("address", pattern, text)


def name_spans(text: str) -> Iterator[Span]:
    """Names after a greeting and after the formula that closes a letter. The greeting and a title stay."""
    yield from group_spans("name", _TITLED, text)
    for pattern in (_BARE, _CLOSING):
        for match in pattern.finditer(text):
            if not _NOBODY & {*match[1].replace("-", " ").split()} and match[1] not in _TITLES:
                yield Span("name", *match.span(1))
    if _CHINESE_GREETING.search(text):
        for pattern in _CHINESE_NAMES:
            yield from group_spans("name", pattern, text)


_TITLES = frozenset(["Mr", "Mrs", "Ms", "Miss", "Mx", "Dr", "Prof", "Professor", "Doctor"])
