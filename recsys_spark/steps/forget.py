"""Users and items that must go: from every table, from every file, and from every later refresh."""

import json
import uuid
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.forgetting import explained_by, id_hash, of_ids, without_reasons
from recsys_spark.job import Run
from recsys_spark.refresh_options import ForgetOptions
from recsys_spark.steps.publishing import Report, run_key
from recsys_spark.tables import EMBEDDINGS, FAILED_TEXTS, FORGOTTEN, ITEMS, TABLES, USERS, Table

Ids = dict[str, list[str]]


def forget(run: Run, options: ForgetOptions) -> Report:
    """Tombstones first, so that no refresh brings back what is about to go; then tables, then files; then the proof.

    A run that was cut off is completed by the next one with the same ids. Reports, explanations and packed items, which
    can all be made again, go as a whole.
    """
    ids = {"user": _ids(options.user_ids, options.users_file), "item": _ids(options.item_ids, options.items_file)}
    if not any(ids.values()):
        raise UsageError("nobody is named: give --user_ids=a,b or --users_file=FILE, --item_ids or --items_file")
    tables = [table for table in TABLES.values() if table is not FORGOTTEN and run.lake.version(table) is not None]
    if not tables:
        raise InputError(f"lake {run.lake.uri} has no tables")
    if options.dry_run:
        return {"tables": {}, "rows_found": {t.name: _matches(run, t, ids).count() for t in _with_ids(tables, ids)}}
    _bury(run, ids)
    texts = _own_texts(run, ids)
    removed = {}
    for table in tables:
        own = F.col("text_hash").isin(texts) if table in (EMBEDDINGS, FAILED_TEXTS) else of_ids(table.columns, ids)
        if rows := _remove(run, table, own, ids):
            removed[table.name] = rows
    others = _remove_other_files(run, ids)
    proof = {"users": len(ids["user"]), "items": len(ids["item"]), "rows_removed": removed}
    proof |= _expire(run, tables) | {"other_files_removed": others}
    proof["files_scanned"] = sum(len(run.lake.files(table)) for table in _with_ids(tables, ids))
    left = {table.name: rows for table in _with_ids(tables, ids) if (rows := _left_in_files(run, table, ids))}
    proof["rows_left_in_files"] = left
    _keep(run, ids, proof)
    return {"status": "done" if removed or others else "unchanged", "tables": {}, "proof": proof}


def _expire(run: Run, tables: list[Table]) -> dict[str, Any]:
    """Remove the files of all older versions. A table that was rewritten shares none with them: they are gone whole."""
    files, expired = 0, {}
    for table in tables:
        gone, head = run.lake.vacuum(table, keep_hours=0), run.lake.head(table)
        files += len(gone)
        if gone and head is not None and (head.key or "").startswith("forget_users:"):
            expired[table.name] = head.version
    return {"files_removed": files, "versions_expired": expired}


def _remove_other_files(run: Run, ids: Ids) -> int:
    """Reports and explanations show people; blocks hold items; a message of a failed run may name somebody."""
    names = [name for found in ids.values() for name in found]
    quoted = [mark + form + mark for name in names for form in (name, json.dumps(name)[1:-1]) for mark in "'\""]

    def names_somebody(content: bytes) -> bool:
        text = content.decode("utf-8", "replace")
        return any(form in text or json.dumps(form)[1:-1] in text for form in quoted)

    whole = sum(run.lake.remove_files(folder) for folder in ("_reports", "_blocks", "_status/explain_user"))
    return whole + run.lake.remove_files("_status", names_somebody)


def _keep(run: Run, ids: Ids, proof: dict[str, Any]) -> None:
    """A proof of its own for every run: a file under a name that no other has."""
    hashes = sorted(id_hash(kind, name) for kind, names in ids.items() for name in names)
    about = {"at": run.lake.clock() // 10**9, "id_hashes": hashes}
    run.lake.write_json("_proofs/forget_users", f"{about['at']}-{uuid.uuid4().hex[:12]}", about | proof)


def _ids(given: str | None, file: str | None) -> list[str]:
    names = [name.strip() for name in (given or "").split(",")]
    if file is not None:
        try:
            names += Path(file).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"file of ids {file}: {error.strerror}") from error
    return sorted({name.strip() for name in names} - {""})


def _with_ids(tables: list[Table], ids: Ids) -> list[Table]:
    """Tables in which an id can stand."""
    wanted = {"row", "reasons"} | ({"user_id"} if ids["user"] else set()) | ({"item_id"} if ids["item"] else set())
    return [table for table in tables if wanted & set(table.columns)]


def _matches(run: Run, table: Table, ids: Ids) -> DataFrame:
    return run.lake.read(run.spark, table).where(of_ids(table.columns, ids))


def _bury(run: Run, ids: Ids) -> None:
    rows = [(kind, id_hash(kind, name)) for kind, names in ids.items() for name in names]
    key = run_key("forget_users", {"ids": rows})
    if not run.lake.has_commit(FORGOTTEN, key):
        frame = run.spark.createDataFrame(rows, FORGOTTEN.ddl).coalesce(1)
        run.lake.commit(run.lake.stage(frame, FORGOTTEN), key, append=True)


def _own_texts(run: Run, ids: Ids) -> list[str]:
    """``text_hash`` of texts that only the forgotten have: their embeddings go too."""
    mine, others = [], []
    for table, kind in ((USERS, "user"), (ITEMS, "item")):
        if run.lake.version(table) is not None:
            own = of_ids(table.columns, {kind: ids[kind]})
            rows = run.lake.read(run.spark, table).where(F.col("text_hash").isNotNull())
            mine.append(rows.where(own).select("text_hash"))
            others.append(rows.where(~own).select("text_hash"))
    if not mine:
        return []
    gone, kept = (parts[0] if len(parts) == 1 else parts[0].union(parts[1]) for parts in (mine, others))
    return [row[0] for row in gone.distinct().join(kept, on="text_hash", how="left_anti").collect()]


def _remove(run: Run, table: Table, own: Column, ids: Ids) -> int:
    """Publish the table without the rows that are their ``own``, and without the reasons that speak of them; how many
    they were. What published the last version is kept in the commit, so that the next refresh knows what it has before
    it."""
    head, rows = run.lake.head(table), run.lake.read(run.spark, table)
    number = rows.where(own | explained_by(table.columns, ids["item"])).count()
    if number and head is not None:
        frame = without_reasons(_without_gaps(rows.where(~own), table), ids["item"])
        staged = run.lake.stage(frame, table, base=head.version)
        key = run_key("forget_users", {"table": table.name, "version": head.version})
        run.lake.commit(staged, key, facts=dict(head.facts))
    return number


def _without_gaps(rows: DataFrame, table: Table) -> DataFrame:
    """Lists that lose an item move up."""
    if "rank" not in table.columns:
        return rows
    order = Window.partitionBy(table.key[0]).orderBy("rank")
    return rows.withColumn("rank", F.row_number().over(order))


def _left_in_files(run: Run, table: Table, ids: Ids) -> int:
    """Rows of the forgotten in any file of the table's folder, published or not."""
    rows = run.lake.read_files(run.spark, table, run.lake.files(table))
    return rows.where(of_ids(table.columns, ids) | explained_by(table.columns, ids["item"])).count()
