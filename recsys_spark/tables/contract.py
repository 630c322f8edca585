"""What a contract of a table states: name, columns with their types, key and checks."""

from dataclasses import dataclass

import pyarrow as pa

REASONS = (
    "array<struct<kind:string,item_id:string,contribution:float,share:float,"
    "blocks:array<struct<block:string,contribution:float>>,sentence:string>>"
)

_BLOCK = {"block": pa.string(), "contribution": pa.float32()}

_REASON = {
    # history, own_text, segment or boost; of ranked lists popular, similar, again or average; others: all further ones
    "kind": pa.string(),
    "item_id": pa.string(),  # of the user's history; null for the other kinds
    "contribution": pa.float32(),  # the contributions of an item add up to its score
    "share": pa.float32(),  # of the sum of all absolute contributions
    "blocks": pa.list_(pa.struct(list(_BLOCK.items()))),  # by feature block; they add up to the contribution
    "sentence": pa.string(),
}

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "float": pa.float32(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "array<float>": pa.list_(pa.float32()),
    "array<double>": pa.list_(pa.float64()),
    "array<string>": pa.list_(pa.string()),
    "array<int>": pa.list_(pa.int32()),
    "array<bigint>": pa.list_(pa.int64()),
    REASONS: pa.list_(pa.struct(list(_REASON.items()))),
}


VECTORS = "vectors"
"""Check: the column ``embedding`` holds finite vectors, whose mean norm and cosine are watched for drift."""

LISTS = "lists"
"""Check: the lists of users have numbers as scores, in descending order, and no item twice."""


@dataclass(frozen=True, eq=False)
class Table:
    """A named table. ``columns`` maps a column to its Spark type; ``key`` is unique and never null."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]
    checks: frozenset[str] = frozenset()
    """``VECTORS``, ``LISTS``: the figures that the writing tasks count for the audit of the table."""

    @property
    def ddl(self) -> str:
        """The schema as Spark DDL, for readers and UDFs."""
        return ", ".join(f"`{column}` {kind}" for column, kind in self.columns.items())

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of the Parquet files. Key columns are nullable too, since Delta compares whole schemas."""
        return pa.schema([pa.field(column, ARROW_TYPES[kind]) for column, kind in self.columns.items()])
