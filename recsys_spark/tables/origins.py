"""Column lineage: the columns of other tables that each column is made from, over all scorers and options."""

from functools import cache

from recsys_spark.tables.contract import Table

_EVENT = "events.user_id events.item_id events.event_type events.timestamp events.value"
_TEXTS = "items.text_hash users.text_hash"
_TRAITS = "items.category items.brand items.price items.image_vec"
_VECTOR = f"embeddings.embedding items.text_hash {_TRAITS} whitenings.mean whitenings.matrix price_cuts.cuts"
_PROFILE = f"item_vectors.embedding embeddings.embedding users.text_hash {_EVENT} user_risk.trust"
_IGNORED = "impressions.item_id impressions.shown_at"
_WHO = "users.user_id events.user_id"
_RULES = (
    "items.locale users.locale items.available_from items.available_until items.boost items.category items.brand "
    "items.attributes users.attributes users.groups user_rules.item_id user_rules.rule"
)
_SCORE = (
    "user_profiles.embedding item_vectors.embedding item_weights.weight embeddings.embedding items.text_hash "
    f"{_TRAITS} {_EVENT} user_risk.trust"
)
_LISTED = "recommendations.user_id recommendations.item_id recommendations.rank recommendations.score"
_RISK = f"{_EVENT} items.text items.category users.text_hash user_profiles.embedding"

_ORIGINS = {
    "events": {name: f"streamed_events.{name}" for name in ("user_id", "item_id", "event_type", "timestamp", "value")},
    "embeddings": {"text_hash": _TEXTS, "embedding": "items.text users.text"},
    "failed_texts": {"text_hash": _TEXTS, "reason": "items.text users.text"},
    "whitenings": dict.fromkeys(("items", "mean", "matrix"), "embeddings.embedding items.text_hash"),
    "price_cuts": {
        "category": "items.category",
        **dict.fromkeys(("category_prices", "prices", "cuts"), "items.category items.price"),
    },
    "item_vectors": {"item_id": "items.item_id", "embedding": f"{_VECTOR} events.user_id events.item_id"},
    "user_profiles": {
        "user_id": _WHO,
        "embedding": f"{_PROFILE} {_IGNORED}",
        "events": "events.item_id events.event_type",
        "last_timestamp": "events.timestamp",
        "reference_time": "events.timestamp",
    },
    "recommendations": {
        "user_id": f"user_profiles.user_id {_WHO}",
        "item_id": "item_vectors.item_id item_weights.item_id items.item_id",
        "score": _SCORE,
        "rank": f"{_SCORE} {_RULES}",
        "reasons": f"{_SCORE} items.title",
        "source": "events.user_id events.item_id",
    },
    "live_profiles": {
        "user_id": "streamed_events.user_id",
        "embedding": f"user_profiles.embedding {_PROFILE} streamed_events.item_id streamed_events.value",
        "events": "user_profiles.events streamed_events.item_id",
        "last_timestamp": "user_profiles.last_timestamp streamed_events.timestamp",
        "reference_time": "user_profiles.reference_time streamed_events.timestamp",
        "sequence": "streamed_events.sequence",
    },
    "live_recommendations": {
        "user_id": "streamed_events.user_id",
        "item_id": "item_vectors.item_id item_weights.item_id",
        "score": f"live_profiles.embedding {_SCORE}",
        "rank": f"live_profiles.embedding {_SCORE} {_RULES}",
        "sequence": "streamed_events.sequence",
    },
    "rule_audit": {
        "user_id": f"user_profiles.user_id {_WHO}",
        "candidates": "items.item_id items.available_from items.available_until",
        **dict.fromkeys(("remaining", "rules", "actions", "items"), _RULES),
    },
    "impressions": {
        "user_id": "recommendations.user_id",
        "item_id": "recommendations.item_id",
        "shown_at": "recommendations.run_date",
    },
    "exposures": {
        "user_id": "recommendations.user_id",
        "item_id": "recommendations.item_id",
        **dict.fromkeys(("rank", "propensity"), "recommendations.rank recommendations.score"),
        "scorer": "recommendations.model",
    },
    "interleaved": {
        "user_id": "recommendations.user_id",
        "item_id": "recommendations.item_id",
        **dict.fromkeys(("rank", "team"), "recommendations.rank"),
    },
    "item_neighbors": {
        "item_id": "item_vectors.item_id",
        "neighbor_id": "item_vectors.item_id",
        **dict.fromkeys(("score", "rank"), "item_vectors.embedding items.locale items.available_until"),
    },
    "item_weights": {
        "item_id": "items.item_id",
        "neighbor_id": "items.item_id",
        "weight": f"{_EVENT} {_VECTOR} user_risk.trust",
    },
    "user_segments": {
        "user_id": "user_profiles.user_id",
        **dict.fromkeys(("segment", "similarity"), "user_profiles.embedding"),
    },
    "segments": {
        **dict.fromkeys(("segment", "users", "share"), "user_profiles.embedding"),
        **dict.fromkeys(("name", "categories", "items"), f"{_EVENT} items.category items.title"),
    },
    "user_risk": {"user_id": _WHO, **dict.fromkeys(("score", "trust", "reasons", "segment"), _RISK)},
    "item_risk": {
        "item_id": "items.item_id",
        **dict.fromkeys(("score", "trust", "reasons", "segment"), f"{_EVENT} items.title items.text items.text_hash"),
    },
    "noisy_profiles": {"user_id": "user_profiles.user_id", "embedding": "user_profiles.embedding"},
    "noisy_means": {
        "group": "users.groups",
        "embedding": "user_profiles.embedding users.groups",
        "users": "user_profiles.user_id users.groups",
    },
    "noisy_counts": {"item_id": "items.item_id", "users": "events.user_id events.item_id"},
    "metrics": dict.fromkeys(("value", "users"), f"{_LISTED} {_EVENT} items.category users.groups"),
    "online_metrics": dict.fromkeys(
        ("estimate", "low", "high", "n", "ess"),
        f"exposures.item_id exposures.rank exposures.propensity interleaved.team users.user_id {_LISTED} {_EVENT}",
    ),
}
"""By table and column: ``table.column`` of its origins, separated by blanks. Constants of a run have none."""


@cache
def origins(table: Table) -> dict[str, list[tuple[str, str]]]:
    """Table and column of the origins of each column; empty for tables that are read from sources alone."""
    columns = _ORIGINS.get(table.name, {})
    return {name: [_pair(one) for one in dict.fromkeys(words.split())] for name, words in columns.items()}


def _pair(origin: str) -> tuple[str, str]:
    table, _, column = origin.partition(".")
    return table, column
