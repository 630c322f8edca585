"""Text as Column expressions: cleaning, templates, hashes."""

from collections.abc import Iterator, Sequence

import pandas as pd
from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.ingest.kernels.clean_text import clean_text
from recsys_spark.sources.queries import FIELD

_WITH_PARTS = ("struct", "map", "variant")


def cleaned(text: Column, max_chars: int) -> Column:
    """The cleaned text, null where nothing is left (rules: ``kernels.text.clean_text``)."""

    @F.pandas_udf("string")  # type: ignore[call-overload]
    def clean(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in batches:
            yield pd.Series([clean_text(value, max_chars) for value in batch], dtype=object)

    return clean(text)


def leaves(name: str, kind: str, where: str) -> Column:
    """A column of arrays within arrays as one array; anything else as it is.

    Args:
        name: of the column.
        kind: its type.
        where: the table of the dataset file, for the message.

    Raises:
        UsageError: its values have parts with names, of which nobody says what they are to become.
    """
    column, inner, depth = F.col(name), kind, 0
    while inner.startswith("array<"):
        inner, depth = inner[len("array<") : -1], depth + 1
    if inner.startswith(_WITH_PARTS):
        raise UsageError(
            f"dataset file, table '{where}': {name} is {kind}, but plain values or arrays of them are wanted: select "
            f"a part of it"
        )
    for _ in range(depth - 1):
        column = F.flatten(F.filter(column, lambda part: part.isNotNull()))
    return column


def as_text(name: str, kind: str, where: str) -> Column:
    """A column as one string: the elements of an array one after the other, without those that are null or blank;
    ``leaves`` says of what arrays."""
    column = leaves(name, kind, where)
    if not kind.startswith("array<"):
        return column.cast("string")
    words = F.transform(column, lambda part: part.cast("string"))
    return F.array_join(F.filter(words, lambda word: F.length(F.trim(word)) > 0), " ")


def from_template(template: Sequence[str]) -> Column:
    """Pieces such as ``"Genres: {genres}."`` joined by spaces; a piece whose fields are not all present is left out."""
    return F.nullif(F.concat_ws(" ", *(_piece(piece) for piece in template)), F.lit(""))


def _piece(piece: str) -> Column:
    parts = FIELD.split(piece)  # literal, field, literal, field, …
    columns = [F.col(part) if place % 2 else F.lit(part) for place, part in enumerate(parts)]
    return F.concat(*columns)  # null as soon as one field is null: concat_ws then skips it


def text_hash(text: Column) -> Column:
    """The content address of a cleaned text: sha256 in hex, null with it."""
    return F.sha2(text, 256)
