"""Personal values in texts are replaced by their kind, and what only looks like them stays."""

import re
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys_spark.errors import UsageError
from recsys_spark.ingest.kernels.clean_text import clean_text
from recsys_spark.privacy.kernels import number_spans, scrub
from recsys_spark.privacy.kernels.candidates import candidates
from recsys_spark.privacy.kernels.scrub import PLACEHOLDER, scrub_spans, scrub_text, scrub_texts
from recsys_spark.privacy.kernels.spans import KINDS
from tests.bench.personal_texts import personal_texts

CORPUS = personal_texts(5000)


def rates(texts):
    """(recall, precision): a value counts if its kind, its first and its last character are right."""
    hits, planted, marked = Counter(), Counter(), Counter()
    for one in texts:
        values, spans = set(one.values), {tuple(span) for span in scrub_spans(one.text)}
        for counter, spans_of in ((hits, values & spans), (planted, values), (marked, spans)):
            counter.update(kind for kind, _, _ in spans_of)
    return hits, planted, marked


@pytest.mark.parametrize("language", [0, 1], ids=["English", "Chinese"])
def test_most_values_are_found_and_most_of_what_is_found_is_one(language):
    hits, planted, marked = rates(CORPUS[language::2])
    assert hits.total() / planted.total() >= 0.95
    assert hits.total() / marked.total() >= 0.95
    for kind in KINDS:  # no kind hides behind the others
        assert hits[kind] >= 0.85 * planted[kind] > 0, kind


def test_the_quick_look_at_many_texts_misses_none():
    texts = [one.text for one in CORPUS]
    assert scrub_texts(texts) == [scrub_text(text) for text in texts]
    plain = [text for text, found in zip(texts, candidates(texts), strict=True) if not found]
    assert len(plain) > 200


@given(
    st.lists(st.sampled_from([*number_spans._ANNOUNCING, "phone", "Tel", "hotel", "x", "5", "电", "_"]), max_size=5),
    st.sampled_from(["", " ", "-", ".", "é"]),
)
def test_words_that_announce_a_number_are_looked_up_as_the_expression_finds_them(words, sign):
    text = sign.join(words)
    assert number_spans._is_announced(text) or not re.search(number_spans.ANNOUNCED, text, re.IGNORECASE)


@example([None, "", "1", "a@b.de", None])
@example(["415–555–2671", "::1", "1.2.3.4"])
@example(["１３８１２３４５６７８", "电话：13812345678"])
@given(
    st.lists(st.none() | st.text(st.sampled_from("0123456789 ().-–+:@号街Dear JohnX，\u00e9\U0001f600１")), max_size=8)
)
def test_any_texts_are_scrubbed_alone_as_among_others(texts):
    assert scrub_texts(texts) == [text and scrub_text(text) for text in texts]
    for text in texts:
        if text:
            spans = scrub_spans(text)
            assert all(0 <= span.start < span.end <= len(text) for span in spans)
            assert all(a.end <= b.start for a, b in zip(spans, spans[1:], strict=False))


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("mail ＪＯ＠x.de or jo (at) x [dot] de", "mail <email> or <email>"),
        ("手机１３８１２３４５６７８", "手机<phone>"),
        ("4111 1111 1111 1111 and 4111 1111 1111 1112", "<card> and 4111 1111 1111 1112"),
        ("DE89 3704 0044 0532 0130 00 BIC COBADEFF", "<account> BIC COBADEFF"),
        ("DE88 3704 0044 0532 0130 00", "DE88 3704 0044 0532 0130 00"),
        ("110105194912310021 and 11010519491231002X", "110105194912310021 and <id>"),
        ("AB 12 34 56 C", "<id>"),
        ("ab::cd a word, 2001:db8::7 not, 12:30:45", "ab::cd a word, <ip> not, 12:30:45"),
        ("0.0.0.256 v1.2.3.4 10.0.0.7", "0.0.0.256 v1.2.3.4 <ip>"),
        ("write to P.O. Box 4711", "write to <address>"),
        ("Dear Sir, Dear Ann, Dear Santa,", "Dear Sir, Dear <name>, Dear Santa,"),
    ],
)
def test_what_is_a_value(text, scrubbed):
    assert scrub_text(text) == scrubbed


def test_a_cleaned_text_has_no_placeholder_of_its_own():
    written = "his <email>, &lt;name&gt; and <phone>"
    assert not re.search(PLACEHOLDER, clean_text(written, 100))


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(scrub, "find_spec", lambda name: None if name == "stdnum" else True)
    with pytest.raises(UsageError, match=r"python-stdnum is not installed: pip install 'recsys-spark\[scrub\]'"):
        scrub.check_scrub_installed()
