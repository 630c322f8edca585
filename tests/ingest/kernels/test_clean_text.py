"""Cleaning: a table of nasty texts, and what always holds."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ingest.kernels.clean_text import clean_text

TABLE = [
    # nothing left
    (None, None),
    ("", None),
    (" ", None),
    ("\t\r\n", None),
    ("\u00a0\u2003\u3000", None),
    ("\x00", None),
    ("\ufeff", None),
    ("\u200b\u200b", None),
    ("<br>", None),
    ("<!-- nothing -->", None),
    ("&nbsp;", None),
    # white space
    ("  a  b ", "a b"),
    ("a\nb\r\nc\td", "a b c d"),
    ("a\u00a0b", "a b"),
    ("a\u2028b\u2029c", "a b c"),
    ("a\u3000b", "a b"),
    ("page\x0cbreak\x0bhere", "page break here"),
    ("next\x85line", "next line"),
    ("unit\x1fseparator", "unit separator"),
    # invisible characters
    ("nul\x00l", "null"),
    ("\ufeffstart", "start"),
    ("zero\u200bwidth", "zerowidth"),
    ("soft\u00adhyphen", "softhyphen"),
    ("\u202eevil\u202c", "evil"),
    ("\u2066isolated\u2069", "isolated"),
    ("bell\x07 \x1b[31mred", "bell [31mred"),
    ("del\x7fete", "delete"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("क्\u200dष", "क्\u200dष"),
    ("👩\u200d👧", "👩\u200d👧"),
    # markup and entities
    ("<b>bold</b>", "bold"),
    ("a<br/>b", "a b"),
    ('<a href="x">link</a>', "link"),
    ("<p>one</p><p>two</p>", "one two"),
    ("a<!-- hid\nden -->b", "a b"),
    ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ("I <3 you", "I <3 you"),
    ("a < b", "a < b"),
    ("x <y", "x <y"),
    ("a << b >> c", "a << b >> c"),
    ("Tom &amp; Jerry", "Tom & Jerry"),
    ("Tom & Jerry", "Tom & Jerry"),
    ("caf&eacute;", "café"),
    ("&#128512;", "😀"),
    ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
    ("AT&amp;amp;T", "AT&T"),
    ("&amp;amp;lt;b&amp;amp;gt;bold", "bold"),
    ("&amp;amp;amp;amp;", "&amp;"),
    ("a<script>var x = 1 < 2;</script>b", "a b"),
    ("a<STYLE type='text/css'>p { color: red }</Style >b", "a b"),
    ("&lt;script&gt;evil()&lt;/script&gt;tea", "tea"),
    ("<style>a</style>tea<script>b</script>pot", "tea pot"),
    ("<script><style></script>tea</style>pot", "tea pot"),
    ("the <script> tag of HTML", "the tag of HTML"),
    ("a</script>b", "a b"),
    ("<scripted>tea", "tea"),
    ("<\u200bb>bold", "bold"),
    ("&#xD83D;", "\ufffd"),
    ("&unknown;", "&unknown;"),
    # Unicode
    ("cafe\u0301", "café"),
    ("\u212b", "Å"),
    ("ﬁ ligature", "ﬁ ligature"),
    ("\ud83d", "\ufffd"),
    ("\udc00abc\ud83d", "\ufffdabc\ufffd"),
    ("\ud83d\ude00", "😀"),
    ("\ud83dabc", "\ufffdabc"),
    ("مرحبا بالعالم", "مرحبا بالعالم"),
    ("日本語　テキスト", "日本語 テキスト"),
    ("\U0010ffff", "\U0010ffff"),
    ("İstanbul ẞ", "İstanbul ẞ"),
    ("Z\u0321\u0335a", "Z\u0335\u0321a"),
    ("x" * 300, "x" * 200),
    ("x" * 199 + " y", "x" * 199),
]
NASTY = st.text(
    st.one_of(st.characters(), st.sampled_from(" \n\x00\x0c\x85\u200b\u200d\u0301\ufeff\ud83d\ude00e<>&;!-/a#x")),
    max_size=60,
)


@pytest.mark.parametrize(("text", "expected"), TABLE, ids=[ascii(text)[:30] for text, _ in TABLE])
def test_nasty_texts_are_cleaned_as_the_table_says(text, expected):
    assert clean_text(text, 200) == expected


@given(NASTY, st.integers(1, 40))
def test_cleaning_twice_changes_nothing_where_no_markup_is_escaped(text, max_chars):
    once = clean_text(text.replace("&", "").replace("<", ""), max_chars)
    assert clean_text(once, max_chars) == once


@given(NASTY, st.integers(1, 40))
def test_a_cleaned_text_is_short_stripped_normal_and_fit_for_utf_8(text, max_chars):
    cleaned = clean_text(text, max_chars)
    if cleaned is not None:
        assert 0 < len(cleaned) <= max_chars
        assert cleaned == " ".join(cleaned.split()) == unicodedata.normalize("NFC", cleaned)
        cleaned.encode("utf-8")


def test_scripts_that_are_never_closed_are_read_once():
    assert clean_text("<script><style>" * 200_000 + "</b>tea", 4_000_000) == "tea"


def test_one_huge_text_is_cut_before_it_is_cleaned():
    assert clean_text("<b>" + " " * 50_000_000 + "end", 100) is None
