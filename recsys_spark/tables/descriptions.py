"""What tables and columns hold, in words for catalogues: they are written into the Delta log of a new table."""

import pyarrow as pa

from recsys_spark.tables.contract import Table

TABLE_DESCRIPTIONS = {
    "items": "Items with the text that is encoded, and what rules of lists need.",
    "users": "Users with the text that is encoded and the groups that evaluations compare.",
    "user_rules": "Items that a user must not get, or the only ones that the user may get.",
    "events": "What users did with items, by UTC time.",
    "quarantine": "Raw rows that were refused, with the reason.",
    "streamed_events": "Valid events of a stream. Append-only.",
    "streamed_quarantine": "Rows of a stream that were refused. Append-only.",
    "embeddings": "Vectors of texts, of unit length, by text and model. Append-only.",
    "failed_texts": "Texts that a model could not encode. Append-only.",
    "whitenings": "Whitening transforms of the text block. Append-only.",
    "price_cuts": "Price quantiles of categories and of the catalogue. Append-only.",
    "item_vectors": "Vectors of items, of unit length, in the vector space that `model` names.",
    "user_profiles": "Profiles of users: decayed sums of the vectors of their items, not normalised.",
    "recommendations": "The list of every user; a version is the snapshot of one run date.",
    "live_profiles": "Profiles of users with streamed events since the last night.",
    "live_recommendations": "Lists of users with streamed events since the last night.",
    "impressions": "Every pair of user and item that a list ever showed.",
    "exposures": "Lists as they are shown with exploration, with the probability of each place. Append-only.",
    "interleaved": "Lists of two scorers interleaved by team draft. Append-only.",
    "item_neighbors": "The items most similar to each item.",
    "item_weights": "Weights between items: events of a user times these weights add up to a score.",
    "user_segments": "The segment of every user with a profile.",
    "segments": "Segments of users with similar profiles; their ids last over refits.",
    "user_risk": "How unusual users are, and what their events count.",
    "item_risk": "How unusual items are, and what their texts count.",
    "attack_truth": "Of a copy with an injected attack: who attacks what.",
    "noisy_profiles": "Profiles with noise, a release under differential privacy.",
    "noisy_means": "Mean profiles and sizes of groups with noise, a release under differential privacy.",
    "noisy_counts": "Number of users of each item with noise, a release under differential privacy.",
    "privacy_ledger": "What private releases have spent of the budget. Append-only.",
    "metrics": "Quality of published lists on later events. Append-only; the greatest evaluation is the newest.",
    "online_metrics": "Estimates of online evaluation. Append-only; the greatest evaluation is the newest.",
    "changes": "How many rows each published version added, changed and removed. Append-only.",
    "forgotten": "Hashes of users and items that must not be ingested again.",
}

_COLUMNS = {
    "added": "rows that are new",
    "attack": "kind of the attack",
    "available_from": "first day on which the item may be listed; null: no limit",
    "available_until": "last day on which the item may be listed; null: no limit",
    "boost": "added to the scores of the item; null counts as 0",
    "brand": "brand",
    "budget": "epsilon that may be spent in total",
    "categories": "categories that set the segment apart",
    "category": "category",
    "category_prices": "least number of prices for quantiles of a category",
    "changed": "rows whose values differ",
    "cuts": "price quantiles, ascending",
    "delta": "probability with which the bound of epsilon may fail",
    "draw": "number of the draw, counted from 1 over the whole table; of a run_date the greatest is the newest",
    "embedding": "vector of unit length",
    "entry": "number of the entry, from 1",
    "epsilon": "privacy loss of the release",
    "ess": "effective sample size of weighted rows; null without weights",
    "estimate": "estimate; null where the log does not suffice",
    "evaluation": "number of the evaluation, counted from 1 over the whole table",
    "event_type": "view, purchase, rating …",
    "events": "number of events",
    "fit": "number of the fit; the greatest is in use",
    "group": "group of users",
    "groups": "'attribute: value', such as 'age: 25 to 34'",
    "high": "upper bound of the confidence interval",
    "id_hash": "keyed hash of the id",
    "image_vec": "image vector, or another dense vector of the source; null: none",
    "item_id": "id of the item",
    "items": "titles of typical items",
    "k": "length of the lists that the metric looks at",
    "kind": "user or item",
    "last_timestamp": "time of the newest event, UTC",
    "level": "confidence level",
    "locale": "language or market, for rules that match users and items",
    "low": "lower bound of the confidence interval",
    "made": "which rows the run made, in words",
    "matrix": "whitening matrix, row-major",
    "mean": "mean vector that is subtracted",
    "metric": "name of the metric",
    "mode": "off_policy, interleave or ab",
    "model": "name of the vector space, or of what made the scores; spaces are never mixed",
    "n": "number of users",
    "name": "digest of the fit, part of the names of vector spaces",
    "neighbor_id": "id of the neighbouring item",
    "price": "price, in the currency of the source",
    "prices": "number of prices that the quantiles are taken from",
    "propensity": "probability that the item was shown to the user at this rank",
    "rank": "place in the list, from 1, by descending score, then item_id",
    "reason": "reason of the refusal",
    "reasons": "reasons as sentences",
    "reference_time": "time up to which contributions of events are decayed, UTC",
    "release": "run key of the release",
    "removed": "rows that are there no longer",
    "rho": "loss as zero-concentrated differential privacy",
    "row": "the raw row, as JSON",
    "rows": "number of rows of the version",
    "rule": "deny: never list the item; allow: list only the allowed items",
    "run_date": "date of the run: only events before 00:00 UTC of it count",
    "scale": "standard deviation of the noise",
    "score": "score; greater is better",
    "scorer": "name of the scorer",
    "segment": "id of the segment",
    "sensitivity": "largest change by one user",
    "sequence": "greater in every later batch of the stream",
    "share": "share of all users with a segment",
    "shown_at": "run_date of the list that showed the item",
    "shrink": "strength of the whitening's regularisation",
    "similarity": "cosine with the centre of the segment, both without the mean of all profiles",
    "source": "own, similar or popular in lists that are ranked; null in others",
    "table": "name of the table",
    "team": "a: the lists of this lake, or b",
    "text": "text that is encoded, cleaned; null if nothing remains",
    "text_hash": "SHA-256 of the text; null with it",
    "timestamp": "time of the event, UTC",
    "title": "title",
    "total_epsilon": "composition of all entries up to this one",
    "trust": "what events or texts count, in (0, 1]",
    "until": "time of the newest event at the evaluation, UTC",
    "user_id": "id of the user",
    "users": "number of users",
    "value": "value of the metric",
    "weight": "weight between the two items",
    "what": "what was released",
}
"""Comments by the name of the column."""

_OF_TABLES = {
    "events.value": "rating, quantity or watch ratio, by event_type; null: none",
    "streamed_events.value": "rating, quantity or watch ratio, by event_type; null: none",
    "user_profiles.embedding": "sum of all contributions, not normalised",
    "live_profiles.embedding": "sum of all contributions, not normalised; null: no profile",
    "live_recommendations.rank": "place in the list, from 1; 0: the list is empty",
    "live_recommendations.item_id": "id of the item; null if the list is empty",
    "recommendations.user_id": "id of the user; '*': the list for people in neither users nor events",
    "recommendations.reasons": "why the item is listed, by contribution; null without explain",
    "segments.name": "name, from what many users of the segment have",
    "user_risk.segment": "review, watch or normal",
    "item_risk.segment": "review, watch or normal",
    "user_risk.score": "how unusual the user is, in nats",
    "item_risk.score": "how unusual the item is, in nats",
    "price_cuts.category": "category; empty: the whole catalogue",
    "items.category": "categories, from the widest to the narrowest",
    "whitenings.items": "number of items that it was fitted on",
    "noisy_means.users": "number of users with noise; it may be negative",
    "noisy_means.embedding": "mean profile with noise",
    "noisy_profiles.embedding": "profile with noise",
    "noisy_counts.users": "number of users with noise; it may be negative",
    "attack_truth.user_id": "id of the attacker; null if none applies",
    "attack_truth.item_id": "id of the attacked item; null if none applies",
    "quarantine.table": "name of the table that the row was meant for",
    "streamed_quarantine.table": "name of the table that the row was meant for",
    "failed_texts.reason": "reason of the failure",
}
"""Comments of a column that means something else, or more, in this table."""


def description(table: Table) -> str:
    """What the table holds."""
    return TABLE_DESCRIPTIONS[table.name]


def column_comments(table: Table) -> dict[str, str]:
    """What each column holds."""
    return {column: _OF_TABLES.get(f"{table.name}.{column}") or _COLUMNS[column] for column in table.columns}


def described_schema(table: Table) -> pa.Schema:
    """The Arrow schema with a comment on every column, where Delta and catalogues look for it.

    Rows and files do not depend on it. A table of an earlier release gets the comments when other rows replace its own.
    """
    comments = column_comments(table)
    return pa.schema([field.with_metadata({"comment": comments[field.name]}) for field in table.arrow_schema])
