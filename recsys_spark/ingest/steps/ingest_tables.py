"""Raw sources → items, users, events, user rules and quarantine."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.ingest.bad_rows import BadRows
from recsys_spark.ingest.losses import SCRUBBED, Loss, count_losses, losses_by_name
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.event_log import (
    EventLog,
    event_log,
    log_size,
    staged_events,
    staged_users,
    stored_quarantine,
)
from recsys_spark.ingest.steps.gate import Gate, reasons_of
from recsys_spark.ingest.steps.loss_gate import LossGate
from recsys_spark.ingest.steps.source_columns import SourceColumns
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
from recsys_spark.privacy.kernels.scrub import SCRUB_VERSION, check_scrub_installed
from recsys_spark.privacy.pseudonyms import with_pseudonyms
from recsys_spark.privacy.raw_texts import scrubbed_rows, withheld_rows
from recsys_spark.privacy.rules import without_forgotten, without_forgotten_raw
from recsys_spark.privacy.steps.tombstones import complete_forgetting, tombstones
from recsys_spark.privacy.steps.user_key import UserKey, key_id, user_key
from recsys_spark.publish.steps.change_log import log_changes, snapshot_change
from recsys_spark.publish.steps.publishing import Report, run_key, unchanged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, load_dataset
from recsys_spark.sources.listing import Listing
from recsys_spark.sources.listings import list_sources
from recsys_spark.sources.queries import query, register
from recsys_spark.sources.reader import SourceReader, malformed
from recsys_spark.tables.schemas import EVENTS, FORGOTTEN, ITEMS, QUARANTINE, STREAMED_EVENTS, USER_RULES, USERS, Table

_TARGETS = (QUARANTINE, ITEMS, USERS, EVENTS, USER_RULES)

_ITEM_FIELDS = ["title", "category", "brand", "price", "updated_at"]


def ingest_tables(run: Run, options: IngestOptions, *, force: bool = False) -> Report:
    """Read the sources, validate the rows, check the gates, publish. ``force``: read everything even if no file is new.

    Raises:
        QualityError: too many rows are bad or lose values, see ``Gate`` and ``LossGate``; nothing is published.
        InputError: a source is missing or damaged, or items or events are empty.
        UsageError: the dataset file is wrong.
    """
    dataset, data, secret = _dataset(options), absolute(options.data), user_key(run, options.user_key)
    # Read before the sources are listed: a run that publishes in between is a conflict.
    bases = {table.name: run.lake.last_commit(table) for table in _TARGETS}
    listings = list_sources(dataset, data, lambda: run.spark)
    forgotten = stones.content_id if (stones := run.lake.last_commit(FORGOTTEN)) is not None else None
    streamed = run.lake.last_commit(STREAMED_EVENTS)
    key = _key(dataset, listings, options, forgotten, streamed.content_id if streamed else None, secret)
    if (done := unchanged(run, key, *_TARGETS)) is not None and not force:
        return done
    reader, last = SourceReader(run.spark, data, dataset), bases[EVENTS.name]
    sources = {name: reader.read(name, source, listings[name]) for name, source in dataset.sources.items()}
    columns = SourceColumns.of(sources, listings, last)
    with columns.in_errors():
        whole = _validate(run, dataset, sources, options, secret)
    if options.dry_run:
        return {"tables": {}}
    version = None if streamed is None else streamed.version
    log = event_log(run, dataset, listings, options, force=force, forgotten=forgotten, streamed=version)
    staged, (validated, _), part = None, whole, whole[0]
    if log.part is not None:
        name = dataset.events.source
        new = {name: reader.read(name, dataset.sources[name], listings[name], log.part)}
        part, malformed_rows = _validate(run, dataset, sources | new, options, secret)
        staged = _staged(run, dataset, options, log, part, malformed_rows)
    if staged is None:
        log, part = log.whole("new files replace stored events"), validated
        staged = _staged(run, dataset, options, log, *whole)
    assert staged is not None, "the whole log is always enough"
    gate = Gate(run, dataset, data, options, sources, staged, reasons_of(run, staged))
    gate.check({*validated, USERS}, (last.provenance.reviewed or {}) if last is not None else {})
    losses = LossGate(run, dataset, options, staged, part=log.last is not None).check()
    if any(bad.table == EVENTS.name and bad.reason.startswith(LATE) for bad in gate.reasons):
        log = log.with_late(part[EVENTS])
    report = columns.report | log_size(log, listings.get(dataset.events.source), gate.reviewed(), last)
    if last is not None and last.provenance.forgotten != forgotten:
        # Before the commit of the events records the tombstones: after a kill here the next run does it again.
        report["forgetting_completed"] = complete_forgetting(run, _TARGETS)
    of_events = Provenance(reviewed=gate.reviewed(), forgotten=forgotten, streamed=version, user_key=key_id(secret))
    report |= _counts(gate.reasons, losses, scrub=dataset.scrub)
    return _publish(run, options, key, bases, staged, log, of_events, losses, columns) | report


def _dataset(options: IngestOptions) -> Dataset:
    dataset = load_dataset(options.dataset)
    if dataset.scrub:
        check_scrub_installed()
    return dataset


def _counts(bad_rows: Iterable[BadRows], losses: Sequence[Loss], *, scrub: bool) -> Report:
    """For the report: bad rows, lost values, and with ``scrub`` personal values that were replaced, by kind."""
    scrubbed = [loss for loss in losses if loss.loss.startswith(SCRUBBED)]
    report: Report = {"quarantined": {f"{bad.table}: {bad.reason}": bad.rows for bad in bad_rows}}
    report |= {"losses": losses_by_name(loss for loss in losses if loss not in scrubbed)}
    if scrub:
        report["scrubbed"] = {f"{one.table}: {one.loss.removeprefix(SCRUBBED)}": one.rows for one in scrubbed}
    return report


def _key(
    dataset: Dataset,
    listings: Mapping[str, Listing],
    options: IngestOptions,
    forgotten: str | None,
    streamed: str | None,
    secret: UserKey | None,
) -> str:
    inputs = {
        "sources": {name: list(listing.entries) for name, listing in listings.items()},
        "dataset": dataset.model_dump(mode="json"),
        "max_text_chars": options.max_text_chars,
        "run_date": options.run_date if dataset.names_run_date else None,
    }
    later: dict[str, Any] = {"forgotten": forgotten, "streamed": streamed}
    later |= {"scrub": SCRUB_VERSION} if dataset.scrub else {}
    later |= {"user_key": key_id(secret)}
    return run_key("ingest_tables", inputs | {name: value for name, value in later.items() if value})


def _publish(
    run: Run,
    options: IngestOptions,
    key: str,
    bases: Mapping[str, Commit | None],
    staged: Mapping[Table, Staged],
    log: EventLog,
    of_events: Provenance,
    losses: Sequence[Loss],
    columns: SourceColumns,
) -> Report:
    """Commit all tables onto ``bases``, the commits at the start of the run, and log the changes.

    ``of_events``: provenance of the events; ``losses``: of the rows that are published; ``columns``: of the sources.
    """
    changes = [snapshot_change(run, staged[table], log.scope, key) for table in (ITEMS, USERS, EVENTS)]
    outcomes = {
        change.table: Outcome(
            changes=change.record(options.run_date),
            losses=losses_by_name(loss for loss in losses if loss.table == change.table),
        )
        for change in changes
    }
    outcomes[EVENTS.name] |= columns.outcome
    provenance = {EVENTS.name: replace(of_events, event_log=log.record_of(staged[EVENTS]))}
    for table in _TARGETS:
        base, name = (last.version if (last := bases[table.name]) else None), table.name
        run.lake.commit(
            replace(staged[table], base=base), key, provenance=provenance.get(name), outcome=outcomes.get(name)
        )
    log_changes(run, key, options.run_date, changes)
    report: Report = {"status": "done", "tables": {table.name: staged[table].rows for table in _TARGETS}}
    return report | {"log_read": log.scope} | {f"{c.table}_changes": dict(c.kinds) for c in changes}


def _validate(
    run: Run,
    dataset: Dataset,
    sources: Mapping[str, DataFrame],
    options: IngestOptions,
    secret: UserKey | None,
) -> tuple[dict[Table, DataFrame], list[DataFrame]]:
    """Validated rows by table, and the malformed records of the sources; both without forgotten users and items."""
    for name, frame in sources.items():
        register(frame, name)
    malformed_rows = [rows for name, frame in sources.items() if (rows := malformed(frame, name)) is not None]
    day, pads = options.run_date, None if secret is None else secret.pads(run)
    items = query(run.spark, "items", dataset.items, ["item_id"], _ITEM_FIELDS, day)
    events = query(
        run.spark, "events", dataset.events, ["user_id", "item_id", "event_type", "timestamp"], ["value"], day
    )
    latest = day + timedelta(days=1) if dataset.events.latest == "run_date" else dataset.events.latest
    validated = {
        ITEMS: validate_items(items, dataset.items.text, options.max_text_chars, scrub=dataset.scrub),
        EVENTS: validate_events(with_pseudonyms(events, pads), dataset.events.earliest, latest),
    }
    if dataset.users:
        users = query(run.spark, "users", dataset.users, ["user_id"], [], day)
        users = with_pseudonyms(users, pads)
        validated[USERS] = validate_users(users, dataset.users.text, options.max_text_chars, scrub=dataset.scrub)
    if dataset.user_rules:
        rules = query(run.spark, "user_rules", dataset.user_rules, ["user_id", "item_id", "rule"], [], day)
        validated[USER_RULES] = validate_rules(with_pseudonyms(rules, pads))
    stones = tombstones(run)
    malformed_rows = [without_forgotten_raw(rows, stones) for rows in malformed_rows]
    if secret is not None:
        malformed_rows = [withheld_rows(rows) for rows in malformed_rows]
    return {table: without_forgotten(frame, stones) for table, frame in validated.items()}, malformed_rows


def _staged(
    run: Run,
    dataset: Dataset,
    options: IngestOptions,
    log: EventLog,
    validated: dict[Table, DataFrame],
    malformed_rows: list[DataFrame],
) -> dict[Table, Staged] | None:
    """All tables, staged; None if the new files of the log are not enough."""
    events = staged_events(run, log, validated[EVENTS])
    if events is None:
        return None
    staged, bad = {EVENTS: events.staged}, [*malformed_rows, rejected(events.bad, EVENTS)]
    for table, frame in validated.items():
        if table is not EVENTS:
            staged[table] = _staged_table(run, table, frame)
            bad.append(rejected(frame, table))
    if USERS not in validated:
        staged[USERS] = staged_users(run, log, events.staged)
    if USER_RULES not in validated:
        staged[USER_RULES] = run.lake.stage(no_rows(run.spark, USER_RULES), USER_RULES)
    if log.last is not None:
        bad.append(stored_quarantine(run, dataset, options))
    refused = reduce(DataFrame.unionByName, bad)
    return staged | {QUARANTINE: run.lake.stage(scrubbed_rows(refused) if dataset.scrub else refused, QUARANTINE)}


def _staged_table(run: Run, table: Table, validated: DataFrame) -> Staged:
    """The good rows of a table, staged; their losses are counted while they are written."""
    if "losses" not in validated.columns:
        return run.lake.stage(accepted(validated, table), table)
    return run.lake.stage(accepted_with_losses(validated, table), table, count_losses, digest=True)
