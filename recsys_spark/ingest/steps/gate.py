"""Refuse to publish what is too bad: bad rows count against the rows of their table, source and night."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError, QualityError
from recsys_spark.ingest.bad_rows import SOURCE, Bad, advice, by_reason, most_frequent
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.validation import DUPLICATE, LATE
from recsys_spark.lake.lake import Staged
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.sources.dataset_file import Dataset, TableQuery
from recsys_spark.sources.names import named_sources
from recsys_spark.tables.schemas import EVENTS, ITEMS, QUARANTINE, USER_RULES, USERS, Table

LEAST_BAD = 20
"""Bad rows of one night below which its share says little: it is then judged with the nights before it alone."""


@dataclass(frozen=True)
class Gate:
    """What was read for all tables, before it is published."""

    run: Run
    dataset: Dataset
    data: str
    options: IngestOptions
    sources: Mapping[str, DataFrame]
    """Each as a whole."""
    staged: Mapping[Table, Staged]
    reasons: Collection[Bad]

    def check(self, tables: Collection[Table], last: Mapping[str, Any]) -> None:
        """Raise QualityError where too much of one of ``tables``, or of the events that came since the run that left
        ``last`` (from ``judged``), is bad; InputError where items or events are empty."""
        for table in (table for table in (ITEMS, USERS, EVENTS, USER_RULES) if table in tables):
            bad, broken, rows = self._counted(table)
            wrong = sum(one.rows for one in (*bad, *broken))
            if wrong > self.options.max_bad_share * rows and self._is_bad(table, bad, broken, rows):
                raise self._refusal(table, [*bad, *broken], f"{wrong / rows:.1%} of the rows are bad")
            if table is EVENTS:
                self._check_night(last)
            if not self.staged[table].rows and table not in (USERS, USER_RULES):
                raise InputError(
                    f"table '{table.name}' would be empty: dataset '{self.options.dataset}' selects no rows from "
                    f"{self.options.data}"
                )

    def judged(self) -> dict[str, Any]:
        """For the commit of the events: how many rows were read, and the bad ones by reason. The difference to the
        next run is what came meanwhile, whatever part of the log either of them reads."""
        bad, broken, rows = self._counted(EVENTS)
        reading = sha256(self.dataset.model_dump_json().encode()).hexdigest()[:16]
        reasons = Counter[str]()
        for one in (*bad, *broken):
            reasons[_name(one)] += one.rows
        return {"reading": reading, "rows": rows, "bad": reasons}

    def _check_night(self, last: Mapping[str, Any]) -> None:
        now = self.judged()
        if last.get("reading") != now["reading"]:
            return
        rows, wrong = now["rows"] - last["rows"], sum(now["bad"].values()) - sum(last["bad"].values())
        if wrong < LEAST_BAD or rows <= 0 or wrong <= self.options.max_bad_share * rows:
            return
        bad, broken, _ = self._counted(EVENTS)
        before = {one: last["bad"].get(_name(one), 0) for one in (*bad, *broken)}
        new = [Bad(one.table, one.reason, one.rows - n, one.sample) for one, n in before.items() if one.rows > n]
        share = f"{min(wrong / rows, 1):.1%} of the rows that came since the last run are bad ({wrong} of {rows})"
        raise self._refusal(EVENTS, new, share)

    def _counted(self, table: Table) -> tuple[list[Bad], list[Bad], int]:
        """Bad rows of the table, malformed records of its sources, and all rows that were judged, both among them."""
        own = [one for one in self.reasons if one.table == table.name]
        sources = {f"{SOURCE}{name}" for name in self._sources_of(table)}
        broken = [one for one in self.reasons if one.table in sources]
        rows = self.staged[table].rows + sum(one.rows for one in (*own, *broken))
        return [one for one in own if one.reason != DUPLICATE], broken, rows

    def _is_bad(self, table: Table, bad: Collection[Bad], broken: Collection[Bad], rows: int) -> bool:
        """Whether the rows are bad in truth. A query may keep few rows of a source that has many: its malformed records
        count against all that was read. Only who is about to be refused is worth counting them."""
        wrong, lost = (sum(one.rows for one in ones) for ones in (bad, broken))
        if wrong > self.options.max_bad_share * (rows - lost):
            return True
        named = [self.sources[one.table.removeprefix(SOURCE)] for one in broken]
        return wrong + lost > self.options.max_bad_share * max(rows, sum(frame.count() for frame in named))

    def _refusal(self, table: Table, bad: Collection[Bad], share: str) -> QualityError:
        asked, limit = self._query_of(table), self.options.max_bad_share
        places = ", ".join(
            f"'{name}' ({self.data}/{self.dataset.sources[name].path})" for name in sorted(self._sources_of(table))
        )
        lines = {one.table: one.sample for one in bad if one.table.startswith(SOURCE)}
        return QualityError(
            f"table '{table.name}': {share}, more than max_bad_share {limit:.1%}; nothing was published. "
            f"Most frequent: {most_frequent(bad)}. It is read from source {places}."
            f"{advice(bad, asked.select) if asked else ''} "
            "Mend the source or its dataset file, or raise --max_bad_share",
            {PERSONAL: {"malformed": lines}} if lines else None,
        )

    def _sources_of(self, table: Table) -> set[str]:
        asked = self._query_of(table)
        return named_sources(asked, self.dataset.sources) if asked else set()

    def _query_of(self, table: Table) -> TableQuery | None:
        return {
            ITEMS: self.dataset.items,
            EVENTS: self.dataset.events,
            USERS: self.dataset.users,
            USER_RULES: self.dataset.user_rules,
        }[table]


def _name(bad: Bad) -> str:
    """Of a reason, on whatever night: the last day that is believed is another one each."""
    return f"{bad.table}: {LATE if bad.reason.startswith(LATE) else bad.reason}"


def reasons_of(run: Run, staged: Mapping[Table, Staged]) -> list[Bad]:
    """Rows in quarantine by table and reason."""
    rows = by_reason(run.lake.read_staged(run.spark, staged[QUARANTINE])).orderBy("table", "reason").collect()
    return [Bad(row["table"], row["reason"], row["rows"], row["sample"]) for row in rows]
