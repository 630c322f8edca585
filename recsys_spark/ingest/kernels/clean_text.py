"""Clean one text. The rules are few and keep the meaning. They must not change: the hash of the result names the text
for good."""

import html
import re
import unicodedata

_TAG = re.compile(r"</?[A-Za-z][^<>]{0,500}>|<!--.{0,500}?-->", re.DOTALL)

# Control characters, zero-width and bidirectional marks, the byte-order mark. Control characters that separate (form
# feed, next line, …) are white space. Zero-width joiner and non-joiner stay: emoji and several scripts (Persian,
# Devanagari) need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)

_SPACE = re.compile(r"\s+")

_CODE = re.compile(r"<(/?)(script|style)\b[^<>]{0,500}>", re.IGNORECASE)

_ESCAPED = 3
"""Levels of escaped markup to resolve, as left by several programs that each escaped a text (``&amp;amp;``)."""


def clean_text(text: str | None, max_chars: int) -> str | None:
    """NFC text without markup, scripts, style sheets, invisible characters and superfluous white space; None if nothing
    is left.

    Lone surrogates become U+FFFD. The input is cut at 4 × ``max_chars`` before and at ``max_chars`` after cleaning, so
    that one huge text costs no more than a long one. ``clean_text(clean_text(x)) == clean_text(x)`` for text without
    escaped markup.
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
    text = _INVISIBLE.sub("", text)  # before tags are removed: a mark within a tag would hide it
    if "<" in text:
        text = _TAG.sub(" ", _without_code(text))
    text = _SPACE.sub(" ", text).strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text[:max_chars].rstrip() or None


def _without_code(text: str) -> str:
    """``text`` without script and style elements. An element that is never closed stays, as in a text about HTML.

    One pass over the tags, however many are open.
    """
    parts, copied, starts = [], 0, {"script": -1, "style": -1}
    for tag in _CODE.finditer(text):
        name = tag[2].lower()
        if not tag[1]:
            starts[name] = tag.start() if starts[name] < copied else starts[name]
        elif starts[name] >= copied:
            parts.append(text[copied : starts[name]])
            copied = tag.end()
    return " ".join([*parts, text[copied:]])
