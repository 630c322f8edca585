"""What the rules did to every list: rows of ``rule_audit``. Pure DataFrame functions."""

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import slices
from recsys_spark.arrays.sparse import flat
from recsys_spark.rules.kernels.attribution import CLASSES_AT_ONCE, Attribution, sizes_of, touching
from recsys_spark.rules.rule_file import RuleBook
from recsys_spark.tables.schemas import RULE_AUDIT
from recsys_spark.topk.batch_rules import ATOMS
from recsys_spark.topk.kernels.rule_masks import RuleTable, atom_matrix

CLASS_COLUMNS = {ATOMS: "array<bigint>", "pinned": "string", "items": "bigint"}

_GROUPS_AT_ONCE = 256

_NAMES = ("candidates", "remaining", "rules", "actions", "items")

_GROUP_DDL = ", ".join(["group bigint", *(f"{name} {RULE_AUDIT.columns[name]}" for name in _NAMES)])

Reader = Callable[[str, pa.Schema], Iterator[pa.RecordBatch]]
"""(URI of a file, its schema) → its rows."""


def item_classes(atoms: DataFrame, available: DataFrame, pinned: Sequence[str]) -> DataFrame:
    """CLASS_COLUMNS: the available items by their atoms; a pinned item is a class of its own.

    Args:
        atoms: ``item_id, rule_atoms``.
        available: ``item_id`` of the candidates.
        pinned: ids.
    """
    name = F.when(F.col("item_id").isin(*pinned), F.col("item_id")) if pinned else F.lit(None).cast("string")
    rows = atoms.join(available.select("item_id"), on="item_id", how="left_semi")
    classes = rows.groupBy(ATOMS, name.alias("pinned")).agg(F.count("*").alias("items"))
    return classes.select(*CLASS_COLUMNS)


def audit_rows(users: DataFrame, files: "ClassFiles", table: RuleTable, book: RuleBook, day: date) -> DataFrame:
    """Rows of RULE_AUDIT. Users with the same atoms are computed once.

    Args:
        users: ``user_id, rule_atoms``.
        files: reads ``item_classes``.
        table: the rules as arrays.
        book: the rules.
        day: of the lists.
    """
    users = users.withColumn("group", F.xxhash64(ATOMS))
    groups = users.groupBy("group").agg(F.first(ATOMS).alias(ATOMS))
    ids, actions = [rule.id for rule in book.rules], [rule.action for rule in book.rules]
    counted = groups.mapInArrow(partial(_counted, files=files, table=table, ids=ids, actions=actions), _GROUP_DDL)
    rows = users.select("user_id", "group").join(counted, on="group", how="inner")
    return rows.withColumn("run_date", F.lit(day)).select(*RULE_AUDIT.columns)


class ClassFiles:
    """The classes of items in files, read by every task. Small: it is serialized into every task."""

    def __init__(self, uris: Sequence[str], schema: pa.Schema, read: Reader) -> None:
        self._uris, self._schema, self._read = tuple(uris), schema, read

    def batches(self) -> Iterator[pa.RecordBatch]:
        """One batch after the other."""
        for uri in self._uris:
            yield from self._read(uri, self._schema)


def _counted(
    batches: Iterator[pa.RecordBatch], files: ClassFiles, table: RuleTable, ids: Sequence[str], actions: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    for part in slices(batches, _GROUPS_AT_ONCE):
        values, offsets = flat(part[ATOMS].combine_chunks())
        groups = atom_matrix(values, offsets, np.arange(len(part)), table.user_atoms)
        attribution, candidates = Attribution(groups, table, len(ids)), 0
        for classes in (rows for batch in files.batches() for rows in _pieces(batch)):
            values, offsets = flat(classes[ATOMS])
            matrix = atom_matrix(values, offsets, np.arange(classes.num_rows), table.item_atoms)
            sizes = sizes_of(classes["items"])
            attribution.add(matrix, sizes, classes["pinned"].to_pylist())
            candidates += int(sizes.sum())
        numbers = pa.array(np.full(len(part), candidates)), pa.array(candidates - attribution.removed)
        columns = [part["group"].combine_chunks(), *numbers, *touching(attribution.counts, ids, actions)]
        yield pa.RecordBatch.from_arrays(columns, names=["group", *_NAMES])


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for first in range(0, batch.num_rows, CLASSES_AT_ONCE):
        yield batch.slice(first, CLASSES_AT_ONCE)
