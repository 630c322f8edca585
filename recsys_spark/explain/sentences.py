"""Reasons as sentences, from templates in every language of LANGUAGES."""

from collections.abc import Sequence

LANGUAGES = ("en", "zh")

_TEMPLATES = {
    "en": {
        "like": "because you {verb} {title}",
        "like, cart": "because you put {title} into your cart",
        "unlike disliked": "because it is unlike {title}, which you {verb}",
        "unlike": "although it is unlike {title}, which you {verb}",
        "like disliked": "although it resembles {title}, which you {verb}",
        "own_text": "because it fits what is written about you",
        "own_text, against": "although it does not fit what is written about you",
        "segment": "because users of your locale choose such items",
        "segment, against": "although users of your locale choose other items",
        "boost": "because it is promoted to everybody",
        "boost, against": "although it is shown less to everybody",
        "popular": "because many choose it at present",
        "popular, against": "although few choose it at present",
        "similar": "because it goes with what you chose before",
        "similar, against": "although it goes little with what you chose before",
        "again": "because you chose it before",
        "again, against": "although you chose it rarely or long ago",
        "average": "because you often choose what is listed",
        "average, against": "although you rarely choose what is listed",
        "others": "and {count} other reasons",
        "others, one": "and one other reason",
        "blocks": "{sentence}: {blocks}",
        "comma": ", ",
    },
    "zh": {
        "like": "因为您{verb}《{title}》",
        "like, cart": "因为您把《{title}》加入了购物车",
        "unlike disliked": "因为它不同于您{verb}的《{title}》",
        "unlike": "尽管它不同于您{verb}的《{title}》",
        "like disliked": "尽管它近似于您{verb}的《{title}》",
        "own_text": "因为它符合您的资料",
        "own_text, against": "尽管它不符合您的资料",
        "segment": "因为与您同地区的用户也选择这类内容",
        "segment, against": "尽管与您同地区的用户选择其他内容",
        "boost": "因为它正在向所有人推广",
        "boost, against": "尽管它的排序对所有人都被调低",
        "popular": "因为目前很多人选择它",
        "popular, against": "尽管目前选择它的人不多",
        "similar": "因为它与您之前的选择相配",
        "similar, against": "尽管它与您之前的选择不太相配",
        "again": "因为您以前选择过它",
        "again, against": "尽管您很少或很久以前选择过它",
        "average": "因为您经常选择推荐的内容",
        "average, against": "尽管您很少选择推荐的内容",
        "others": "以及其他 {count} 个原因",
        "others, one": "以及另外一个原因",
        "blocks": "{sentence}：{blocks}",
        "comma": "、",
    },
}

_VERBS = {
    "en": {
        "view": "viewed", "click": "clicked", "cart": "put into your cart", "purchase": "bought", "rating": "liked",
        "watch": "watched", "listen": "listened to", "read": "read", "": "chose",
    },
    "zh": {
        "view": "浏览过", "click": "点击过", "cart": "加入购物车", "purchase": "购买过", "rating": "喜欢",
        "watch": "看过", "listen": "听过", "read": "读过", "": "选择过",
    },
}  # fmt: skip

_AGAINST = {
    "en": {
        "rating": "did not like",
        "skip": "skipped",
        "cancel": "gave back",
        "ignored": "passed over",
        "": "turned down",
    },
    "zh": {"rating": "不喜欢", "skip": "跳过", "cancel": "退掉", "ignored": "没有理会", "": "拒绝过"},
}

_BLOCKS = {
    "en": {
        "text": "description", "category": "category", "brand": "brand", "price": "price", "image": "picture",
        "vector": "content", "collaborative": "often chosen together",
    },
    "zh": {
        "text": "描述", "category": "类别", "brand": "品牌", "price": "价格", "image": "图片", "vector": "内容",
        "collaborative": "常被一起选择",
    },
}  # fmt: skip

_ALIKE = {"en": ("same {block}", "similar {block}"), "zh": ("{block}相同", "{block}相近")}

_SAME = 0.999

_LEAST_SHARE = 0.15
"""Least share of a reason from which a feature block is named."""


def sentence(
    language: str,
    kind: str,
    contribution: float,
    *,
    title: str = "",
    weight: float = 1.0,
    event_type: str | None = None,
    alike: Sequence[tuple[str, float, float]] = (),
    count: int = 0,
) -> str:
    """One reason as a sentence.

    Args:
        language: one of LANGUAGES.
        kind: ``history``, ``own_text``, ``segment``, ``boost``, ``others``, and of ranked lists ``popular``,
            ``similar``, ``again`` and ``average``.
        contribution: to the score; a negative one makes a sentence with "although".
        title: title of the history item, not escaped: the caller escapes the sentence for display.
        weight: weight of the event; negative for an item that the user rejected.
        event_type: type of the event; unknown types have a general verb.
        alike: name, contribution and cosine (NaN: none) of each feature block.
        count: number of reasons that ``others`` sums up.
    """
    words = _TEMPLATES[language]
    if kind != "history":
        if kind == "others":
            return words["others, one" if count == 1 else "others"].format(count=count)
        return words[kind if contribution >= 0 else f"{kind}, against"]
    verbs = (_VERBS if weight > 0 else _AGAINST)[language]
    similar = (contribution >= 0) == (weight > 0)
    name = ("like" if weight > 0 else "like disliked") if similar else ("unlike" if weight > 0 else "unlike disliked")
    template = words.get(f"{name}, {event_type}", words[name])  # where the title stands inside of the verb
    text = template.format(verb=verbs.get(event_type or "", verbs[""]), title=title)
    if name != "like":
        return text
    blocks = [
        _block(language, block, cosine)
        for block, value, cosine in sorted(alike, key=lambda part: -part[1])
        if value > 0 and value >= _LEAST_SHARE * contribution
    ]
    return words["blocks"].format(sentence=text, blocks=words["comma"].join(blocks)) if blocks else text


def _block(language: str, block: str, cosine: float) -> str:
    name = _BLOCKS[language].get(block, block)
    if block == "collaborative":
        return name
    same, similar = _ALIKE[language]
    return (same if cosine >= _SAME else similar).format(block=name)
