"""Say what changed in the columns of a source since the last run."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.errors import UsageError
from recsys_spark.lake.commits import Commit
from recsys_spark.lake.provenance import Outcome
from recsys_spark.sources.columns import Columns, column_changes, columns_of
from recsys_spark.sources.listing import Listing

_KEY = "source_columns"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceColumns:
    """The columns of this run, and what changed since the last one, a sentence for each source."""

    columns: Columns
    changes: list[str]

    @classmethod
    def of(
        cls, frames: Mapping[str, DataFrame], listings: Mapping[str, Listing], last: Commit | None
    ) -> "SourceColumns":
        """The columns of sources. Each change is a warning. ``last``: the last commit of ``events``."""
        columns = columns_of(frames, listings)
        changes = [] if last is None else column_changes(last.outcome.more.get(_KEY, {}), columns)
        for change in changes:
            _logger.warning("warning: %s", change)
        return cls(columns, changes)

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Add the changes to an error of the dataset file's SQL, which they probably cause."""
        try:
            yield
        except UsageError as error:
            raise UsageError("; ".join([str(error), *self.changes]), error.report) from error

    @property
    def report(self) -> dict[str, Any]:
        """For the report: the changes, if there are any."""
        return {"source_changes": self.changes} if self.changes else {}

    @property
    def outcome(self) -> Outcome:
        """For the commit of ``events``."""
        return Outcome(more={_KEY: {name: dict(columns) for name, columns in self.columns.items()}})
