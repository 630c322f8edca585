"""What a source holds at the beginning of a run, and the part of it that was added since the last run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from recsys_spark.sources.files import SourceFile

Wanted = Callable[[Sequence[str]], Sequence[str]]
"""Chooses columns by name, at least one."""


@dataclass(frozen=True)
class Part:
    """The rows that were added since the last run, as the listing that found them reads them."""

    words: str
    """How much it is, for the report."""
    bytes: int | None
    content: Any


class Listing(Protocol):
    """A state of a source. Files, Delta and Iceberg tables, and PostgreSQL keep it until the end of the run."""

    @property
    def entries(self) -> list[str]:
        """Lines that change whenever the rows may have changed. Commits record them."""

    @property
    def bytes(self) -> int | None:
        """Size of the files; None where it is not known."""

    @property
    def schema(self) -> StructType | None:
        """All columns; None where a frame has all of them."""

    def added(self, before: Sequence[str]) -> Part | str:
        """The rows added to the state whose ``entries`` were ``before``; in words why all rows must be read instead."""


class TableListing(Listing, Protocol):
    """A state of a table."""

    def frame(self, spark: SparkSession, part: Part | None = None, wanted: Wanted = list) -> DataFrame:
        """All rows, or those of a part. Where tasks of Python read them they have the ``wanted`` columns alone."""


def selected(schema: StructType, wanted: Wanted) -> StructType:
    """The wanted columns of a table, in its order."""
    names = frozenset(wanted(schema.names))
    return StructType([field for field in schema if field.name in names])


@dataclass(frozen=True)
class FileListing:
    """Files of the formats that Spark reads, sorted by path."""

    files: Sequence[SourceFile]
    schema: None = None

    @property
    def entries(self) -> list[str]:
        """A line for each file."""
        return [file.entry for file in self.files]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.size for file in self.files)

    def added(self, before: Sequence[str]) -> Part | str:
        """The new files, if the earlier ones are as they were. Content of the part: their paths."""
        earlier = frozenset(before)
        new = [file for file in self.files if file.entry not in earlier]
        if len(self.files) - len(new) != len(earlier):
            return "files that were read before were removed or changed"
        return Part(f"{len(new)} new files", sum(file.size for file in new), [file.path for file in new])
