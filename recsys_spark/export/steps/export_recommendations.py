"""Tables of the lake → documents in a target: only what has changed since the version that the target holds."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError, UsageError
from recsys_spark.export.documents import changed_ids, with_values
from recsys_spark.export.options import ExportOptions
from recsys_spark.export.steps.collections import FORMAT, LISTS, NEIGHBORS, VECTORS, Collection, Exported, VectorShape
from recsys_spark.export.steps.folder_target import FolderTarget
from recsys_spark.export.steps.follow import until_terminated
from recsys_spark.export.steps.postgres_target import PostgresTarget
from recsys_spark.export.steps.redis_target import RedisTarget
from recsys_spark.export.steps.targets import Export, Target
from recsys_spark.lake.lake import Commit
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.live import current_lists
from recsys_spark.tables.schemas import LIVE_RECOMMENDATIONS, Table

_INDEXED_DIMENSIONS = 2000
"""Most dimensions of a type ``vector`` that pgvector's HNSW index takes."""


@dataclass(frozen=True)
class _Plan:
    """How far a collection must be exported, in words for the report, and from which version."""

    scope: str
    base: Exported | None = None


def export_recommendations(run: Run, options: ExportOptions) -> Report:
    """Bring the target to the newest version of the lists, and of item neighbours where the lake has them.

    Raises:
        InputError: there are no lists, or the target refuses access.
        UsageError: the target's address or package is missing.
        RetryError: the target does not answer. What was exported stays valid.
        ConflictError: another export to the target is running.
        Terminated: SIGTERM, with ``every``; what was exported stays valid.
    """
    if options.every is None or options.dry_run:
        return _once(run, options)
    return until_terminated(run, int(options.every.removesuffix("s")), lambda: _once(run, options))


def _once(run: Run, options: ExportOptions) -> Report:
    commits = _commits(run, VECTORS) if options.to == "pgvector" else _commits(run, LISTS, optional=NEIGHBORS)
    target = _target(options, run.lake.uri)
    exports: dict[str, Any] = {}
    try:
        for collection, commit in commits.items():
            live = run.lake.last_commit(LIVE_RECOMMENDATIONS) if options.live and collection is LISTS else None
            version = Exported.of(commit, live)
            plan = _plan(run, target, collection, version, full=options.full)
            figures = {} if options.dry_run else _export(run, target, collection, version, plan)
            exports[collection.table.name] = {"version": version.version, "made": plan.scope, **figures}
    finally:
        target.close()
    done = any(export["made"] != "none" for export in exports.values())
    return {"status": "done" if done else "unchanged", "tables": {}, "to": options.to, "exported": exports}


def _commits(run: Run, needed: Collection, optional: Collection | None = None) -> dict[Collection, Commit]:
    """The newest commit of each collection that the lake has.

    Raises:
        InputError: the table of ``needed`` is missing or empty.
    """
    commits = {}
    for collection in filter(None, (needed, optional)):
        commit = run.lake.last_commit(collection.table)
        if commit is not None and run.lake.rows(collection.table):
            commits[collection] = commit
        elif collection is needed:
            state = "is missing" if commit is None else "is empty"
            raise InputError(
                f"table '{collection.table.name}' {state} in lake {run.lake.uri}: run {collection.made_by} first"
            )
    return commits


def _target(options: ExportOptions, lake: str) -> Target:
    if options.to == "redis":
        return RedisTarget(options.redis_prefix, options.connections)
    if options.to == "folder":
        return FolderTarget(options.folder, lake, options.folder_format, options.buckets)
    return PostgresTarget(options.postgres_schema, options.connections)


def _plan(run: Run, target: Target, collection: Collection, version: Exported, *, full: bool) -> _Plan:
    last, interrupted = target.last(collection), target.interrupted(collection)
    if full:
        return _Plan("all: --full")
    if last is None or last.format != FORMAT:
        return _Plan("all: the target holds no export of this release")
    if interrupted not in (None, version.content_id):
        return _Plan("all: an export of another version to this target was not completed")
    if last.content_id == version.content_id and interrupted is None:
        return _Plan("none")
    if not _is_in_lake(run, collection, last, version):
        return _Plan(f"all: version {last.version}, which the target holds, is not in the lake any more")
    return _Plan(f"changes since version {last.version}", last)


def _is_in_lake(run: Run, collection: Collection, last: Exported, version: Exported) -> bool:
    """Whether the rows of ``last`` can be read: of the tables that ``version`` is of."""
    if last.table_id != version.table_id or not run.lake.can_read(collection.table, last.version):
        return False
    if last.live is None:
        return True
    same_table = version.live_table in (None, last.live_table)
    return same_table and run.lake.can_read(LIVE_RECOMMENDATIONS, last.live)


def _export(run: Run, target: Target, collection: Collection, version: Exported, plan: _Plan) -> dict[str, int]:
    if plan.scope == "none":
        return {"written": 0, "removed": 0}
    shape = _shape(run, version) if collection is VECTORS else None
    documents = collection.documents
    if plan.base is None or not target.takes_changes:
        every = with_values(documents(_rows(run, collection, version)))
        return target.publish(Export(run, collection, version, every, None, shape))
    with materialized(run, _changed(run, collection, plan.base, version)) as changed:
        now, was = (with_values(documents(_rows(run, collection, one, changed.frame))) for one in (version, plan.base))
        return target.publish(Export(run, collection, version, now, was, shape))


def _changed(run: Run, collection: Collection, old: Exported, new: Exported) -> DataFrame:
    """The ids of documents that may differ between two versions."""
    key = collection.id_column
    if old.night == new.night and old.live is not None and new.live is not None:
        # The same night: only lists of a stream can differ, and only those in files that one of the two lacks.
        removed, added, _ = run.lake.differing(run.spark, LIVE_RECOMMENDATIONS, old.live, new.live)
        return removed.select(key).unionByName(added.select(key)).distinct()
    return changed_ids(_rows(run, collection, old), _rows(run, collection, new), key)


def _rows(run: Run, collection: Collection, version: Exported, ids: DataFrame | None = None) -> DataFrame:
    """The rows of a version of the collection's table, of ``ids`` only if they are given; of lists, as they count with
    those of a stream."""

    def read(table: Table, number: int) -> DataFrame:
        rows = run.lake.read(run.spark, table, number)
        return rows if ids is None else rows.join(ids, on=collection.id_column, how="left_semi")

    rows = read(collection.table, version.version)
    if version.live is None or version.run_date is None:
        return rows
    return current_lists(rows, read(LIVE_RECOMMENDATIONS, version.live), date.fromisoformat(version.run_date))


def _shape(run: Run, version: Exported) -> VectorShape:
    """Dimension and model of the item vectors.

    Raises:
        UsageError: pgvector cannot index vectors of this dimension.
    """
    first = run.lake.read(run.spark, VECTORS.table, version.version).first()
    assert first is not None, "the table has rows"
    shape = VectorShape(len(first["embedding"]), first["model"])
    if shape.dimension > _INDEXED_DIMENSIONS:
        raise UsageError(
            f"table 'item_vectors' has {shape.dimension} dimensions, pgvector indexes at most {_INDEXED_DIMENSIONS}: "
            "build item vectors with fewer feature blocks or a smaller encoder"
        )
    return shape
