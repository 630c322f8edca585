"""Replace personal values in a text by their kind: ``<email>``, ``<phone>``, ``<card>``, ``<account>``, ``<id>``,
``<ip>``, ``<address>``, ``<name>``."""

import re
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from recsys_spark.errors import UsageError
from recsys_spark.privacy.kernels.candidates import ADDRESSES, ANYTHING, EMAILS, NAMES, NUMBERS, candidates
from recsys_spark.privacy.kernels.number_spans import number_spans
from recsys_spark.privacy.kernels.spans import KINDS, Span
from recsys_spark.privacy.kernels.word_spans import address_spans, email_spans, name_spans

SCRUB_VERSION = 1
"""Part of run keys: raise it when patterns change, so that texts are made again."""

PLACEHOLDER = "<(" + "|".join(KINDS) + ")>"
"""What is left of a value, as a regular expression. Cleaned texts have no markup: nothing else looks like it."""

_WIDE = {0xFF01 + place: chr(0x21 + place) for place in range(94)} | {0xA0: " "}
"""Wide forms of ASCII, character by character, so that places stay."""

_NEEDED = {"stdnum": "python-stdnum", "phonenumbers": "phonenumbers"}


def check_scrub_installed() -> None:
    """Raise UsageError if a library that ``scrub`` needs is missing on this machine."""
    if missing := [name for module, name in _NEEDED.items() if find_spec(module) is None]:
        raise UsageError(
            f"the dataset file has scrub = true, but {', '.join(missing)} {'are' if len(missing) > 1 else 'is'} not "
            "installed: pip install 'recsys-spark[scrub]' on the driver and on every executor (./spark-submit.sh does "
            "so by itself when --dataset names the file)"
        )


def scrub_texts(texts: Sequence[str | None]) -> list[str | None]:
    """The texts with their values replaced; texts without candidates are returned as they are."""
    scrubbed = list(texts)
    flags = candidates(texts)
    for row in np.flatnonzero(flags).tolist():
        scrubbed[row] = scrub_text(str(texts[row]), int(flags[row]))
    return scrubbed


def scrub_text(text: str, parts: int = ANYTHING) -> str:
    """The text with every personal value replaced by its kind. ``parts``: bits of what it may hold."""
    spans = scrub_spans(text, parts)
    if not spans:
        return text
    pieces, copied = list[str](), 0
    for span in spans:
        pieces += [text[copied : span.start], f"<{span.kind}>"]
        copied = span.end
    return "".join([*pieces, text[copied:]])


def scrub_spans(text: str, parts: int = ANYTHING) -> list[Span]:
    """The values of a text in order of place, without overlaps: the first kind in KINDS wins, then the longer value."""
    plain = text if text.isascii() else text.translate(_WIDE)
    finders = ((NUMBERS, number_spans), (EMAILS, email_spans), (ADDRESSES, address_spans), (NAMES, name_spans))
    spans = [span for part, finder in finders if parts & part for span in finder(plain)]
    spans.sort(key=lambda span: (KINDS.index(span.kind), span.start - span.end, span.start))
    chosen: list[Span] = []
    for span in spans:
        if span.end > span.start and all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen, key=lambda span: span.start)


def counted_kinds(text: str) -> list[str]:
    """The kinds of the values that were removed from a text, one for each."""
    return re.findall(PLACEHOLDER, text)
