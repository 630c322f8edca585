"""Texts with personal values at places that are known, and with values that only look like them.

The templates were written after the patterns of ``privacy/kernels`` and without looking at them.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    """A text and its values: kind, start and end of each."""

    text: str
    values: tuple[tuple[str, int, int], ...]


def luhn(digits: str) -> str:
    """The digits with the check digit of Luhn."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if place % 2 == 0 else 1)
        total += number - 9 if number > 9 else number
    return digits + str(-total % 10)


def digits(rng, n):
    return "".join(rng.choice("0123456789") for _ in range(n))


def pick(rng, *choices):
    return rng.choice(choices)


# --- values ---


def email(rng, chinese):
    name = pick(
        rng, "anna.meyer", "j_doe", "li.wei", "x" + digits(rng, 5), "sales+eu", "o.brien-1979", "qq" + digits(rng, 6)
    )
    host = pick(
        rng, "gmail.com", "163.com", "mail.example.co.uk", "firma-mueller.de", "qq.com", "students.uni.edu", "shop.io"
    )
    return f"{name}@{host}"


def phone(rng, chinese):
    if chinese:
        mobile = pick(rng, "138", "139", "150", "158", "186", "177", "199", "131") + digits(rng, 8)
        area = pick(rng, "010", "021", "020", "0755", "0571", "028")
        fixed = pick(rng, "6", "8") + digits(rng, 7)
        return pick(
            rng,
            mobile,
            f"{mobile[:3]}-{mobile[3:7]}-{mobile[7:]}",
            f"{mobile[:3]} {mobile[3:7]} {mobile[7:]}",
            f"{area}-{fixed}",
            f"+86 {mobile}",
            f"+86-{mobile}",
            f"({area}){fixed}",
        )
    area = pick(rng, "212", "415", "312", "206", "617", "303", "512", "702")
    middle, last = pick(rng, "23", "55", "73", "84") + digits(rng, 1), digits(rng, 4)
    london = pick(rng, "7946", "7123", "8123") + " " + digits(rng, 4)
    return pick(
        rng,
        f"({area}) {middle}-{last}",
        f"{area}-{middle}-{last}",
        f"{area}.{middle}.{last}",
        f"1-{area}-{middle}-{last}",
        f"+1 {area} {middle} {last}",
        f"020 {london}",
        f"+44 20 {london}",
        f"+44 (0)20 {london}",
        f"+49 30 {pick(rng, '2', '4', '8')}{digits(rng, 6)}",
        f"07{pick(rng, '4', '8', '9')}00 {digits(rng, 6)}",
    )


def card(rng, chinese):
    if chinese or rng.random() < 0.1:
        number = luhn(pick(rng, "622202", "621700", "622848") + digits(rng, pick(rng, 9, 12)))
        if len(number) == 16:
            return pick(rng, number, " ".join(number[at : at + 4] for at in range(0, 16, 4)))
        return number
    if rng.random() < 0.2:
        amex = luhn(pick(rng, "34", "37") + digits(rng, 12))
        return pick(rng, amex, f"{amex[:4]} {amex[4:10]} {amex[10:]}", f"{amex[:4]}-{amex[4:10]}-{amex[10:]}")
    head = pick(rng, "4", "51", "55", "6011", "2221")
    number = luhn(head + digits(rng, 15 - len(head)))
    mark = pick(rng, "", " ", "-")
    return mark.join(number[at : at + 4] for at in range(0, 16, 4))


def iban(rng, chinese):
    country, body = pick(
        rng,
        ("DE", digits(rng, 18)),
        ("FR", None),
        ("GB", pick(rng, "WEST", "BARC", "NWBK") + digits(rng, 14)),
        ("NL", pick(rng, "ABNA", "INGB") + digits(rng, 10)),
        ("AT", digits(rng, 16)),
    )
    if body is None:
        country, body = "DE", digits(rng, 18)
    moved = "".join(str(int(mark, 36)) for mark in body + country + "00")
    whole = f"{country}{98 - int(moved) % 97:02d}{body}"
    return pick(rng, whole, " ".join(whole[at : at + 4] for at in range(0, len(whole), 4)))


def us_ssn(rng, chinese):
    return f"{rng.randrange(100, 600)}-{rng.randrange(10, 99)}-{rng.randrange(1000, 9999)}"


def chinese_id(rng, chinese):
    place = pick(rng, "110105", "310104", "440305", "330106", "510107", "320102")
    head = f"{place}{rng.randrange(1950, 2005)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}{digits(rng, 3)}"
    total = sum(int(digit) * (2 ** (17 - at) % 11) for at, digit in enumerate(head))
    return head + "10X98765432"[total % 11]


def ip(rng, chinese):
    if rng.random() < 0.25:
        return pick(
            rng,
            f"2001:db8::{rng.randrange(16, 65535):x}",
            f"fe80::1ff:fe23:{rng.randrange(4096, 65535):x}:890a",
            f"2a02:8109:9a40:1bc4:{rng.randrange(4096, 65535):x}:5d2e:9af1:77c0",
        )
    return ".".join(str(rng.randrange(1, 255)) for _ in range(4))


def name(rng, chinese):
    if chinese:
        family = pick(rng, "王", "李", "张", "陈", "赵", "欧阳", "林", "沈", "宋", "郭", "诸葛")
        return family + pick(rng, "明", "小红", "伟", "志强", "丽", "建国", "雨桐", "海")
    first = pick(rng, "Anna", "John", "Priya", "Wei", "José", "Siobhan", "Fatima", "Lars", "Chloë", "Mary-Jane")
    last = pick(
        rng, "Smith", "O'Connor", "Müller", "Nguyen", "van der Berg", "McDonald", "Garcia Lopez", "Kowalski", "Lee"
    )
    return pick(rng, f"{first} {last}", f"{first} {last}", first)


def last_name(rng, chinese):
    return pick(rng, "Smith", "O'Connor", "Müller", "Nguyen", "McDonald", "Kowalski", "Okafor", "Zhang", "Lee")


def address(rng, chinese):
    number = rng.randrange(1, 2500)
    if chinese:
        city = pick(
            rng, "北京市朝阳区", "上海市浦东新区", "广东省深圳市南山区", "杭州市西湖区", "四川省成都市武侯区", ""
        )
        road = pick(rng, "建国路", "世纪大道", "科技园南路", "文三路", "人民南路四段", "解放西街", "幸福巷")
        return f"{city}{road}{number}号" + pick(
            rng,
            "",
            "",
            f"{number % 9 + 1}号楼{number % 900 + 100}室",
            f"{number % 20 + 1}栋{number % 3 + 1}单元{number % 900 + 101}",
        )
    road = pick(
        rng,
        "Maple Street",
        "Oak Ave",
        "Elm St.",
        "Old Mill Road",
        "Washington Blvd",
        "Kings Lane",
        "Harbour View Drive",
        "W 57th St",
        "St. James's Square",
        "Queen Victoria Terrace",
        "N Lake Shore Dr",
    )
    return f"{number} {road}" + pick(
        rng, "", "", "", ", Apt 4B", ", Suite 200", ", Springfield, IL 62704", ", Portland, OR 97205"
    )


def passport(rng, chinese):
    return (
        pick(rng, "E", "G", "P", "C") + digits(rng, 8) if chinese else pick(rng, digits(rng, 9), "X" + digits(rng, 7))
    )


def account(rng, chinese):
    return digits(rng, pick(rng, 8, 10, 12)) if not chinese else digits(rng, pick(rng, 12, 17))


VALUES = {
    "email": email,
    "phone": phone,
    "card": card,
    "iban": iban,
    "ssn": us_ssn,
    "cnid": chinese_id,
    "ip": ip,
    "name": name,
    "lastname": last_name,
    "address": address,
    "passport": passport,
    "account": account,
}

KIND_OF = {"iban": "account", "ssn": "id", "cnid": "id", "lastname": "name", "passport": "id"}

ENGLISH = (
    "Great blender, but the lid cracked. Reply to {email} if you want photos.",
    "You can reach me at {phone} after six, or by mail: {email}.",
    "Seller told me to ring {phone} for spare parts; nobody answered.",
    "Refund went to {card}, not to the card I paid with.",
    "I paid by Visa {card} and the charge appeared twice on my statement.",
    "Please transfer the deposit to {iban} by Friday.",
    "Bank details: IBAN {iban}, reference lamp.",
    "For the warranty form they wanted my social security number {ssn}! Never again.",
    "They even printed my SSN ({ssn}) on the label.",
    "The camera kept connecting to {ip} at night, which worried me.",
    "Router login is at {ip}; the manual omits this.",
    "Dear {name}, thank you for the tent, it survived the storm.",
    "Dear Mr. {lastname}, the replacement wheel fits well.",
    "Hello {name}! We loved the puzzle and bought another one.",
    "Hi {name}, the zipper broke after a week. Best, the Millers",
    "The jacket is warm and light. Kind regards, {name}",
    "Lovely shop at {address}. Friendly people, fair prices.",
    "It was shipped to {address} instead of my new flat.",
    "My passport number {passport} is on the customs form, why?",
    "Please credit account number {account} with the difference.",
    "Contact: {name2}{phone} / {email}, evenings only.",
    "Good morning {name}, order arrived; ip log shows {ip}.",
    "Write to {email} or visit {address} before noon.",
    "Fax {phone}, no email. Very old-fashioned company.",
)

CHINESE = (
    "东西不错,有问题请发邮件到{email},谢谢。",
    "客服电话{phone}一直打不通,很失望。",
    "我的手机号是{phone},收到请回复。",
    "退款请退到银行卡{card},不要退到支付宝。",
    "卡号{card}被重复扣款两次。",
    "身份证号码{cnid}都要填,感觉不安全。",
    "海关要求提供身份证{cnid},麻烦。",
    "摄像头半夜连接{ip},很奇怪。",
    "路由器后台地址{ip},说明书没有写。",
    "尊敬的{name}先生,感谢您购买我们的帐篷。",
    "尊敬的{name}女士:您的包裹已经发出。",
    "{name}老师,您好!这本书很适合孩子。",
    "您好,{name}经理,轮子已经换好了。",
    "亲爱的{name},拼图全家都喜欢。",
    "请寄到{address},周末有人收货。",
    "收货地址:{address}。联系电话{phone}。",
    "店铺在{address},老板很热情。",
    "护照号{passport}写错了,请更正。",
    "请汇款到账号{account},备注台灯。",
    "微信同号{phone},或者{email}。",
)

ENGLISH_OTHERS = (
    "ISBN 978-0-{i2}-{i5}-{i1}, hardcover, {i3} pages, first printed in 19{i2}.",
    "ISBN-10: 0-{i3}-{i5}-X. A classic reprint.",
    "Model WH-{i4}XM{i1}, firmware v{i1}.{i2}.{i1}.{i2}, weight {i3} g.",
    "Price dropped from $1,{i3}.00 to ${i3}.{i2} on 2024-03-{d2}.",
    "EAN 4006381{i6}, pack of 12, size 10 x 12 x 14 cm.",
    "Order no. {i3}-{i7}-{i7} arrived on 03/{d2}/2023 at 12:{m2}:45.",
    "Tracking number 1Z{i3}W{i10} shows no movement.",
    "Runs on driver version 31.0.{i2}.{i4} without trouble.",
    "Hello Kitty, pink, 350 ml. Dishwasher safe.",
    "Dear Customer, this item ships from our warehouse.",
    "Hello world, said the robot in episode {i2}.",
    "Mr. Holland's Opus (1995) and Dr. Strangelove (1964) on one disc.",
    "Resolution 1920 x 1080 at 60 Hz, 16:9, 300 nits, 1000000:1.",
    "Lot 2021{i4}, serial number {i9}, made in 2021.",
    "Population grew from 1,{i3},{i3} in 1990-2000 to 2 {i3} {i3}.",
    "A walk down the road took us {i2} minutes, then Main Street again.",
    "Part number {i3}-{i2}-{i5} replaces {i4}-{i4}.",
    "Scored 4.5 of 5 by {i4} people; ratio {i1}.{i3}.",
    "SKU {i8}, MPN {i6}-{i3}, 24 units per carton.",
    "Opening hours 9:00-17:30, 2 for 1 on Tuesdays, 50% off @ checkout.",
)

CHINESE_OTHERS = (
    "型号XJ-{i4},净重{i3}克,保质期至2025年3月{d2}日。",
    "货号690{i9},一箱24瓶,3号电池另购。",
    "书号978-7-{i3}-{i5}-{i1},定价{i2}.80元。",
    "订单号2024{i10},3月{d2}日下单。",
    "尊敬的客户,您好!本店支持七天无理由退货。",
    "亲爱的朋友们,活动价{i3}元,限时2小时。",
    "鲁迅先生的文章,老师推荐,值得一读。",
    "固件版本{i1}.{i2}.{i1}.{i2},支持5G和{i4}毫安电池。",
    "分辨率1920x1080,对比度1000000:1,2023-11-{d2}上市。",
    "一路走来不容易,第{i2}街区的灯光很美。",
    "快递单号SF{i12},两天没有更新。",
    "高{i3}毫米,宽{i4}毫米,误差0.{i3}。",
)


def _filled(rng, template: str, chinese: bool) -> Planted:
    text, values = "", []
    for part in template.split("{"):
        field, closed, rest = part.partition("}")
        if not closed:
            text += part
            continue
        if field in VALUES:
            value = VALUES[field](rng, chinese)
            values.append((KIND_OF.get(field, field), len(text), len(text) + len(value)))
        elif field == "name2":
            value = pick(rng, "", "the office, ", "day or night ")
        elif field == "d2":
            value = f"{rng.randrange(1, 29):02d}"
        elif field == "m2":
            value = f"{rng.randrange(60):02d}"
        else:
            value = digits(rng, int(field[1:]))
        text += value + rest
    return Planted(text, tuple(values))


def personal_texts(number: int, seed: int = 0) -> list[Planted]:
    """Half English, half Chinese; of each language three in five have values, the others only look so."""
    rng, texts = random.Random(seed), []
    for at in range(number):
        chinese, personal = at % 2 == 1, at % 5 < 3
        pools = ((ENGLISH, ENGLISH_OTHERS), (CHINESE, CHINESE_OTHERS))[chinese]
        first = _filled(rng, rng.choice(pools[0] if personal else pools[1]), chinese)
        if rng.random() < 0.3:
            second = _filled(rng, rng.choice(pools[1]), chinese)
            gap = "" if chinese else " "
            shift = len(first.text) + len(gap)
            first = Planted(
                first.text + gap + second.text,
                first.values + tuple((k, s + shift, e + shift) for k, s, e in second.values),
            )
        texts.append(first)
    return texts
