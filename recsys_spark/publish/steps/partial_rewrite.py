"""A table from its last version: some rows go, some come, the others stand as they are."""

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
"""About the most of a file that is made of several."""


@dataclass(frozen=True)
class PartialRewrite:
    """A staged version, and what of it is not as it was."""

    staged: Staged
    old: DataFrame
    """The rows that have gone."""
    new: DataFrame
    """Those that have come."""
    outcome: Outcome
    """For the commit: lets the readers of the version before find the new rows."""


def partial_rewrite(
    last: Previous,
    key: str,
    gone: DataFrame | None,
    come: Staged | None,
    constant_columns: Mapping[str, pa.Scalar] | None = None,
) -> PartialRewrite:
    """The last version without the keys in ``gone``, the first column of the table's key, and with the staged rows.

    Args:
        last: where it starts.
        key: of the run; with what was there it names the content.
        gone: the keys; None where all rows stand.
        come: rows whose keys are in ``gone``.
        stamp: new values of whole columns of the rows that stand.
    """
    run, table, column = last.run, last.table, last.table.key[0]
    uris, none = last.files(), no_rows(run.spark, table)
    files = run.spark.createDataFrame([(uri,) for uri in uris], "uri string")
    # Every night adds files: where they are small, a task makes one of several.
    large = -(-run.lake.size(table, last.head.version) // _FILE_BYTES)
    tasks = min(len(uris), max(large, run.spark.sparkContext.defaultParallelism))
    parts = files_without(files, none.select(column) if gone is None else gone, column).repartition(max(tasks, 1))
    stands = run.lake.stage(parts, table, kept_rows(table.arrow_schema, constant_columns or {}), base=last.head.version)
    if come is None:
        come = replace(stands, actions=[], rows=0, notes=[])
    rows = stands.rows + come.rows
    staged = Staged(
        table,
        [*stands.actions, *come.actions],
        rows,
        [*stands.notes, *come.notes],
        None if last.head.content is None else content_of(rows, _digest(f"{last.head.content} {key}")),
        last.head.version,
    )
    old = none if gone is None else last.rows().join(gone, on=column, how="left_semi")
    record = RewriteRecord(last.head.version, [action.path for action in come.actions])
    return PartialRewrite(staged, old, run.lake.read_staged(run.spark, come), Outcome(rewrite=record))


def rewritten_keys(last: Previous, inputs: InputVersions, table: Table) -> DataFrame | None:
    """Keys of ``table`` that may differ from the version that ``last`` read, by the commit's record of a rewrite.

    None if the record does not lead to that version. Vectors are not compared.
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
