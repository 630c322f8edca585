"""The contracts of the lake: each table a name, its columns, its key and what always holds."""

from dataclasses import dataclass

import pyarrow as pa

REASONS = (
    "array<struct<kind:string,item_id:string,contribution:float,share:float,"
    "blocks:array<struct<block:string,contribution:float>>,sentence:string>>"
)

_BLOCK = {"block": pa.string(), "contribution": pa.float32()}

_REASON = {
    "kind": pa.string(),  # history, own_text, segment, boost; others: all that is left, added up
    "item_id": pa.string(),  # of the user's own history; null for the other kinds
    "contribution": pa.float32(),  # they add up to the score
    "share": pa.float32(),  # of the sum of all absolute contributions
    "blocks": pa.list_(pa.struct(list(_BLOCK.items()))),  # they add up to the contribution
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
    REASONS: pa.list_(pa.struct(list(_REASON.items()))),
}


@dataclass(frozen=True, eq=False)
class Table:
    """A named table. ``columns`` maps a column to its Spark type; ``key`` is unique and never null."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...]

    @property
    def ddl(self) -> str:
        """The schema as Spark DDL, for readers and UDFs."""
        return ", ".join(f"`{column}` {kind}" for column, kind in self.columns.items())

    @property
    def arrow_schema(self) -> pa.Schema:
        """The schema of the Parquet files. Key columns are written as nullable too: Delta compares schemas as a
        whole."""
        return pa.schema([pa.field(column, ARROW_TYPES[kind]) for column, kind in self.columns.items()])


ITEMS = Table(
    "items",
    {
        "item_id": "string",
        "title": "string",
        "text": "string",  # cleaned, built by the dataset's template; null when nothing was left
        "text_hash": "string",  # sha256 of text, null with it
        "category": "array<string>",
        "brand": "string",
        "price": "double",
        "locale": "string",  # with match_on: only users of the same locale are offered it
        "available_from": "date",  # both days inclusive; null: always
        "available_until": "date",
        "boost": "float",  # added to its scores: freshness, margin; null counts 0
        "image_vec": "array<float>",  # of a picture, or any dense vector that the source brings; null: none
    },
    key=("item_id",),
)

USERS = Table(
    "users",
    {
        "user_id": "string",
        "text": "string",
        "text_hash": "string",
        "locale": "string",
        "groups": "array<string>",  # such as "age: 25 to 34"; an evaluation compares the groups of an attribute
    },
    key=("user_id",),
)

# `rule` is "deny": never list the item; or "allow": list nothing but items that are allowed to this user.
USER_RULES = Table(
    "user_rules", {"user_id": "string", "item_id": "string", "rule": "string"}, key=("user_id", "item_id", "rule")
)

EVENTS = Table(
    "events",
    {
        "user_id": "string",
        "item_id": "string",
        "event_type": "string",
        "timestamp": "timestamp",  # UTC
        "value": "double",  # rating, quantity, watch ratio: what event_type says; null where there is none
    },
    key=("user_id", "item_id", "event_type", "timestamp"),
)

QUARANTINE = Table("quarantine", {"table": "string", "reason": "string", "row": "string"}, key=())

# Append-only and content-addressed: the same text under the same model is encoded once, whoever it belongs to.
EMBEDDINGS = Table(
    "embeddings", {"text_hash": "string", "model": "string", "embedding": "array<float>"}, key=("text_hash", "model")
)

# Texts that a model gave no vector for, append-only: they are not tried again before somebody asks (--full).
FAILED_TEXTS = Table(
    "failed_texts", {"text_hash": "string", "model": "string", "reason": "string"}, key=("text_hash", "model")
)

# Transforms of the text block, append-only: `name` is a digest of mean and matrix and part of every space that uses it.
# The newest `fit` of an encoder (`model`) and shrink is the one in use.
WHITENINGS = Table(
    "whitenings",
    {
        "name": "string",
        "model": "string",
        "shrink": "double",
        "fit": "int",
        "items": "bigint",  # that it was fitted on
        "mean": "array<double>",
        "matrix": "array<double>",  # row by row
    },
    key=("name", "model", "shrink", "fit"),
)

# What prices are compared by, append-only: `cuts` are quantiles of the prices of a category, or with an empty one of
# the whole catalogue; `name` is a digest of a fit and part of every space that uses it.
PRICE_CUTS = Table(
    "price_cuts",
    {
        "name": "string",
        "category": "string",
        "fit": "int",
        "category_prices": "int",
        "prices": "bigint",  # that it was taken of
        "cuts": "array<double>",
    },
    key=("name", "category", "fit", "category_prices"),
)

# Unit length. `model` names the vector space: encoder fingerprint, block configuration and whitening.
ITEM_VECTORS = Table(
    "item_vectors", {"item_id": "string", "model": "string", "embedding": "array<float>"}, key=("item_id",)
)

# `embedding` is the additive sum, not normalised, decayed to reference_time: the user's newest event; null without one.
USER_PROFILES = Table(
    "user_profiles",
    {
        "user_id": "string",
        "model": "string",
        "embedding": "array<float>",
        "events": "bigint",
        "last_timestamp": "timestamp",
        "reference_time": "timestamp",
    },
    key=("user_id",),
)

# One snapshot per version. Ranks run from 1 without gaps; score descending, then item_id ascending.
RECOMMENDATIONS = Table(
    "recommendations",
    {
        "user_id": "string",
        "item_id": "string",
        "score": "float",
        "rank": "int",
        "run_date": "date",
        "model": "string",
        "reasons": REASONS,  # by contribution; null where explain was 0
    },
    key=("user_id", "rank"),
)

# What was ever listed, where ignored_weight asks for it; grows by every new list. `shown_at` is the list's run_date.
IMPRESSIONS = Table(
    "impressions",
    {"user_id": "string", "item_id": "string", "shown_at": "date"},
    key=("user_id", "item_id", "shown_at"),
)

# The items most similar to an item, itself left out.
ITEM_NEIGHBORS = Table(
    "item_neighbors",
    {"item_id": "string", "neighbor_id": "string", "score": "float", "rank": "int", "model": "string"},
    key=("item_id", "rank"),
)

# A hybrid score of an item is the sum, over a user's events, of what each counts times the weight of its item.
ITEM_WEIGHTS = Table(
    "item_weights", {"item_id": "string", "neighbor_id": "string", "weight": "float"}, key=("item_id", "neighbor_id")
)

# Append-only. Lists of one run_date are evaluated again when more events are known: the greatest `evaluation` is the
# newest. Rows of before these two columns hold null there.
METRICS = Table(
    "metrics",
    {
        "run_date": "date",
        "scorer": "string",
        "metric": "string",
        "k": "int",
        "value": "double",
        "users": "bigint",
        "evaluation": "int",  # counted from 1 over the whole table
        "until": "timestamp",  # the newest event that was known
    },
    key=("run_date", "scorer", "metric", "k", "evaluation"),
)

# What a run of a step found new in the table it published, and what of it was made anew.
CHANGES = Table(
    "changes",
    {
        "run_date": "date",
        "table": "string",
        "made": "string",
        "rows": "bigint",
        "added": "bigint",
        "changed": "bigint",
        "removed": "bigint",
    },
    key=(),
)

# Tombstones: ingest leaves out whoever stands here. `id_hash`: forgetting.id_hash, or in older rows the SHA-256 of
# "kind:id".
FORGOTTEN = Table("forgotten", {"kind": "string", "id_hash": "string"}, key=("kind", "id_hash"))

TABLES = {
    table.name: table
    for table in (
        ITEMS,
        USERS,
        EVENTS,
        USER_RULES,
        QUARANTINE,
        EMBEDDINGS,
        FAILED_TEXTS,
        WHITENINGS,
        PRICE_CUTS,
        ITEM_VECTORS,
        USER_PROFILES,
        RECOMMENDATIONS,
        IMPRESSIONS,
        ITEM_NEIGHBORS,
        ITEM_WEIGHTS,
        METRICS,
        CHANGES,
        FORGOTTEN,
    )
}
