"""The streamed events since the last night, by user: a few sorted copies and the newest small files."""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.lake.paths import delta_uri
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.steps.sorted_rows import SortedRows, Users, sorted_copy
from recsys_spark.tables.schemas import EVENTS, STREAMED_EVENTS

_MOST_FILES = 32
"""Files of single batches that every look-up opens; more of them become one sorted copy."""


@dataclass
class RecentEvents:
    """The rows of ``streamed_events`` above a sequence number.

    Sorted copies grow as in a log-structured merge tree (O'Neil et al., Acta Informatica 33, 1996): two of about the
    same size become one. There are O(log batches) of them, and a row is copied O(log batches) times.
    """

    run: Run
    after: int
    """Rows up to this sequence number are in ``events`` already."""
    _copies: list[tuple[int, int, SortedRows]] = field(default_factory=list)
    """(last sequence number, rows, files), the oldest first."""

    def of(self, users: Users, tasks: int, staged: tuple[str, ...] = ()) -> DataFrame:
        """The recent events of ``users``, and those in ``staged`` files: columns of ``events``."""
        uris = self._files(self._copied)
        if len(uris) > _MOST_FILES:
            self._copy()
            uris = self._files(self._copied)
        copied = tuple(uri for *_, copy in self._copies for uri in copy.uris)
        rows = (
            SortedRows((*copied, *uris, *staged), STREAMED_EVENTS.columns)
            .of(users, tasks)
            .where(F.col("sequence") > self.after)
        )
        return rows.select(*EVENTS.columns)

    def mark_used(self) -> None:
        """Keep the copies for two days more."""
        for *_, copy in self._copies:
            copy.mark_used()

    @property
    def _copied(self) -> int:
        """The last sequence number that copies hold."""
        return self._copies[-1][0] if self._copies else self.after

    def _copy(self) -> None:
        last, start = self.run.lake.version(STREAMED_EVENTS), self._copied
        assert last is not None, "there are files"
        self._copies.append(self._made(start, last))
        while len(self._copies) > 1 and 2 * self._copies[-1][1] >= self._copies[-2][1]:
            self._copies[-2:] = [self._made(self._copies[-3][0] if len(self._copies) > 2 else self.after, last)]

    def _made(self, start: int, last: int) -> tuple[int, int, SortedRows]:
        """A copy of the rows with start < sequence ≤ last."""
        run, uris = self.run, self._files(start)
        rows = run.lake.read_files(run.spark, STREAMED_EVENTS, uris)
        rows = rows.where((F.col("sequence") > start) & (F.col("sequence") <= last))
        number = rows.count()
        commit = run.lake.last_commit(STREAMED_EVENTS)
        source = {"table": commit.identity if commit else None, "after": start, "last": last}
        return last, number, sorted_copy(run, STREAMED_EVENTS.name, source, lambda: rows, number)

    def _files(self, after: int) -> list[str]:
        """The data files of ``streamed_events`` that may hold a sequence number above ``after``, by the commit log."""
        if self.run.lake.version(STREAMED_EVENTS) is None:
            return []
        uri = self.run.lake.table_uri(STREAMED_EVENTS)
        actions = pa.table(DeltaTable(delta_uri(uri)).get_add_actions(flatten=True))
        if "max.sequence" not in actions.column_names:
            return [f"{uri}/{path}" for path in actions["path"].to_pylist()]
        newer = pc.fill_null(pc.greater(actions["max.sequence"], after), True)
        return [f"{uri}/{path}" for path in actions.filter(newer)["path"].to_pylist()]
