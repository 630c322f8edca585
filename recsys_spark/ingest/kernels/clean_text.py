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

_UNREAD = re.compile(r"<(/?)(script|style)\b[^<>]{0,500}>", re.IGNORECASE)

_ESCAPED = 3
"""Times that markup may have been escaped, as where two programs did so one after the other (``&amp;amp;``)."""


def clean_text(text: str | None, max_chars: int) -> str | None:
    """NFC text without markup, what scripts and style sheets say, invisible characters or superfluous white space;
    None where nothing is left.

    Lone surrogates become U+FFFD. The input is cut at 4 × ``max_chars`` before and at ``max_chars`` after cleaning, so
    that one huge text costs no more than a long one. ``clean_text(clean_text(x)) == clean_text(x)`` for text
    that holds no escaped markup.
    """
    if text is None:
        return None
    text = text[: 4 * max_chars]
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    for _ in range(_ESCAPED):
        if "&" not in text or (plain := html.unescape(text)) == text:
            break
        text = plain
    text = _INVISIBLE.sub("", text)  # before tags are looked for: none appears when they go
    if "<" in text:
        text = _TAG.sub(" ", _without_unread(text))
    text = _SPACE.sub(" ", text).strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text[:max_chars].rstrip() or None


def _without_unread(text: str) -> str:
    """Without the elements of which nobody reads the content; one that is never closed stays, as in a text about HTML.
    One pass, whatever is opened and not closed."""
    parts, kept, opened = [], 0, {"script": -1, "style": -1}
    for tag in _UNREAD.finditer(text):
        name = tag[2].lower()
        if not tag[1]:
            opened[name] = tag.start() if opened[name] < kept else opened[name]
        elif opened[name] >= kept:
            parts.append(text[kept : opened[name]])
            kept = tag.end()
    return " ".join([*parts, text[kept:]])
