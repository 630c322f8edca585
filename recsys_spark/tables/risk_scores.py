"""The contracts of risk scores, and of the truth beside an injected attack."""

from recsys_spark.tables.contract import Table

# How unusual users are (`score`, nats), and what their events count (`trust`, a power of four in (0, 1]). `segment`:
# review, the greatest scores within the budget; watch, others with a trust below 1; normal. Nobody is removed for it.
USER_RISK = Table(
    "user_risk",
    {"user_id": "string", "score": "double", "trust": "double"}
    | {"reasons": "array<string>", "segment": "string", "run_date": "date"},  # reasons are sentences, without ids
    key=("user_id",),
)

# The same of items; `trust` is what their texts count.
ITEM_RISK = Table("item_risk", {"item_id": "string", **dict(list(USER_RISK.columns.items())[1:])}, key=("item_id",))

# Of a copy with an injected attack: attackers and the items they push, or the attacked items; an id may be null.
ATTACK_TRUTH = Table("attack_truth", {"user_id": "string", "item_id": "string", "attack": "string"}, key=())
