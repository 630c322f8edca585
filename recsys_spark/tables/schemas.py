"""The contracts of the lake: name, columns, key and checks of each table."""

from recsys_spark.tables.contract import LISTS, REASONS, VECTORS, Table
from recsys_spark.tables.private_releases import NOISY_COUNTS, NOISY_MEANS, NOISY_PROFILES, PRIVACY_LEDGER
from recsys_spark.tables.risk_scores import ATTACK_TRUTH, ITEM_RISK, USER_RISK
from recsys_spark.tables.rule_audits import RULE_AUDIT
from recsys_spark.tables.user_groups import SEGMENTS, USER_SEGMENTS

# Of other files, in TABLES below.
__all__ = [  # fmt: skip
    "ATTACK_TRUTH",
    "ITEM_RISK",
    "NOISY_COUNTS",
    "NOISY_MEANS",
    "NOISY_PROFILES",
    "PRIVACY_LEDGER",
    "RULE_AUDIT",
    "SEGMENTS",
    "USER_RISK",
    "USER_SEGMENTS",
]

ITEMS = Table(
    "items",
    {
        "item_id": "string",
        "title": "string",
        "text": "string",  # built by the dataset's template, cleaned; null if nothing remains
        "text_hash": "string",  # SHA-256 of text, null with it
        "category": "array<string>",
        "brand": "string",
        "price": "double",
        "locale": "string",  # with match_on, only users of the same locale get the item
        "available_from": "date",  # both days inclusive; null: no limit
        "available_until": "date",
        "boost": "float",  # added to the item's scores, e.g. for freshness or margin; null counts as 0
        "image_vec": "array<float>",  # image vector, or any dense vector of the source; null: none
        "attributes": "string",  # further values that rules read, a JSON object; null: none
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
        "groups": "array<string>",  # "attribute: value", e.g. "age: 25 to 34"; evaluations compare the groups
        "attributes": "string",  # as of items
    },
    key=("user_id",),
)

# `rule`: "deny" never lists the item for the user; "allow" lists only the user's allowed items.
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
        "value": "double",  # rating, quantity or watch ratio, by event_type; null: none
    },
    key=("user_id", "item_id", "event_type", "timestamp"),
)

QUARANTINE = Table("quarantine", {"table": "string", "reason": "string", "row": "string"}, key=())

# Append-only: the valid events of a stream. `sequence` is greater in every later commit; the commit of `events` names
# the last one that it includes.
STREAMED_EVENTS = Table("streamed_events", {**EVENTS.columns, "sequence": "bigint"}, key=(*EVENTS.key, "sequence"))

# Append-only: the rows of a stream that were refused.
STREAMED_QUARANTINE = Table("streamed_quarantine", QUARANTINE.columns, key=())

# Append-only and content-addressed: a model encodes a text once, however many items and users have it.
EMBEDDINGS = Table(
    "embeddings",
    {"text_hash": "string", "model": "string", "embedding": "array<float>"},
    key=("text_hash", "model"),
    checks=frozenset({VECTORS}),
)

# Append-only: texts that a model failed to encode. Only --full encodes them again.
FAILED_TEXTS = Table(
    "failed_texts", {"text_hash": "string", "model": "string", "reason": "string"}, key=("text_hash", "model")
)

# Append-only: whitening transforms of the text block. `name` is a digest of mean and matrix, and part of the name of
# every vector space that uses them. The greatest `fit` of an encoder (`model`) and shrink is in use.
WHITENINGS = Table(
    "whitenings",
    {
        "name": "string",
        "model": "string",
        "shrink": "double",
        "fit": "int",
        "items": "bigint",  # number of items that it was fitted on
        "mean": "array<double>",
        "matrix": "array<double>",  # row-major
    },
    key=("name", "model", "shrink", "fit"),
)

# Append-only: `cuts` are the price quantiles of a category, or of the whole catalogue if `category` is empty. `name` is
# a digest of a fit, and part of the name of every vector space that uses it.
PRICE_CUTS = Table(
    "price_cuts",
    {
        "name": "string",
        "category": "string",
        "fit": "int",
        "category_prices": "int",
        "prices": "bigint",  # number of prices that the quantiles were taken from
        "cuts": "array<double>",
    },
    key=("name", "category", "fit", "category_prices"),
)

# Vectors of unit length. `model` names the vector space: encoder fingerprint, feature blocks and whitening.
ITEM_VECTORS = Table(
    "item_vectors",
    {"item_id": "string", "model": "string", "embedding": "array<float>"},
    key=("item_id",),
    checks=frozenset({VECTORS}),
)

# `embedding` is the sum of all contributions, not normalised. Those of events decay up to `reference_time`, the time of
# the user's newest event; null without events.
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
    checks=frozenset({VECTORS}),
)

ANYONE = "*"
"""``user_id`` of the list for people in neither ``users`` nor ``events``: that of a user without a history."""

# A version is a snapshot of all lists. Ranks run from 1 without gaps, by descending score, then ascending item_id.
RECOMMENDATIONS = Table(
    "recommendations",
    {
        "user_id": "string",
        "item_id": "string",
        "score": "float",
        "rank": "int",
        "run_date": "date",
        "model": "string",
        "reasons": REASONS,  # by contribution; null if explain was 0
        "source": "string",  # of ranked lists: own, similar or popular; null in others
    },
    key=("user_id", "rank"),
    checks=frozenset({LISTS}),
)

# Between two nights: profiles of users with streamed events. Of the rows of a user, the greatest `sequence` counts, and
# only with the run_date of the last night. A null `embedding`: the user has no profile.
LIVE_PROFILES = Table(
    "live_profiles",
    {**USER_PROFILES.columns, "run_date": "date", "sequence": "bigint"},
    key=("user_id", "sequence"),
)

# Their lists. A list without items is one row of rank 0 without an item.
LIVE_RECOMMENDATIONS = Table(
    "live_recommendations",
    {
        "user_id": "string",
        "item_id": "string",
        "score": "float",
        "rank": "int",
        "run_date": "date",
        "model": "string",
        "sequence": "bigint",
    },
    key=("user_id", "rank", "sequence"),
)

# Every item that a list ever showed, kept only if ignored_weight is set. `shown_at` is the run_date of the list.
IMPRESSIONS = Table(
    "impressions",
    {"user_id": "string", "item_id": "string", "shown_at": "date"},
    key=("user_id", "item_id", "shown_at"),
)

# Append-only: lists as they are shown with exploration. `propensity` is the probability that the item was shown to the
# user at this rank. Of a run_date, the rows with the greatest `draw` are those of the newest lists.
EXPOSURES = Table(
    "exposures",
    {
        "user_id": "string",
        "item_id": "string",
        "rank": "int",
        "run_date": "date",
        "propensity": "double",
        "scorer": "string",
        "draw": "int",  # counted from 1 over the whole table
    },
    key=("user_id", "rank", "run_date", "draw"),
)

# Append-only: lists of two scorers interleaved by team draft. `team`: a, the lists of this lake, or b. Of a run_date,
# the rows with the greatest `draw` are the newest.
INTERLEAVED = Table(
    "interleaved",
    {
        "user_id": "string",
        "item_id": "string",
        "rank": "int",
        "run_date": "date",
        "team": "string",
        "draw": "int",  # counted from 1 over the whole table
    },
    key=("user_id", "rank", "run_date", "draw"),
)

# The items most similar to an item, without the item itself.
ITEM_NEIGHBORS = Table(
    "item_neighbors",
    {"item_id": "string", "neighbor_id": "string", "score": "float", "rank": "int", "model": "string"},
    key=("item_id", "rank"),
)

# The hybrid score of an item for a user: the sum, over its neighbors in the user's history, of event weight · `weight`.
ITEM_WEIGHTS = Table(
    "item_weights", {"item_id": "string", "neighbor_id": "string", "weight": "float"}, key=("item_id", "neighbor_id")
)

# Append-only. Lists of a run_date are evaluated again when there are more events: the greatest `evaluation` is the
# newest. `evaluation` and `until` are null in rows of earlier releases.
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
        "until": "timestamp",  # time of the newest event at the evaluation
    },
    key=("run_date", "scorer", "metric", "k", "evaluation"),
)

# Append-only, as `metrics`: estimates of online evaluation. `low` and `high` bound the interval of confidence `level`;
# they and `estimate` are null where the log does not suffice.
ONLINE_METRICS = Table(
    "online_metrics",
    {
        "run_date": "date",
        "mode": "string",  # off_policy, interleave or ab
        "metric": "string",
        "estimate": "double",
        "low": "double",
        "high": "double",
        "level": "double",
        "n": "bigint",  # number of users
        "ess": "double",  # effective sample size of weighted rows; null without weights
        "evaluation": "int",  # counted from 1 over the whole table
    },
    key=("run_date", "mode", "metric", "evaluation"),
)

# Append-only: how many rows each published version added, changed and removed, and in words which ones (`made`).
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

# Tombstones: ingest drops these users and items. `id_hash`: `privacy.rules.id_hash`, or in older rows the SHA-256 of
# "kind:id".
FORGOTTEN = Table("forgotten", {"kind": "string", "id_hash": "string"}, key=("kind", "id_hash"))

TABLES = {table.name: table for table in list(globals().values()) if isinstance(table, Table)}
"""All tables by name, in the order of this file."""
