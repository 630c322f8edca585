"""Find card, account, identity and telephone numbers and IP addresses in a text.

A number counts if its check digits are right (python-stdnum, phonenumbers) and its form is that of its kind; numbers
whose form other numbers share too need a word such as "phone" or "passport" before them.
"""

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module

from recsys_spark.privacy.kernels.spans import Span, words_before

_RUN = re.compile(r"[0-9](?:[ ().\-–/]{0,3}[0-9]){5,}", re.ASCII)
"""Six digits or more that belong together."""

_LEFT, _RIGHT = 16, 5
"""Characters around a run of digits that may belong to the number: the letters of an IBAN, a closing letter."""

# --- words before a number ---

_GAP = (
    r"[^\w一-鿿]*(?:(?:no|nr|num|number|code|id|is|was|#|number is|no is)\b[^\w一-鿿]*|[号码为是：:]{1,3}[^\w一-鿿]*)*$"
)

_OTHER = re.compile(
    r"(?:\b(?:isbn(?:-1[03])?|issn|ean|upc|gtin|asin|sku|model|part|item|order|invoice|"
    r"tracking|serial|s/n|imei|meid|ref|"
    r"reference|lot|batch|catalogu?e?|patent|mpn|product|ticket|case|po|shipment|parcel|waybill|article|doi|barcode)\b"
    r"|型号|货号|订单|运单|单号|编号|条形?码|书号|序列号|批号|版本|发票|批次|专利|快递|款号)" + _GAP
)

_PHONE = re.compile(
    r"(?:\b(?:tele)?phones?\b|\btel\b|\b(?:call|ring|text|sms|fax|mobile|cell(?:phone)?|whatsapp|hotline|helpline|"
    r"reach|landline|handy|telefon)\b|电话|手机|传真|热线|联系|致电|拨打|来电|座机|打给|短信)[^0-9]{0,16}$"
)

_IDENTITY = re.compile(
    r"(?:\b(?:ssn|social security|national id(?:entity)?|identity card|id card|passport|driver'?s? licen[cs]e|nino?|"
    r"national insurance|dni|nie|pesel|bsn|sin|tfn|aadhaar|tax id|tax file|personnummer|steuer-?id|resident id|itin)\b|"
    r"身份证|护照|证件|社保|通行证|驾照|驾驶证)" + _GAP
)

_ACCOUNT = re.compile(
    r"(?:\b(?:account|acct|a/c|iban|routing|sort code|aba|bank)\b|账号|帐号|账户|帐户|卡号|银行卡|开户行)" + _GAP
)

_WORDS = (
    "call ring text sms fax mobile cell whatsapp hotline helpline reach landline handy ssn social national id identity "
    "passport licence license driver nin nino insurance dni nie pesel bsn sin tfn aadhaar tax steuer personnummer "
    "resident itin account acct a/c iban routing sort aba bank"
)
_ANNOUNCING = frozenset(_WORDS.split())
_ANNOUNCING_HAN = "电手传热联致拨来座短身护证社通驾账帐卡银"

ANNOUNCED = rf"phone|\btel|\b(?:{'|'.join(sorted(_ANNOUNCING))})\b|[{_ANNOUNCING_HAN}]"
"""A word that may announce a number, as a regular expression of RE2 in any case: a quick look before the exact one."""

_QUICK_WORD = re.compile(rf"phone|a/c|tel|[a-z]+?(?=phone)|[a-z]+|[{_ANNOUNCING_HAN}]")
_QUICK = _ANNOUNCING | {"phone", "tel", *_ANNOUNCING_HAN}

LETTERED = r"[A-Z]{2} [0-9]{2} [0-9]{2} [0-9]{2} [A-D]|[XYZ]-?[0-9]{7}-?[A-Z]"
"""Identity numbers of few digits, as a regular expression of RE2."""

_LEAST_ACCOUNT, _LEAST_PHONE, _LEAST_IDENTITY = 10, 10, 7
"""Digits of the shortest IBAN or card, telephone number without a word before it, and identity number."""

_LEAST_IBAN = 15

_IS_DATE = re.compile(
    r"(?:19|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:0?[1-9]|[12]\d|3[01])\b|\d\d?[./-]\d\d?[./-](?:19|20)\d\d\b"
)

# --- forms ---

_IBAN = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?(?![A-Za-z0-9])", re.ASCII
)

_CARD = re.compile(
    r"(?<![A-Za-z0-9.-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ "
    r"-])\d{6}\2\d{4,5}|\d{14,19})(?![A-Za-z0-9]|[.-]\d)",
    re.ASCII,
)

_BRAND = re.compile(r"(?:4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|"
        r"5\d\d|4[4-9]\d)\d{12}"
                    r"|35\d{14}|62\d{14,17})$", re.ASCII)  # fmt: skip

_LOCAL_ACCOUNT = re.compile(r"(?<![A-Za-z0-9])\d(?:[ -]?\d){5,19}(?![A-Za-z0-9]|[.-]\d)", re.ASCII)

_IDENTITIES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (module, re.compile(rf"(?<![A-Za-z0-9-]){form}(?![A-Za-z0-9]|-[0-9])", re.ASCII))
    for module, form in (
        ("us.ssn", r"\d{3}-\d{2}-\d{4}"),
        ("us.itin", r"9\d{2}-\d{2}-\d{4}"),
        ("cn.ric", r"\d{6} ?\d{8} ?\d{3}[0-9Xx]"),
        ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
        ("kr.rrn", r"\d{6}-\d{7}"),
        ("es.nie", r"[XYZ]-?\d{7}-?[A-Z]"),
        ("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Z]"),
        ("fr.nir", r"[12] \d{2} \d{2} (?:\d{2}|2[AB]) \d{3} \d{3} \d{2}"),
        ("in_.aadhaar", r"[2-9]\d{3} \d{4} \d{4}"),
    )
)
"""Identity numbers whose form few other numbers have, by the module of python-stdnum that checks them."""

_SOME_IDENTITY = re.compile("|".join(form.pattern for _, form in _IDENTITIES), re.ASCII)

_NINO = re.compile(
    r"(?<![A-Za-z0-9])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d{2} \d{2} \d{2} [A-D](?![A-Za-z0-9])", re.ASCII
)

_ANY_IDENTITY = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{0,3}\d(?:[ ./-]?\d){5,17}(?: ?-?[A-Z])?(?:\([0-9A]\))?(?![A-Za-z0-9])", re.ASCII
)

_PHONE_FORMS: tuple[tuple[str | None, re.Pattern[str]], ...] = tuple(
    (region, re.compile(rf"(?<![A-Za-z0-9.$€£¥#/+-]){form}(?![A-Za-z0-9]|[.-]\d)", re.ASCII))
    for region, form in (
        (None, r"\(?(?:\+|00)\)?\d(?:[ ().\-–/]{0,3}\d){7,14}"),
        ("US", r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}"),
        ("CN", r"(?:86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}"),
        ("CN", r"(?:\(0\d{2,3}\) ?|0\d{2,3}[- ])\d{3,4}[ -]?\d{4}(?:-\d{1,5})?"),
        ("CN", r"[48]00-\d{3,4}-\d{3,4}"),
        ("GB", r"\(?0\d{2,4}\)? \d{3,4} ?\d{3,4}"),
    )
)  # fmt: skip
"""Telephone numbers as they are written where they belong to; None: with the code of their country."""

_ANY_PHONE = re.compile(r"(?<![A-Za-z0-9.])\+?\(?\d(?:[ ().\-–/]{0,3}\d){6,14}(?![A-Za-z0-9])", re.ASCII)

_SHORT_PHONE = re.compile(r"\d{3}[-. ]\d{4}$|\d{4}[- ]\d{4}$", re.ASCII)

_REGIONS = ("US", "CN", "GB", "HK", "TW", "SG", "AU", "IN")
"""Regions whose local numbers count after a word such as "phone"."""

_IPV4 = re.compile(r"(?<![A-Za-z0-9.])\d{1,3}(?:\.\d{1,3}){3}(?![A-Za-z0-9]|\.\d)", re.ASCII)

_IPV6 = re.compile(r"(?<![A-Za-z0-9:.-])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![A-Za-z0-9:])", re.ASCII)

_VERSION = re.compile(
    r"(?:\bv|\bver|\bversions?|\bfirmware|\brelease|\bbuild|\bdrivers?|\bsection|"
    r"\bchapter|\bupdate|版本|固件|章节)\W{0,3}$"
)


def number_spans(text: str) -> Iterator[Span]:
    """The numbers of a text in ASCII digits, which may overlap."""
    for run in _RUN.finditer(text):
        start, end = max(0, run.start() - _LEFT), min(len(text), run.end() + _RIGHT)
        while end < len(text) and text[end - 1].isalnum() and text[end].isascii() and text[end].isalnum():
            end += 1  # the end of a window must not look like the end of a word
        digits = sum(map(str.isdigit, run[0]))
        announced = _is_announced(text[max(0, run.start() - 2 * _LEFT) : end])
        if digits >= _LEAST_ACCOUNT:
            yield from _ibans(text, start, end)
            yield from _cards(text, start, end)
        if digits >= _LEAST_PHONE or "+" in text[start:end]:
            yield from _phones(text, start, end)
        if digits >= _LEAST_IDENTITY or text[end - 1].isascii():
            yield from _identities(text, start, end, digits)
        if announced:
            yield from _announced(text, start, end)
    yield from ip_spans(text)


def _is_announced(window: str) -> bool:
    """Whether a text has a word of ANNOUNCED: its words are looked up, in a third of the time of the expression. It may
    also be true where such a word is a part between other signs."""
    return not _QUICK.isdisjoint(_QUICK_WORD.findall(window.lower()))


def ip_spans(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses; a version of software has the form of the first, and a word before it."""
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            if _is_ip(match[0]) and not _VERSION.search(words_before(text, match.start())):
                yield Span("ip", *match.span())
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            if (match[0].count(":") == 7 or ("::" in match[0] and any(map(str.isdigit, match[0])))) and _is_ip(
                match[0]
            ):
                yield Span("ip", *match.span())


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _ibans(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _IBAN.finditer(text, start, end):
        value = match[0]
        while len(value) >= _LEAST_IBAN and not _is_valid("iban", value):
            value = value[: max(value.rfind(" "), value.rfind("-"), 0)]  # a word in capitals after the number
        if len(value) >= _LEAST_IBAN:
            yield Span("account", match.start(), match.start() + len(value))


def _cards(text: str, start: int, end: int) -> Iterator[Span]:
    for match in _CARD.finditer(text, start, end):
        if _is_card(match[0]) and not _OTHER.search(words_before(text, match.start())):
            yield Span("card", *match.span())


def _is_card(value: str) -> bool:
    digits = value.replace(" ", "").replace("-", "")
    return bool(_BRAND.match(digits)) and _is_valid("luhn", digits)


def _identities(text: str, start: int, end: int, digits: int) -> Iterator[Span]:
    has_form = digits >= _LEAST_IDENTITY and _SOME_IDENTITY.search(text, start, end) is not None
    for module, form in _IDENTITIES if has_form else ():
        for match in form.finditer(text, start, end):
            if _is_valid(module, match[0]) and not _OTHER.search(words_before(text, match.start())):
                yield Span("id", *match.span())
    for match in _NINO.finditer(text, start, end):
        yield Span("id", *match.span())


def _phones(text: str, start: int, end: int) -> Iterator[Span]:
    for region, form in _PHONE_FORMS:
        for match in form.finditer(text, start, end):
            if _OTHER.search(words_before(text, match.start())) or _IS_DATE.match(match[0]):
                continue
            if length := _phone_length(match[0], region):
                yield Span("phone", match.start(), match.start() + length)


def _announced(text: str, start: int, end: int) -> Iterator[Span]:
    """Numbers of any form after a word that says what they are."""
    for form, word, kind in ((_LOCAL_ACCOUNT, _ACCOUNT, "account"), (_ANY_IDENTITY, _IDENTITY, "id")):
        for match in form.finditer(text, start, end):
            if _IS_DATE.match(match[0]) or _is_card(match[0]):
                continue
            if word.search(words_before(text, match.start())):
                yield Span(kind, *match.span())
    for match in _ANY_PHONE.finditer(text, start, end):
        before = words_before(text, match.start())
        if not _PHONE.search(before) or _OTHER.search(before) or _IS_DATE.match(match[0]):
            continue
        lengths = [_phone_length(match[0], region) for region in _REGIONS]
        if length := max(lengths) or (len(match[0]) if _SHORT_PHONE.match(match[0]) else 0):
            yield Span("phone", match.start(), match.start() + length)


def _phone_length(value: str, region: str | None) -> int:
    """The number of characters of ``value`` that are a valid telephone number, without numbers that follow; 0: none."""
    while sum(map(str.isdigit, value)) >= 7:
        if _is_phone(value, region):
            return len(value)
        cut = max(value.rfind(mark) for mark in " -–/.(")
        value = value[: max(cut, 0)].rstrip(" ().-–/")
    return 0


@lru_cache(4096)
def _is_phone(value: str, region: str | None) -> bool:
    import phonenumbers

    plain = value.replace("(+)", "+").lstrip("(") if region is None else value
    plain = "+" + plain[2:] if region is None and plain.startswith("00") else plain
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(plain, region)))
    except phonenumbers.NumberParseException:
        return False


def _is_valid(module: str, value: str) -> bool:
    """Whether the check digits and parts of a number are right, by the module of python-stdnum."""
    return bool(import_module(f"stdnum.{module}").is_valid(value))
