"""Refuse to publish if too many rows are bad: of a table, of a source, or of the rows added since the last run."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError, QualityError
from recsys_spark.ingest.bad_rows import SOURCE, BadRows, advice, by_reason, most_frequent
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.validation import DUPLICATE, LATE
from recsys_spark.lake.lake import Staged
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.sources.dataset_file import Dataset, TableQuery
from recsys_spark.sources.names import named_sources
from recsys_spark.tables.schemas import EVENTS, ITEMS, QUARANTINE, USER_RULES, USERS, Table

LEAST_BAD = 20
"""Number of bad rows added since the last run below which their share says little: then only the share of the whole
table counts."""


@dataclass(frozen=True)
class Gate:
    """Everything that was read for all tables, before it is published."""

    run: Run
    dataset: Dataset
    data: str
    options: IngestOptions
    sources: Mapping[str, DataFrame]
    """All files of each source."""
    staged: Mapping[Table, Staged]
    reasons: Collection[BadRows]

    def check(self, tables: Collection[Table], last: Mapping[str, Any]) -> None:
        """Check each of ``tables``, and the events added since the run that left ``last`` (from ``reviewed``).

        Raises:
            QualityError: the share of bad rows is above ``max_bad_share``.
            InputError: items or events are empty.
        """
        for table in (table for table in (ITEMS, USERS, EVENTS, USER_RULES) if table in tables):
            bad, malformed, rows = self._counts(table)
            wrong = sum(one.rows for one in (*bad, *malformed))
            if wrong > self.options.max_bad_share * rows and self._is_bad(bad, malformed, rows):
                raise self._refusal(table, [*bad, *malformed], f"{wrong / rows:.1%} of the rows are bad")
            if table is EVENTS:
                self._check_added(last)
            if not self.staged[table].rows and table not in (USERS, USER_RULES):
                raise InputError(
                    f"table '{table.name}' would be empty: dataset '{self.options.dataset}' selects no rows from "
                    f"{self.options.data}"
                )

    def reviewed(self) -> dict[str, Any]:
        """For the commit of the events: the number of validated rows, and of bad ones by reason. The difference between
        two runs covers the rows added between them, for any part of the log that either run reads."""
        bad, malformed, rows = self._counts(EVENTS)
        reading = sha256(self.dataset.model_dump_json().encode()).hexdigest()[:16]
        reasons = Counter[str]()
        for one in (*bad, *malformed):
            reasons[_name(one)] += one.rows
        return {"reading": reading, "rows": rows, "bad": reasons}

    def _check_added(self, last: Mapping[str, Any]) -> None:
        now = self.reviewed()
        if last.get("reading") != now["reading"]:
            return
        rows, wrong = now["rows"] - last["rows"], sum(now["bad"].values()) - sum(last["bad"].values())
        if wrong < LEAST_BAD or rows <= 0 or wrong <= self.options.max_bad_share * rows:
            return
        bad, malformed, _ = self._counts(EVENTS)
        before = {one: last["bad"].get(_name(one), 0) for one in (*bad, *malformed)}
        new = [BadRows(one.table, one.reason, one.rows - n, one.sample) for one, n in before.items() if one.rows > n]
        share = f"{min(wrong / rows, 1):.1%} of the rows added since the last run are bad ({wrong} of {rows})"
        raise self._refusal(EVENTS, new, share)

    def _counts(self, table: Table) -> tuple[list[BadRows], list[BadRows], int]:
        """Bad rows of the table, malformed records of its sources, and the number of all validated rows, both
        included."""
        rejected = [one for one in self.reasons if one.table == table.name]
        sources = {f"{SOURCE}{name}" for name in self._sources_of(table)}
        malformed = [one for one in self.reasons if one.table in sources]
        rows = self.staged[table].rows + sum(one.rows for one in (*rejected, *malformed))
        return [one for one in rejected if one.reason != DUPLICATE], malformed, rows

    def _is_bad(self, bad: Collection[BadRows], malformed: Collection[BadRows], rows: int) -> bool:
        """Whether the share of bad rows stays too high when malformed records count against all rows of their source.

        A query may select few rows of a large source. Counting the source takes a job, so it comes last.
        """
        wrong, lost = (sum(one.rows for one in ones) for ones in (bad, malformed))
        if wrong > self.options.max_bad_share * (rows - lost):
            return True
        sources = [self.sources[one.table.removeprefix(SOURCE)] for one in malformed]
        return wrong + lost > self.options.max_bad_share * max(rows, sum(frame.count() for frame in sources))

    def _refusal(self, table: Table, bad: Collection[BadRows], share: str) -> QualityError:
        query, limit = self._query_of(table), self.options.max_bad_share
        sources = ", ".join(
            f"'{name}' ({self.dataset.sources[name].place(self.data)})" for name in sorted(self._sources_of(table))
        )
        lines = {one.table: one.sample for one in bad if one.table.startswith(SOURCE)}
        return QualityError(
            f"table '{table.name}': {share}, more than max_bad_share {limit:.1%}; nothing was published. "
            f"Most frequent: {most_frequent(bad)}. The rows come from source {sources}."
            f"{advice(bad, query.select) if query else ''} "
            "Fix the source or its dataset file, or raise --max_bad_share",
            {PERSONAL: {"malformed": lines}} if lines else None,
        )

    def _sources_of(self, table: Table) -> set[str]:
        query = self._query_of(table)
        return named_sources(query, self.dataset.sources) if query else set()

    def _query_of(self, table: Table) -> TableQuery | None:
        return {
            ITEMS: self.dataset.items,
            EVENTS: self.dataset.events,
            USERS: self.dataset.users,
            USER_RULES: self.dataset.user_rules,
        }[table]


def _name(bad: BadRows) -> str:
    """Names a reason in any run: the reason of an event in the future ends with a day that differs between runs."""
    return f"{bad.table}: {LATE if bad.reason.startswith(LATE) else bad.reason}"


def reasons_of(run: Run, staged: Mapping[Table, Staged]) -> list[BadRows]:
    """The rows in quarantine by table and reason."""
    rows = by_reason(run.lake.read_staged(run.spark, staged[QUARANTINE])).orderBy("table", "reason").collect()
    return [BadRows(row["table"], row["reason"], row["rows"], row["sample"]) for row in rows]
