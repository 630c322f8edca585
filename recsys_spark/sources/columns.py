"""The columns of sources, and in words how they differ from those of the last run."""

from collections.abc import Mapping

from pyspark.sql import DataFrame

from recsys_spark.sources.listing import Listing
from recsys_spark.sources.reader import CORRUPT

Columns = Mapping[str, Mapping[str, str]]
"""By source: the type of each column."""


def columns_of(frames: Mapping[str, DataFrame], listings: Mapping[str, Listing]) -> Columns:
    """All columns of each source, without that of malformed records. They are known without a job."""
    schemas = {name: listings[name].schema or frame.schema for name, frame in frames.items()}
    return {
        name: {field.name: field.dataType.simpleString() for field in schema if field.name != CORRUPT}
        for name, schema in schemas.items()
    }


def column_changes(before: Columns, now: Columns) -> list[str]:
    """A sentence for each source whose columns changed. A source that one of the two lacks is left out."""
    sentences = []
    for name in sorted(before.keys() & now.keys()):
        old, new = before[name], now[name]
        parts = [f"{column} is missing (it was {old[column]})" for column in sorted(old.keys() - new.keys())]
        parts += [f"{column} is new ({new[column]})" for column in sorted(new.keys() - old.keys())]
        parts += [f"{column} is {new[column]}, was {old[column]}"
                  for column in sorted(old.keys() & new.keys()) if old[column] != new[column]]  # fmt: skip
        if parts:
            sentences.append(f"the columns of source '{name}' changed since the last run: {'; '.join(parts)}")
    return sentences
