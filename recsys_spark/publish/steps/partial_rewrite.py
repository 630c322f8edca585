"""Build a snapshot from the last one: remove rows by key, add new ones, keep the others."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
from pyspark.sql import DataFrame

from recsys_spark.lake.commits import content_of
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.kept_rows import files_without, kept_rows
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Outcome, RewriteRecord
from recsys_spark.publish.steps.previous_run import Previous
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.tables.schemas import Table

_FILE_BYTES = 256 << 20
"""Approximate size up to which small files are merged into one."""


@dataclass(frozen=True)
class PartialRewrite:
    """A staged version, and its differences from the last one."""

    staged: Staged
    old: DataFrame
    """The removed rows."""
    new: DataFrame
    """The added rows."""
    outcome: Outcome
    """For the commit: readers of the last version find the new rows by it."""


def partial_rewrite(
    last: Previous,
    key: str,
    removed_keys: DataFrame | None,
    added: Staged | None,
    constant_columns: Mapping[str, pa.Scalar] | None = None,
) -> PartialRewrite:
    """Stage the rows of the last version without those of ``removed_keys``, and with the rows of ``added``.

    Args:
        last: the version to start from.
        key: of the run. With the last content it identifies the new one.
        removed_keys: values of the first column of the table's key; None to keep all rows.
        added: staged rows whose keys are in ``removed_keys``.
        constant_columns: new values of columns of the kept rows, the same in every row.
    """
    run, table, column = last.run, last.table, last.table.key[0]
    uris, version, none = last.files(), last.commit.version, no_rows(run.spark, table)
    files = run.spark.createDataFrame([(uri,) for uri in uris], "uri string")
    # Every run adds files. A task merges several small ones, so that their number does not grow.
    large = -(-run.lake.size(table, version) // _FILE_BYTES)
    tasks = min(len(uris), max(large, run.cores))
    removed = none.select(column) if removed_keys is None else removed_keys
    parts = files_without(files, removed, column).repartition(max(tasks, 1))
    kept = run.lake.stage(parts, table, kept_rows(table.arrow_schema, constant_columns or {}), base=version)
    if added is None:
        added = replace(kept, actions=[], rows=0, stats=[])
    rows, content = kept.rows + added.rows, last.commit.content
    staged = Staged(
        table,
        [*kept.actions, *added.actions],
        rows,
        [*kept.stats, *added.stats],
        None if content is None else content_of(rows, _digest(f"{content} {key}")),
        version,
    )
    old = none if removed_keys is None else last.rows().join(removed_keys, on=column, how="left_semi")
    record = RewriteRecord(version, [action.path for action in added.actions])
    return PartialRewrite(staged, old, run.lake.read_staged(run.spark, added), Outcome(rewrite=record))


def rewritten_keys(last: Previous, inputs: InputVersions, table: Table) -> DataFrame | None:
    """Keys of ``table`` that may differ from the version that ``last`` read, by the rewrite that the commit records.

    None if the newest version is no rewrite of the one that ``last`` read. Vectors are not compared.
    """
    run, commit, column = last.run, last.run.lake.last_commit(table), table.key[0]
    if commit is None or commit.version != inputs.versions[table.name]:
        return None
    record = commit.outcome.rewrite
    if record is None or record.of != last.version_of(table):
        return None
    by_name = {uri.rpartition("/")[2]: uri for uri in run.lake.file_uris(table, commit.version)}
    if not set(record.files) <= set(by_name):  # files were compacted since
        return None
    new = run.lake.read_files(run.spark, table, [by_name[name] for name in record.files]).select(column)
    was, now = (rows.select(column) for rows in (last.frame(table), inputs.frame(run, table)))
    return new.union(was.join(now, on=column, how="left_anti"))


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16)
