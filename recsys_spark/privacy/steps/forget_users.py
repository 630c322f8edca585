"""Forget users and withdraw items: in every table, in every file, and in every later refresh."""

import sys
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.lake.lake_key import lake_key
from recsys_spark.lake.plain_files import COMPARISONS
from recsys_spark.lake.provenance import Provenance
from recsys_spark.privacy.id_lists import read_ids
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.raw_rows import IdMatcher
from recsys_spark.privacy.rules import (
    KEEP_TOTALS,
    REMOVE_ROWS,
    REMOVE_UNUSED_TEXTS,
    RULES,
    STALE_UNTIL_REFRESH,
    RequestedIds,
    id_hash,
    is_match,
    matched_ids,
    reasons_mention,
    with_matches,
    without_matches,
    without_reasons,
)
from recsys_spark.privacy.steps.clones import forget_in_clones
from recsys_spark.privacy.steps.tombstones import key_name, republish_without, tombstones, without_unused
from recsys_spark.privacy.steps.user_key import stored_user_id
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.tables.schemas import EVENTS, FORGOTTEN, ITEM_VECTORS, TABLES, USER_PROFILES, Table

_REBUILDABLE = ("_reports", "_blocks", COMPARISONS, "_status/explain_user")
"""Folders that other jobs can rebuild: reports and explanations show users, blocks and scratch hold their rows."""


@dataclass(frozen=True)
class _TombstoneUpdate:
    """``before`` and ``after``: content ids of the tombstones. ``hashes``: by ``kind:id`` of all requested ids.
    ``stored``: the ``kind:id`` whose tombstones were there before."""

    before: str | None
    after: str | None
    hashes: dict[str, str]
    stored: set[str]


def forget_users(run: Run, options: ForgetOptions) -> Report:
    """Write tombstones, then remove rows, then files, then write the proof.

    Tombstones come first so that no refresh brings back rows that are about to be removed. A run that was killed
    is completed by the next one with the same ids. Reports, explanations and item blocks are removed as a whole: all
    of them can be rebuilt.
    """
    ids = {
        "user": read_ids(options.user_ids, options.users_file),
        "item": read_ids(options.item_ids, options.items_file),
    }
    if not any(ids.values()):
        raise UsageError("no ids given: pass --user_ids=a,b, --users_file=FILE, --item_ids or --items_file")
    tables = [table for table in TABLES.values() if table is not FORGOTTEN and run.lake.version(table) is not None]
    if not tables:
        raise InputError(f"lake {run.lake.uri} has no tables")
    ids["user"] = [stored_user_id(run, name, options.user_key) for name in ids["user"]]
    frame = run.spark.createDataFrame(
        [(k, name) for k, names in ids.items() for name in names], "kind string, id string"
    )
    requested = RequestedIds(frame, IdMatcher(ids), ids)
    if options.dry_run:
        matches = {table.name: _matches(run, table, requested) for table in _with(tables, REMOVE_ROWS)}
        matched = {name for _, names in matches.values() for name in names}
        rows_found = {name: rows for name, (rows, _) in matches.items()}
        return {"tables": {}, "rows_found": rows_found} | _ids_not_found(ids, matched)
    update = _write_tombstones(run, ids)
    removed, matched = _remove_rows(run, tables, requested, update)
    others = _remove_other_files(run, ids)
    missing = _ids_not_found(ids, matched | update.stored)
    proof: Report = {kind + "s": len(names) for kind, names in ids.items()} | {"rows_removed": removed}
    proof |= _expire(run, tables) | {"other_files_removed": others, "ids_not_found": missing.get("ids_not_found", 0)}
    searched = _with(tables, REMOVE_ROWS, REMOVE_UNUSED_TEXTS)
    proof["files_scanned"] = sum(len(run.lake.files(table)) for table in searched)
    proof["rows_left_in_files"] = {t.name: rows for t in searched if (rows := _rows_left_in_files(run, t, requested))}
    proof["kept"] = _remaining_traces(run, tables)
    proof |= forget_in_clones(run, lambda clone: forget_users(clone, options))
    _write_proof(run, update, proof)
    return {"status": "done" if removed or others else "unchanged", "tables": {}, "proof": proof} | missing


def _with(tables: Iterable[Table], *rules: str) -> list[Table]:
    return [table for table in tables if {*rules} & {*RULES[table.name]}]


def _write_tombstones(run: Run, ids: dict[str, list[str]]) -> _TombstoneUpdate:
    """Add the tombstones that are missing."""
    stones, last = tombstones(run), run.lake.last_commit(FORGOTTEN)
    key = lake_key(run.lake.uri, make=True)
    assert key is not None
    hashes = {f"{kind}:{name}": id_hash(kind, name, key) for kind, names in ids.items() for name in names}
    rows, stored = [(name.partition(":")[0], hashed) for name, hashed in hashes.items()], set[str]()
    if stones is not None:
        requested = F.broadcast(run.spark.createDataFrame(rows, FORGOTTEN.ddl))
        matches = stones.frame.join(requested, on=[*FORGOTTEN.key]).select("id_hash")
        stored = {row["id_hash"] for row in matches.collect()}
    if new := [row for row in rows if row[1] not in stored]:
        name = run_key("forget_users", {"ids": new})
        run.lake.has_commit(FORGOTTEN, name)  # from here on a commit of the same run is recognised
        staged = run.lake.stage(run.spark.createDataFrame(new, FORGOTTEN.ddl).coalesce(1), FORGOTTEN)
        run.lake.commit(staged, name, provenance=Provenance(tombstone_key=key_name(key)), append=True)
    now, stored_ids = run.lake.last_commit(FORGOTTEN), {name for name, hashed in hashes.items() if hashed in stored}
    return _TombstoneUpdate(last.content_id if last else None, now.content_id if now else None, hashes, stored_ids)


def _remove_rows(
    run: Run, tables: list[Table], requested: RequestedIds, update: _TombstoneUpdate
) -> tuple[dict[str, int], set[str]]:
    """Rows removed by table, and the ``kind:id`` that matched in any table.

    Events come last: their commit says that all other tables are done. After a run that was killed before it, ingest
    completes the removal.
    """
    removed, matched = {}, set[str]()
    for table in sorted(_with(tables, REMOVE_ROWS, REMOVE_UNUSED_TEXTS), key=lambda table: table is EVENTS):
        rows, names = _remove(run, table, requested, update)
        matched.update(names)
        if rows:
            removed[table.name] = rows
    return removed, matched


def _remove(run: Run, table: Table, requested: RequestedIds, update: _TombstoneUpdate) -> tuple[int, list[str]]:
    """Publish the table without rows of requested ids and without reasons that mention them; the number of rows
    concerned, and the ``kind:id`` that matched."""
    last = run.lake.last_commit(table)
    assert last is not None
    rows, provenance, names = run.lake.read(run.spark, table, last.version), last.provenance, list[str]()
    if REMOVE_UNUSED_TEXTS in RULES[table.name]:
        remaining = without_unused(run, rows)
        number = run.lake.rows(table) - remaining.count()
    else:
        number, names = _matches(run, table, requested)
        remaining = without_reasons(without_matches(with_matches(rows, requested)), requested.ids["item"])
    if table is EVENTS and provenance.forgotten == update.before:  # otherwise an earlier run was killed
        provenance = replace(provenance, forgotten=update.after)
    if number:
        republish_without(run, table, last, remaining, provenance)
    return number, names


def _matches(run: Run, table: Table, requested: RequestedIds) -> tuple[int, list[str]]:
    """The number of rows that hold or mention a requested id, and the ``kind:id`` they hold."""
    rows = with_matches(run.lake.read(run.spark, table), requested)
    concerned = is_match(rows.columns) | reasons_mention(rows.columns, requested.ids["item"])
    counts = rows.agg(F.count_if(concerned), matched_ids(rows.columns)).collect()[0]
    return counts[0], counts[1]


def _ids_not_found(ids: dict[str, list[str]], matched: set[str]) -> Report:
    """The ids in no table: their number for stored reports, their names for the terminal only."""
    missing = {kind: [name for name in names if f"{kind}:{name}" not in matched] for kind, names in ids.items()}
    if not (number := sum(map(len, missing.values()))):
        return {}
    print(
        f"warning: {number} of the ids are in no table (the last line lists them under '{PERSONAL}'). Check that they "
        "are spelled as in the source. Later refreshes leave them out in any case",
        file=sys.stderr,
    )
    return {"ids_not_found": number, PERSONAL: {"ids_not_found": {k: names for k, names in missing.items() if names}}}


def _expire(run: Run, tables: list[Table]) -> dict[str, Any]:
    """Remove the files of all older versions. A table that was rewritten shares no file with them, so all of an older
    version is removed."""
    files, expired = 0, {}
    for table in tables:
        failpoint("vacuum.before", table.name)
        removed, last = run.lake.vacuum(table, keep_hours=0), run.lake.last_commit(table)
        files += len(removed)
        if removed and last is not None and (last.key or "").startswith("forget_users:"):
            expired[table.name] = last.version
    return {"files_removed": files, "versions_expired": expired}


def _remove_other_files(run: Run, ids: dict[str, list[str]]) -> int:
    """Remove files that can be rebuilt, and status files of failed runs whose message names a requested id. Return
    their number."""
    failpoint("files.before", "_status")
    quoted = IdMatcher(ids, quoted=True)

    def names_somebody(content: bytes) -> bool:
        return any(quoted.ids_in_text(content.decode("utf-8", "replace")))

    return sum(run.lake.plain.remove_files(folder) for folder in _REBUILDABLE) + run.lake.plain.remove_files(
        "_status", names_somebody
    )


def _remaining_traces(run: Run, tables: list[Table]) -> dict[str, Any]:
    """The parts of this lake that may still reflect forgotten data, by name."""
    derived = []
    for table in _with(tables, STALE_UNTIL_REFRESH):
        last = run.lake.last_commit(table)
        provenance = Provenance() if last is None else last.provenance
        depends = {ITEM_VECTORS: provenance.history is not None, USER_PROFILES: bool(provenance.segment_weight)}
        if depends.get(table, True):
            derived.append(table.name)
    return {
        "until_made_again": derived,
        "totals": [table.name for table in _with(tables, KEEP_TOTALS)],
        "keyed_hashes": [FORGOTTEN.name],
        "models": "encoders fine-tuned before this run keep what they learned: run fine_tune_encoder again",
    }


def _write_proof(run: Run, update: _TombstoneUpdate, proof: dict[str, Any]) -> None:
    """Write the proof of this run to a file with a unique name."""
    failpoint("proof.before", FORGOTTEN.name)
    about = {"at": run.lake.plain.clock() // 10**9, "id_hashes": sorted(update.hashes.values())}
    run.lake.plain.write_json("_proofs/forget_users", f"{about['at']}-{uuid.uuid4().hex[:12]}", about | proof)


def _rows_left_in_files(run: Run, table: Table, requested: RequestedIds) -> int:
    """Rows that hold or mention a requested id in any file of the table's folder, published or not."""
    rows = run.lake.read_files(run.spark, table, run.lake.files(table))
    if REMOVE_UNUSED_TEXTS in RULES[table.name]:
        return rows.count() - without_unused(run, rows).count()
    rows = with_matches(rows, requested)
    return rows.where(is_match(rows.columns) | reasons_mention(rows.columns, requested.ids["item"])).count()
