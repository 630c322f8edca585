"""The contract of the audit of rules."""

from recsys_spark.tables.contract import Table

# What the rules of the rules file did to every list, one row a user. `rules`, `actions` and `items` are parallel: the
# number of candidates that a rule removed (ban, require), raised (boost) or placed (pin). A candidate that several
# rules remove counts for the first of them by priority: `candidates` less all that were removed is `remaining`.
RULE_AUDIT = Table(
    "rule_audit",
    {
        "user_id": "string",
        "candidates": "bigint",  # items of the catalogue that are available on the run date
        "remaining": "bigint",
        "rules": "array<string>",
        "actions": "array<string>",
        "items": "array<bigint>",
        "run_date": "date",
    },
    key=("user_id",),
)
