"""Users and items that must go: from every table, from every file, and from every later refresh."""

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
from recsys_spark.privacy.id_lists import given_ids
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.raw_rows import RawNames
from recsys_spark.privacy.rules import (
    OWN_ROWS,
    RULES,
    TOTALS,
    UNTIL_REFRESH,
    UNUSED_TEXTS,
    Named,
    explained_by,
    id_hash,
    is_own,
    marked,
    names_found,
    without_own,
    without_reasons,
)
from recsys_spark.privacy.steps.tombstones import key_name, republish_without, tombstones, without_unused
from recsys_spark.publish.steps.publishing import Report, run_key
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.tables.schemas import EVENTS, FORGOTTEN, ITEM_VECTORS, TABLES, USER_PROFILES, Table

_WHOLE = ("_reports", "_blocks", COMPARISONS, "_status/explain_user")
"""Folders that can be made again: reports and explanations show people, blocks and scratch hold their rows."""


@dataclass(frozen=True)
class _Buried:
    """The state of the tombstones before and after; ``hashes`` of all who are named, and whose were there before."""

    before: str | None
    after: str | None
    hashes: dict[str, str]
    known: set[str]


def forget_users(run: Run, options: ForgetOptions) -> Report:
    """Tombstones first, so that no refresh brings back what is about to go; then tables, then files; then the proof.

    A run that was cut off is completed by the next one with the same ids. Reports, explanations and packed items, which
    can all be made again, go as a whole.
    """
    ids = {
        "user": given_ids(options.user_ids, options.users_file),
        "item": given_ids(options.item_ids, options.items_file),
    }
    if not any(ids.values()):
        raise UsageError("nobody is named: give --user_ids=a,b or --users_file=FILE, --item_ids or --items_file")
    tables = [table for table in TABLES.values() if table is not FORGOTTEN and run.lake.version(table) is not None]
    if not tables:
        raise InputError(f"lake {run.lake.uri} has no tables")
    frame = run.spark.createDataFrame(
        [(k, name) for k, names in ids.items() for name in names], "kind string, id string"
    )
    named = Named(frame, RawNames(ids), ids)
    if options.dry_run:
        found = {table.name: _found(run, table, named) for table in _with(tables, OWN_ROWS)}
        seen = {name for _, names in found.values() for name in names}
        return {"tables": {}, "rows_found": {name: rows for name, (rows, _) in found.items()}} | _not_found(ids, seen)
    buried = _bury(run, ids)
    removed, seen = _remove_rows(run, tables, named, buried)
    others = _remove_other_files(run, ids)
    missing = _not_found(ids, seen | buried.known)
    proof: Report = {kind + "s": len(names) for kind, names in ids.items()} | {"rows_removed": removed}
    proof |= _expire(run, tables) | {"other_files_removed": others, "ids_not_found": missing.get("ids_not_found", 0)}
    searched = _with(tables, OWN_ROWS, UNUSED_TEXTS)
    proof["files_scanned"] = sum(len(run.lake.files(table)) for table in searched)
    proof["rows_left_in_files"] = {t.name: rows for t in searched if (rows := _left_in_files(run, t, named))}
    proof["kept"] = _kept(run, tables)
    _keep(run, buried, proof)
    return {"status": "done" if removed or others else "unchanged", "tables": {}, "proof": proof} | missing


def _with(tables: Iterable[Table], *rules: str) -> list[Table]:
    return [table for table in tables if {*rules} & {*RULES[table.name]}]


def _bury(run: Run, ids: dict[str, list[str]]) -> _Buried:
    """Write the tombstones that are not there yet."""
    stones, head = tombstones(run), run.lake.last_commit(FORGOTTEN)
    key = lake_key(run.lake.uri, make=True)
    assert key is not None
    hashes = {f"{kind}:{name}": id_hash(kind, name, key) for kind, names in ids.items() for name in names}
    rows, there = [(name.partition(":")[0], found) for name, found in hashes.items()], set[str]()
    if stones is not None:
        asked = run.spark.createDataFrame(rows, FORGOTTEN.ddl)
        there = {
            row[0] for row in stones.frame.join(F.broadcast(asked), on=[*FORGOTTEN.key]).select("id_hash").collect()
        }
    if new := [row for row in rows if row[1] not in there]:
        name = run_key("forget_users", {"ids": new})
        run.lake.has_commit(FORGOTTEN, name)  # a commit of the same run from now on is recognised
        staged = run.lake.stage(run.spark.createDataFrame(new, FORGOTTEN.ddl).coalesce(1), FORGOTTEN)
        run.lake.commit(staged, name, provenance=Provenance(tombstone_key=key_name(key)), append=True)
    now, known = run.lake.last_commit(FORGOTTEN), {name for name, found in hashes.items() if found in there}
    return _Buried(head.content_id if head else None, now.content_id if now else None, hashes, known)


def _remove_rows(run: Run, tables: list[Table], named: Named, buried: _Buried) -> tuple[dict[str, int], set[str]]:
    """Rows removed by table, and who was found in any.

    Events come last: their commit says that all others are done, and ingest completes a run that was killed before it.
    """
    removed, seen = {}, set[str]()
    for table in sorted(_with(tables, OWN_ROWS, UNUSED_TEXTS), key=lambda table: table is EVENTS):
        rows, names = _remove(run, table, named, buried)
        seen.update(names)
        if rows:
            removed[table.name] = rows
    return removed, seen


def _remove(run: Run, table: Table, named: Named, buried: _Buried) -> tuple[int, list[str]]:
    """Publish the table without the rows that are theirs, and without the reasons that speak of them; how many they
    were, and whose."""
    head = run.lake.last_commit(table)
    assert head is not None
    rows, provenance, names = run.lake.read(run.spark, table, head.version), head.provenance, list[str]()
    if UNUSED_TEXTS in RULES[table.name]:
        kept = without_unused(run, rows)
        number = run.lake.rows(table) - kept.count()
    else:
        number, names = _found(run, table, named)
        kept = without_reasons(without_own(marked(rows, named)), named.ids["item"])
    if table is EVENTS and provenance.forgotten == buried.before:  # or a run before this one was cut off
        provenance = replace(provenance, forgotten=buried.after)
    if number:
        republish_without(run, table, head, kept, provenance)
    return number, names


def _found(run: Run, table: Table, named: Named) -> tuple[int, list[str]]:
    rows = marked(run.lake.read(run.spark, table), named)
    concerned = is_own(rows.columns) | explained_by(rows.columns, named.ids["item"])
    found = rows.agg(F.count_if(concerned), names_found(rows.columns)).collect()[0]
    return found[0], found[1]


def _not_found(ids: dict[str, list[str]], seen: set[str]) -> Report:
    """Who stands in no table: a number for what is kept, names for the terminal."""
    missing = {kind: [name for name in names if f"{kind}:{name}" not in seen] for kind, names in ids.items()}
    if not (number := sum(map(len, missing.values()))):
        return {}
    print(
        f"warning: {number} of the ids stand in no table (named in the last line, '{PERSONAL}'): is each written as in "
        "the source? They are left out of later refreshes all the same",
        file=sys.stderr,
    )
    return {"ids_not_found": number, PERSONAL: {"ids_not_found": {k: names for k, names in missing.items() if names}}}


def _expire(run: Run, tables: list[Table]) -> dict[str, Any]:
    """Remove the files of all older versions. A table that was rewritten shares none with them: they are gone whole."""
    files, expired = 0, {}
    for table in tables:
        failpoint("vacuum.before", table.name)
        gone, head = run.lake.vacuum(table, keep_hours=0), run.lake.last_commit(table)
        files += len(gone)
        if gone and head is not None and (head.key or "").startswith("forget_users:"):
            expired[table.name] = head.version
    return {"files_removed": files, "versions_expired": expired}


def _remove_other_files(run: Run, ids: dict[str, list[str]]) -> int:
    """Those that can be made again, and messages of failed runs that name somebody."""
    failpoint("files.before", "_status")
    quoted = RawNames(ids, quoted=True)

    def names_somebody(content: bytes) -> bool:
        return any(quoted.found_in_text(content.decode("utf-8", "replace")))

    return sum(run.lake.plain.remove_files(folder) for folder in _WHOLE) + run.lake.plain.remove_files(
        "_status", names_somebody
    )


def _kept(run: Run, tables: list[Table]) -> dict[str, Any]:
    """What of this lake may still reflect the forgotten, by name."""
    derived = []
    for table in _with(tables, UNTIL_REFRESH):
        head = run.lake.last_commit(table)
        made = Provenance() if head is None else head.provenance
        exact = {ITEM_VECTORS: made.history is not None, USER_PROFILES: bool(made.segment_weight)}
        if exact.get(table, True):
            derived.append(table.name)
    return {
        "until_made_again": derived,
        "totals": [table.name for table in _with(tables, TOTALS)],
        "keyed_hashes": [FORGOTTEN.name],
        "models": "encoders that fine_tune_encoder trained before keep what they learned: train them again",
    }


def _keep(run: Run, buried: _Buried, proof: dict[str, Any]) -> None:
    """A proof of its own for every run: a file under a name that no other has."""
    failpoint("proof.before", FORGOTTEN.name)
    about = {"at": run.lake.plain.clock() // 10**9, "id_hashes": sorted(buried.hashes.values())}
    run.lake.plain.write_json("_proofs/forget_users", f"{about['at']}-{uuid.uuid4().hex[:12]}", about | proof)


def _left_in_files(run: Run, table: Table, named: Named) -> int:
    """Rows of the forgotten in any file of the table's folder, published or not."""
    rows = run.lake.read_files(run.spark, table, run.lake.files(table))
    if UNUSED_TEXTS in RULES[table.name]:
        return rows.count() - without_unused(run, rows).count()
    rows = marked(rows, named)
    return rows.where(is_own(rows.columns) | explained_by(rows.columns, named.ids["item"])).count()
