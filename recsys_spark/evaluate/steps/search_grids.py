"""The scorers that can be compared, and the grids of settings from which validation chooses."""

from recsys_spark.errors import UsageError
from recsys_spark.evaluate.kernels.recency import HALF_LIVES

EASE_ITEMS = 20_000
"""Above this number of items, scorers of all item pairs are left out: a closed form needs 12·n² bytes, and the users in
common of all pairs up to as much in every task."""

Setting = dict[str, float]

_DECAYS: list[Setting] = [{"decay": decay} for decay in (0.8, 0.6, 0.65, 0.7, 0.75, 0.9, 1.0)]

_WHITENINGS: list[Setting] = [
    *({"whitened": 1, "shrink": shrink} for shrink in (0.1, 0.03, 0.3, 1.0)),
    {"whitened": 0, "shrink": 0},
]

_RIDGES: list[Setting] = [{"text_weight": text, "ridge": ridge} for text, ridge in ((3, 100), (2, 50), (5, 100))]

_CANDIDATES: list[Setting] = [{"candidates": 100}, {"candidates": 200}]

_HYBRID = [_RIDGES, _CANDIDATES, _DECAYS]

_SEQUENCE: list[Setting] = [{"sequence": weight} for weight in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)]

_HALF_LIVES: list[Setting] = [{"half_life": days} for days in HALF_LIVES]

DEFAULT_GRIDS = (
    "popularity",
    "popularity_recent",
    "own_history",
    "item_knn",
    "ease",
    "tfidf",
    "cosine",
    "cosine_whitened",
    "hybrid",
)

GRIDS: dict[str, list[list[Setting]]] = {
    "popularity": [[{"decay": 1.0}]],
    "popularity_recent": [[option | {"decay": 1.0} for option in _HALF_LIVES]],
    "own_history": [[{"own_half_life": days, "decay": 1.0} for days in (30, 7, 90)], _HALF_LIVES],
    "item_knn": [[{"neighbors": 100, "shrink": 20}, {"neighbors": 100, "shrink": 100}], _DECAYS],
    "ease": [[{"ridge": 50}, {"ridge": 100}, {"ridge": 200}], _DECAYS],
    "tfidf": [_DECAYS],
    "cosine": [_DECAYS],
    "cosine_whitened": [_WHITENINGS, _DECAYS],
    "cosine_blocks": [
        _WHITENINGS,
        [{"category": weight} for weight in (0.2, 0.0, 0.1, 0.5, 1.0)],
        [{"brand": weight} for weight in (0.1, 0.0, 0.3)],
        [{"price": weight} for weight in (0.05, 0.0, 0.2)],
        _DECAYS,
    ],
    "hybrid": _HYBRID,
    "hybrid_exact": [_RIDGES, _DECAYS],
    "sequential": [[{"decay": 1.0}]],
    "hybrid_sequential": [*_HYBRID, _SEQUENCE],
    "reranked": [*_HYBRID, _SEQUENCE, [{"reranked": 0}, {"reranked": 1}]],
    "hybrid_cooccurrence": [[{"ridge": ridge} for ridge in (100, 50, 200)], _CANDIDATES, _DECAYS],
    "hybrid_words": [_RIDGES, _CANDIDATES, _DECAYS],
    "hybrid_vectors": [_RIDGES, _CANDIDATES, _DECAYS],
    "hybrid_text": [[{"text_weight": 1, "ridge": ridge} for ridge in (1, 0.3, 3, 10)], _CANDIDATES, _DECAYS],
}
"""Rounds by scorer: validation tunes one round after the other and carries its best option into the next ones. Later
rounds are at their first option. Each newer event of the user multiplies the weight of an event by ``decay``, and each
``own_half_life`` of days halves it. ``half_life``: days, of the popularity. ``sequence``: weight of the sequence
encoder beside the hybrid, whose other settings are chosen before. ``reranked``: whether the best candidates are ranked
again."""

FEATURES = {
    "hybrid": (1, 1, 1),
    "hybrid_exact": (1, 1, 1),
    "hybrid_cooccurrence": (1, 0, 0),
    "hybrid_words": (1, 1, 0),
    "hybrid_vectors": (1, 0, 1),
    "hybrid_text": (0, 1, 1),
}
"""The features of items in a hybrid: weights 0 or 1 of their users, words and vectors."""

_PAIRWISE = ("ease", "hybrid_exact", "item_knn")


def first_setting(scorer: str) -> Setting:
    """The setting with each round at its first option."""
    return {key: value for options in GRIDS[scorer] for key, value in options[0].items()}


def drop_infeasible(names: str, items: int, *, mask_seen: bool) -> tuple[list[str], list[str]]:
    """The scorers that can be compared, and a warning for each of the others.

    Args:
        names: scorers, separated by commas.
        items: number of items; pairwise scorers take a limited number.
        mask_seen: no item of the history is listed, so that ``own_history`` could list nothing of its own.

    Raises:
        UsageError: no scorer is feasible.
    """
    scorers = list(dict.fromkeys(names.split(",")))
    reasons = {"own_history": "it lists items of the history, which --mask_seen=false allows"} if mask_seen else {}
    if items > EASE_ITEMS:
        pairs = "it needs all pairs of items, up to items² numbers, and there are"
        reasons |= dict.fromkeys(_PAIRWISE, f"{pairs} {items:,} items (at most {EASE_ITEMS:,})")
    warnings = [f"{name} is left out: {reasons[name]}" for name in scorers if name in reasons]
    if len(warnings) == len(scorers):
        raise UsageError(f"no scorer is left to compare: {'; '.join(warnings)}; name other --scorers")
    return [name for name in scorers if name not in reasons], warnings
