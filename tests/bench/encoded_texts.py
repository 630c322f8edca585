"""Texts that a cluster encodes, and their vectors."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from recsys_spark.tables.schemas import EMBEDDINGS, ITEMS, USERS

TEXTS = [f"text {n} {'xyzzy '[: n % 6] * (n % 5)}".strip() for n in range(200)]


HASHES = [hashlib.sha256(text.encode()).hexdigest() for text in TEXTS]


def bits(embeddings: pa.Table) -> list[tuple[str, str, bytes]]:
    """Hash, model and vector of every row, in the order of the hashes."""
    names, models, vectors = (embeddings[name].to_pylist() for name in EMBEDDINGS.columns)
    return sorted(zip(names, models, [np.asarray(v, np.float32).tobytes() for v in vectors], strict=True))


def published(lake: Path) -> list[tuple[str, str, bytes]]:
    return bits(DeltaTable(str(lake / EMBEDDINGS.name)).to_pyarrow_table())


def write_texts(lake: Path, count: int) -> None:
    """A lake of items with one text each, and a user who shares one of them."""
    items = dict.fromkeys(ITEMS.columns, [None] * count)
    items |= {"item_id": [f"i{n}" for n in range(count)], "text": TEXTS[:count], "text_hash": HASHES[:count]}
    users = dict.fromkeys(USERS.columns, [None]) | {"user_id": ["u1"], "text": TEXTS[:1], "text_hash": HASHES[:1]}
    for table, columns in ((ITEMS, items), (USERS, users)):
        write_deltalake(str(lake / table.name), pa.table(columns, table.arrow_schema), mode="overwrite")
