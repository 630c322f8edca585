"""Cleaning of one text. The rules are few and lossless for meaning; the hash of the result names the text for ever."""

import html
import re
import unicodedata

_TAG = re.compile(r"</?[A-Za-z][^<>]{0,500}>|<!--.{0,500}?-->", re.DOTALL)
# Control, zero-width, bidirectional marks and the byte-order mark; those that separate (form feed, next line, …) are
# white space. Zero-width joiner and non-joiner stay: emoji and several scripts (Persian, Devanagari) need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_SPACE = re.compile(r"\s+")


def clean_text(text: str | None, max_chars: int) -> str | None:
    """NFC text without markup, invisible characters or superfluous white space; None where nothing is left.

    Lone surrogates become U+FFFD. The input is cut at 4 × ``max_chars`` before and at ``max_chars`` after cleaning, so
    that one huge text costs no more than a long one. ``clean_text(clean_text(x)) == clean_text(x)`` for text
    that holds no escaped markup.
    """
    if text is None:
        return None
    text = text[: 4 * max_chars]
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "&" in text:
        text = html.unescape(text)
    if "<" in text:
        text = _TAG.sub(" ", text)
    text = _SPACE.sub(" ", _INVISIBLE.sub("", text)).strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text[:max_chars].rstrip() or None
