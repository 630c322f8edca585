"""Read the tombstones of a lake, and remove rows of forgotten users and items from its tables."""

import hashlib

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Commit
from recsys_spark.lake.lake_key import NAME, lake_key
from recsys_spark.lake.provenance import Provenance
from recsys_spark.privacy.rules import REMOVE_ROWS, REMOVE_UNUSED_TEXTS, RULES, Tombstones, key_pads, without_forgotten
from recsys_spark.privacy.rules import tombstones as keyed_tombstones
from recsys_spark.privacy.rules import without_unused as without_unused_texts
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import FORGOTTEN, ITEMS, QUARANTINE, TABLES, USERS, Table


def tombstones(run: Run) -> Tombstones | None:
    """The tombstones of the lake; None if nothing was ever forgotten.

    Raises:
        InputError: the key of the tombstones is missing or not the one they were written with. Forgotten users would
            return unnoticed.
    """
    last = run.lake.last_commit(FORGOTTEN)
    if last is None:
        return None
    key = lake_key(run.lake.uri, make=last.provenance.tombstone_key is None)
    if key is None or last.provenance.tombstone_key not in (None, key_name(key)):
        raise InputError(
            f"{run.lake.uri}/{NAME} {'is missing' if key is None else 'holds a different key'}: table "
            f"'{FORGOTTEN.name}' can only be read with the key it was written with, and without it forgotten users "
            "would return. Restore the file from a backup"
        )
    pads = run.spark.createDataFrame([key_pads(key)], "_inner_pad binary, _outer_pad binary")
    return keyed_tombstones(run.lake.read(run.spark, FORGOTTEN, last.version), pads, key)


def key_name(key: bytes) -> str:
    """A digest that tells keys apart and does not reveal them."""
    return hashlib.sha256(b"name of " + key).hexdigest()[:16]


def complete_forgetting(run: Run, ingested: tuple[Table, ...]) -> dict[str, int]:
    """Remove forgotten users and items, by their hashes, from every table but the ``ingested`` ones; rows removed by
    table.

    After a complete run of ``forget_users`` there is nothing to remove. Old versions of tables, and files that are not
    tables, need the ids: after a run that was killed, only the same command removes those.
    """
    stones, removed = tombstones(run), {}
    for table in TABLES.values():
        if table in ingested or (last := run.lake.last_commit(table)) is None:
            continue
        rows = run.lake.read(run.spark, table, last.version)
        if REMOVE_ROWS in RULES[table.name] and table is not QUARANTINE:
            remaining = without_forgotten(rows, stones)
        elif REMOVE_UNUSED_TEXTS in RULES[table.name]:
            owners = [run.lake.read_or_empty(run.spark, owner) for owner in (USERS, ITEMS)]
            remaining = without_unused_texts(rows, *(without_forgotten(owner, stones) for owner in owners))
        else:
            continue
        if number := run.lake.rows(table) - remaining.count():
            republish_without(run, table, last, remaining, last.provenance)
            removed[table.name] = number
    return removed


def republish_without(run: Run, table: Table, last: Commit, remaining: DataFrame, provenance: Provenance) -> None:
    """Publish the ``remaining`` rows of the ``last`` commit. The new commit keeps ``provenance`` and outcome: the
    next refresh reads there which inputs the table was made from. Ranks of a list that loses an item close up."""
    staged = run.lake.stage(_without_gaps(remaining, table).select(*table.columns), table, base=last.version)
    key = run_key("forget_users", {"table": table.name, "version": last.version})
    run.lake.commit(staged, key, provenance=provenance, outcome=last.outcome)


def without_unused(run: Run, rows: DataFrame) -> DataFrame:
    """Rows of ``embeddings`` or ``failed_texts`` whose text a user or an item still has; all rows if the lake has no
    table of users or items."""
    if any(run.lake.version(table) is None for table in (USERS, ITEMS)):
        return rows
    return without_unused_texts(rows, *(run.lake.read(run.spark, table) for table in (USERS, ITEMS)))


def _without_gaps(rows: DataFrame, table: Table) -> DataFrame:
    if "rank" not in table.columns:
        return rows
    order = Window.partitionBy(*(name for name in table.key if name != "rank")).orderBy("rank")
    rank = F.when(F.col("rank") > 0, F.row_number().over(order)).otherwise(F.col("rank"))  # 0: a list without items
    return rows.withColumn("rank", rank)
