"""Text as Column expressions: cleaning, templates, hashes."""

import re
from collections.abc import Iterator, Sequence

import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys_spark.kernels.text import clean_text

_FIELD = re.compile(r"\{(\w+)\}")


def cleaned(text: Column, max_chars: int) -> Column:
    """The cleaned text, null where nothing is left (rules: ``kernels.text.clean_text``)."""

    @F.pandas_udf("string")  # type: ignore[call-overload]
    def clean(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in batches:
            yield pd.Series([clean_text(value, max_chars) for value in batch], dtype=object)

    return clean(text)


def fields_of(template: Sequence[str]) -> list[str]:
    """The fields that a template names, each once, in order."""
    return list(dict.fromkeys(_FIELD.findall(" ".join(template))))


def from_template(template: Sequence[str]) -> Column:
    """Pieces such as ``"Genres: {genres}."`` joined by spaces; a piece whose fields are not all present is left out."""
    return F.nullif(F.concat_ws(" ", *(_piece(piece) for piece in template)), F.lit(""))


def _piece(piece: str) -> Column:
    parts = _FIELD.split(piece)  # literal, field, literal, field, …
    columns = [F.col(part) if place % 2 else F.lit(part) for place, part in enumerate(parts)]
    return F.concat(*columns)  # null as soon as one field is null: concat_ws then skips it


def text_hash(text: Column) -> Column:
    """The content address of a cleaned text: sha256 in hex, null with it."""
    return F.sha2(text, 256)
