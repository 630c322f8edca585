"""Sentences of reasons, for and against an item, in every language."""

import string

import pytest

from recsys_spark.explain.sentences import _AGAINST, _BLOCKS, _TEMPLATES, _VERBS, LANGUAGES, sentence


@pytest.mark.parametrize(
    ("contribution", "weight", "event_type", "text"),
    [
        (0.3, 2.0, "watch", "because you watched Alien: same category, similar description"),
        (-0.3, 2.0, "purchase", "although it is unlike Alien, which you bought"),
        (0.3, -1.0, "skip", "because it is unlike Alien, which you skipped"),
        (-0.3, -1.0, "rating", "although it resembles Alien, which you did not like"),
        (0.3, 2.0, "cart", "because you put Alien into your cart: same category, similar description"),
        (-0.3, 2.0, "cart", "although it is unlike Alien, which you put into your cart"),
        (0.3, 1.0, "something new", "because you chose Alien: same category, similar description"),
    ],
)
def test_sentences_of_liked_and_disliked_items(contribution, weight, event_type, text):
    alike = [("text", 0.1, 0.4), ("category", 0.19, 1.0), ("brand", 0.01, 1.0), ("price", -0.02, -0.1)]
    words = {"title": "Alien", "weight": weight, "event_type": event_type, "alike": alike}
    assert sentence("en", "history", contribution, **words) == text


def test_chinese():
    alike = [("category", 0.2, 1.0), ("text", 0.1, 0.4)]
    text = sentence("zh", "history", 0.3, title="异形", event_type="watch", alike=alike)
    assert text == "因为您看过《异形》：类别相同、描述相近"
    assert sentence("zh", "others", -0.1, count=12) == "以及其他 12 个原因"
    assert sentence("zh", "history", 0.3, title="茶壶", event_type="cart") == "因为您把《茶壶》加入了购物车"


def test_other_reasons_are_counted():
    assert sentence("en", "others", 0.1, count=1) == "and one other reason"
    assert sentence("en", "others", 0.1, count=12) == "and 12 other reasons"


def test_a_title_is_not_read_as_a_template():
    assert "{verb} {0} %s" in sentence("en", "history", 0.3, title="{verb} {0} %s")
    assert "{verb} {0} %s" in sentence("en", "history", 0.3, title="{verb} {0} %s", alike=[("text", 0.3, 0.5)])


@pytest.mark.parametrize("kind", ["own_text", "segment", "boost"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_other_kinds_differ_for_and_against(kind, language):
    assert sentence(language, kind, 0.1) != sentence(language, kind, -0.1)


def test_all_languages_have_the_same_templates_and_fields():
    fields = {
        language: {name: sorted(f[1] for f in string.Formatter().parse(text) if f[1]) for name, text in words.items()}
        for language, words in _TEMPLATES.items()
    }
    assert set(fields) == set(LANGUAGES)
    for table in (fields, *({k: set(v) for k, v in t.items()} for t in (_VERBS, _AGAINST, _BLOCKS))):
        assert table["en"] == table["zh"]
