"""Clean texts, fill templates and hash texts, as Column expressions."""

from collections.abc import Iterator, Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.ingest.kernels.clean_text import clean_text
from recsys_spark.privacy.kernels.scrub import scrub_texts
from recsys_spark.sources.queries import FIELD

_WITH_PARTS = ("struct", "map", "variant")


def cleaned(text: Column, max_chars: int, *, scrub: bool = False) -> Column:
    """The cleaned text, null where nothing is left (rules: ``kernels.clean_text``). ``scrub``: with personal values
    replaced by their kind (``privacy.kernels.scrub``)."""
    import pandas as pd  # takes longer to load than a run without new files lasts

    @F.pandas_udf("string")  # type: ignore[call-overload]
    def clean(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in batches:
            texts = [clean_text(value, max_chars) for value in batch]
            yield pd.Series(scrub_texts(texts) if scrub else texts, dtype=object)

    return clean(text)


def flattened(name: str, kind: str, table: str) -> Column:
    """A column of nested arrays as one array; a column of another type unchanged.

    Args:
        name: of the column.
        kind: type of the column.
        table: name of the table in the dataset file, for the message.

    Raises:
        UsageError: the values are structs, maps or variants.
    """
    column, inner, depth = F.col(name), kind, 0
    while inner.startswith("array<"):
        inner, depth = inner[len("array<") : -1], depth + 1
    if inner.startswith(_WITH_PARTS):
        raise UsageError(
            f"dataset file, table '{table}': {name} is {kind}, but must be a plain value or an array of plain values: "
            "select one field of it"
        )
    for _ in range(depth - 1):
        column = F.flatten(F.filter(column, lambda part: part.isNotNull()))
    return column


def as_text(name: str, kind: str, table: str) -> Column:
    """A column as one string: the elements of an array joined by spaces, without null and blank ones.

    Arguments and errors are those of ``flattened``.
    """
    column = flattened(name, kind, table)
    if not kind.startswith("array<"):
        return column.cast("string")
    words = F.transform(column, lambda part: part.cast("string"))
    return F.array_join(F.filter(words, lambda word: F.length(F.trim(word)) > 0), " ")


def from_template(template: Sequence[str]) -> Column:
    """Pieces such as ``"Genres: {genres}."`` joined by spaces; a piece with a null field is left out."""
    return F.nullif(F.concat_ws(" ", *(_piece(piece) for piece in template)), F.lit(""))


def _piece(piece: str) -> Column:
    parts = FIELD.split(piece)  # literal, field, literal, field, …
    columns = [F.col(part) if number % 2 else F.lit(part) for number, part in enumerate(parts)]
    return F.concat(*columns)  # null as soon as one field is null: concat_ws then skips it


def text_hash(text: Column) -> Column:
    """The content address of a cleaned text: its SHA-256 in hex, null for a null text."""
    return F.sha2(text, 256)
