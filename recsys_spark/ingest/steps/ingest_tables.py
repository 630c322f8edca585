"""Raw sources → items, users, events, quarantine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import reduce

from pyspark.sql import DataFrame

from recsys_spark.ingest.losses import Loss, counting, losses_by_name
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.event_log import EventLog, event_log, kept_quarantine, staged_events, staged_users
from recsys_spark.ingest.steps.gate import Gate, reasons_of
from recsys_spark.ingest.steps.loss_gate import LossGate
from recsys_spark.ingest.validation import (
    LATE,
    accepted,
    accepted_with_losses,
    rejected,
    validate_events,
    validate_items,
    validate_rules,
    validate_users,
)
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.lake import Commit, Staged
from recsys_spark.lake.paths import absolute
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.privacy.rules import without_forgotten, without_forgotten_raw
from recsys_spark.privacy.steps.tombstones import complete_forgetting, tombstones
from recsys_spark.publish.steps.change_log import log_changes, snapshot_change
from recsys_spark.publish.steps.publishing import Report, run_key, unchanged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, load_dataset
from recsys_spark.sources.files import SourceFile, list_sources
from recsys_spark.sources.queries import query, register
from recsys_spark.sources.reader import SourceReader, malformed
from recsys_spark.tables.schemas import EVENTS, FORGOTTEN, ITEMS, QUARANTINE, USER_RULES, USERS, Table

_TARGETS = (QUARANTINE, ITEMS, USERS, EVENTS, USER_RULES)

_ABOUT_ITEMS = ["title", "category", "brand", "price", "updated_at"]


def ingest_tables(run: Run, options: IngestOptions, *, anew: bool = False) -> Report:
    """Read, judge, audit, publish. Nothing is published above ``max_bad_share``. ``anew``: all, although nothing is
    new."""
    dataset, data = load_dataset(options.dataset), absolute(options.data)
    # Read before the sources are listed: whatever comes in between is newer.
    shown = {table.name: run.lake.last_commit(table) for table in _TARGETS}
    files = list_sources(dataset, data, lambda: run.spark)
    forgotten = buried.content_id if (buried := run.lake.last_commit(FORGOTTEN)) is not None else None
    key = _key(dataset, files, options, forgotten)
    if (done := unchanged(run, key, *_TARGETS)) is not None and not anew:
        return done
    reader = SourceReader(run.spark, data)
    sources = {name: reader.read(name, source, files[name]) for name, source in dataset.sources.items()}
    judged, broken = _judge(run, dataset, sources, options)
    if options.dry_run:
        return {"tables": {}}
    log = event_log(run, dataset, files, options, anew=anew, forgotten=forgotten)
    staged = None
    if log.head is not None:
        name = dataset.events.source
        new = {name: reader.read(name, dataset.sources[name], files[name], log.files)}
        part, unread = _judge(run, dataset, sources | new, options)
        staged = _staged(run, dataset, options, log, part, unread)
    if staged is None:
        log, part = log.whole("events that are stored give way to others"), judged
        staged = _staged(run, dataset, options, log, judged, broken)
    assert staged is not None, "the whole log suffices"
    gate = Gate(run, dataset, data, options, sources, staged, reasons_of(run, staged))
    lost = LossGate(run, dataset, options, staged, part=log.head is not None)
    last = (head.provenance.reviewed or {}) if (head := shown[EVENTS.name]) is not None else {}
    gate.check({*judged, USERS}, last)
    losses = lost.check()
    if any(bad.table == EVENTS.name and bad.reason.startswith(LATE) for bad in gate.reasons):
        log = log.with_late(part[EVENTS])
    about: Report = {}
    if (had := shown[EVENTS.name]) is not None and had.provenance.forgotten != forgotten:
        # Before the events say so: a run that is killed here does it again.
        about["forgetting_completed"] = complete_forgetting(run, _TARGETS)
    of_events = Provenance(reviewed=gate.judged(), forgotten=forgotten)
    about["quarantined"] = {f"{bad.table}: {bad.reason}": bad.rows for bad in gate.reasons}
    about["losses"] = losses_by_name(losses)
    return _publish(run, options, key, shown, staged, log, of_events, losses) | about


def _key(
    dataset: Dataset, files: Mapping[str, Sequence[SourceFile]], options: IngestOptions, forgotten: str | None
) -> str:
    facts = {
        "sources": {name: [file.entry for file in listed] for name, listed in files.items()},
        "dataset": dataset.model_dump(mode="json"),
        "max_text_chars": options.max_text_chars,
        "run_date": options.run_date if dataset.names_run_date else None,
    }
    return run_key("ingest_tables", facts | ({"forgotten": forgotten} if forgotten else {}))


def _publish(
    run: Run,
    options: IngestOptions,
    key: str,
    shown: Mapping[str, Commit | None],
    staged: Mapping[Table, Staged],
    log: EventLog,
    of_events: Provenance,
    losses: Sequence[Loss],
) -> Report:
    """Commit all tables onto the versions in ``shown``, and log what has changed.

    ``of_events``: provenance of the events; ``losses``: of the rows that are published.
    """
    changes = [snapshot_change(run, staged[table], log.made, key) for table in (ITEMS, USERS, EVENTS)]
    outcomes = {
        change.table: Outcome(
            changes=change.record(options.run_date),
            losses=losses_by_name(loss for loss in losses if loss.table == change.table),
        )
        for change in changes
    }
    provenance = {EVENTS.name: replace(of_events, event_log=log.record_of(staged[EVENTS]))}
    for table in _TARGETS:
        base, name = (last.version if (last := shown[table.name]) else None), table.name
        run.lake.commit(
            replace(staged[table], base=base), key, provenance=provenance.get(name), outcome=outcomes.get(name)
        )
    log_changes(run, key, options.run_date, changes)
    report: Report = {"status": "done", "tables": {table.name: staged[table].rows for table in _TARGETS}}
    return report | {"log_read": log.made} | {f"{c.table}_changes": dict(c.kinds) for c in changes}


def _judge(
    run: Run, dataset: Dataset, sources: Mapping[str, DataFrame], options: IngestOptions
) -> tuple[dict[Table, DataFrame], list[DataFrame]]:
    """Judged rows by table, and the records that could not be read."""
    for name, frame in sources.items():
        register(frame, name)
    broken = [rows for name, frame in sources.items() if (rows := malformed(frame, name)) is not None]
    day = options.run_date
    items = query(run.spark, "items", dataset.items, ["item_id"], _ABOUT_ITEMS, day)
    events = query(
        run.spark, "events", dataset.events, ["user_id", "item_id", "event_type", "timestamp"], ["value"], day
    )
    asked = dataset.events.latest
    latest = options.run_date + timedelta(days=1) if asked == "run_date" else asked
    judged = {
        ITEMS: validate_items(items, dataset.items.text, options.max_text_chars),
        EVENTS: validate_events(events, dataset.events.earliest, latest),
    }
    if dataset.users:
        users = query(run.spark, "users", dataset.users, ["user_id"], [], day)
        judged[USERS] = validate_users(users, dataset.users.text, options.max_text_chars)
    if dataset.user_rules:
        rules = query(run.spark, "user_rules", dataset.user_rules, ["user_id", "item_id", "rule"], [], day)
        judged[USER_RULES] = validate_rules(rules)
    gone = tombstones(run)
    broken = [without_forgotten_raw(rows, gone) for rows in broken]
    return {table: without_forgotten(frame, gone) for table, frame in judged.items()}, broken


def _staged(
    run: Run,
    dataset: Dataset,
    options: IngestOptions,
    log: EventLog,
    judged: dict[Table, DataFrame],
    broken: list[DataFrame],
) -> dict[Table, Staged] | None:
    """All tables; None where a part of the log does not suffice."""
    found = staged_events(run, log, judged[EVENTS])
    if found is None:
        return None
    staged, bad = {EVENTS: found.staged}, [*broken, rejected(found.bad, EVENTS)]
    for table, frame in judged.items():
        if table is not EVENTS:
            staged[table] = _staged_table(run, table, frame)
            bad.append(rejected(frame, table))
    if USERS not in judged:
        staged[USERS] = staged_users(run, log, found.staged)
    if USER_RULES not in judged:
        staged[USER_RULES] = run.lake.stage(no_rows(run.spark, USER_RULES), USER_RULES)
    if log.head is not None:
        bad.append(kept_quarantine(run, dataset, options))
    return staged | {QUARANTINE: run.lake.stage(reduce(DataFrame.unionByName, bad), QUARANTINE)}


def _staged_table(run: Run, table: Table, judged: DataFrame) -> Staged:
    """Good rows; what they lose is counted while they are written."""
    if "losses" not in judged.columns:
        return run.lake.stage(accepted(judged, table), table)
    return run.lake.stage(accepted_with_losses(judged, table), table, counting, digest=True)
