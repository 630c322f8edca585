"""The tombstones of a lake, as every reader of raw sources and of tables that outlive them applies them."""

import hashlib

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Commit
from recsys_spark.lake.lake_key import NAME, lake_key
from recsys_spark.lake.provenance import Provenance
from recsys_spark.privacy.rules import OWN_ROWS, RULES, UNUSED_TEXTS, Tombstones, key_pads, without_forgotten
from recsys_spark.privacy.rules import tombstones as keyed_tombstones
from recsys_spark.privacy.rules import without_unused as without_unused_texts
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import FORGOTTEN, ITEMS, QUARANTINE, TABLES, USERS, Table


def tombstones(run: Run) -> Tombstones | None:
    """None where nobody was ever forgotten.

    Raises:
        InputError: the key under which they were made is gone or another one: the forgotten would come back unseen.
    """
    head = run.lake.last_commit(FORGOTTEN)
    if head is None:
        return None
    key = lake_key(run.lake.uri, make=head.provenance.tombstone_key is None)
    if key is None or head.provenance.tombstone_key not in (None, key_name(key)):
        raise InputError(
            f"{run.lake.uri}/{NAME} is {'missing' if key is None else 'another one'}: without the key that table "
            f"'{FORGOTTEN.name}' was made with nobody can tell who was forgotten; bring the file back from a copy"
        )
    pads = run.spark.createDataFrame([key_pads(key)], "_inner_pad binary, _outer_pad binary")
    return keyed_tombstones(run.lake.read(run.spark, FORGOTTEN, head.version), pads, key)


def key_name(key: bytes) -> str:
    """Tells keys apart, without the key."""
    return hashlib.sha256(b"name of " + key).hexdigest()[:16]


def complete_forgetting(run: Run, made: tuple[Table, ...]) -> dict[str, int]:
    """Remove the forgotten from the tables that ingest has not just ``made``, by their hashes; rows by table.

    After a ``forget_users`` that ran to its end nothing is found. What else a killed one has left, old versions and
    files that are no tables, only the same command can remove: it knows the ids.
    """
    stones, removed = tombstones(run), {}
    for table in TABLES.values():
        if table in made or (head := run.lake.last_commit(table)) is None:
            continue
        rows = run.lake.read(run.spark, table, head.version)
        if OWN_ROWS in RULES[table.name] and table is not QUARANTINE:
            kept = without_forgotten(rows, stones)
        elif UNUSED_TEXTS in RULES[table.name]:
            owners = [run.lake.read_or_empty(run.spark, owner) for owner in (USERS, ITEMS)]
            kept = without_unused_texts(rows, *(without_forgotten(owner, stones) for owner in owners))
        else:
            continue
        if number := run.lake.rows(table) - kept.count():
            republish_without(run, table, head, kept, head.provenance)
            removed[table.name] = number
    return removed


def republish_without(run: Run, table: Table, head: Commit, kept: DataFrame, provenance: Provenance) -> None:
    """Publish what is ``kept`` of the rows that ``head`` shows. What published them is kept in the commit, so that the
    next refresh knows what it has before it. Lists that lose an item move up."""
    staged = run.lake.stage(_without_gaps(kept, table).select(*table.columns), table, base=head.version)
    run.lake.commit(
        staged,
        run_key("forget_users", {"table": table.name, "version": head.version}),
        provenance=provenance,
        outcome=head.outcome,
    )


def without_unused(run: Run, rows: DataFrame) -> DataFrame:
    """Rows of ``embeddings`` or ``failed_texts`` whose text a user or an item has now; all where the tables that say so
    are missing."""
    if any(run.lake.version(table) is None for table in (USERS, ITEMS)):
        return rows
    return without_unused_texts(rows, *(run.lake.read(run.spark, table) for table in (USERS, ITEMS)))


def _without_gaps(rows: DataFrame, table: Table) -> DataFrame:
    if "rank" not in table.columns:
        return rows
    order = Window.partitionBy(table.key[0]).orderBy("rank")
    return rows.withColumn("rank", F.row_number().over(order))
