"""Train the ranker, and keep it if it makes better lists than every simple one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_spark.ranking.kernels.features import FEATURES, POPULARITY
from recsys_spark.ranking.kernels.rankers import SIMPLE, TREES, Ranker
from recsys_spark.ranking.kernels.sampling import sampled
from recsys_spark.ranking.kernels.selection import Examples, best_of, difference
from recsys_spark.ranking.kernels.trees import LOGISTIC, Trees, TreeSettings, fit_trees

FALLBACK = "popularity_30"
"""The ranker without anything to measure on."""

_OF_USERS = tuple(name for name in FEATURES if name.startswith("user_"))
"""With few users, trees learn from these which of them chose much, and rank worse."""

FEWEST_USERS = 30
"""Fewest users whose lists are compared; with fewer, FALLBACK is used."""


@dataclass(frozen=True)
class Choice:
    """The ranker of the lists, whether items that a user had are listed again, and what both were chosen by."""

    ranker: Ranker
    repeats: bool
    figures: Mapping[str, Any]

    @property
    def description(self) -> str:
        """What the choice rests on, in words."""
        if "reason" in self.figures:
            return str(self.figures["reason"])
        gain, half, simple = (self.figures[name] for name in ("gain", "gain_half_interval", "best_simple"))
        again = "may" if self.repeats else "must not"
        compared = f"NDCG {gain:+.4f} ± {half:.4f} against {simple}, {self.figures['users']:,} users"
        return f"{compared}; items {again} be listed again"


def fallback(repeats: str) -> Choice:
    """The choice where fewer than FEWEST_USERS chose something in the newest window."""
    allowed, reason = repeats == "allow", f"too few users to compare: fewer than {FEWEST_USERS}"
    return Choice(Ranker(FALLBACK), allowed, {"ranker": FALLBACK, "repeats": allowed, "reason": reason})


def choose(train: Examples, valid: Examples, k: int, *, repeats: str, negatives: int, seed: int) -> Choice:
    """Train rankers on ``train``, compare them with the simple ones on ``valid``, and train the best one on both.

    Args:
        train: of windows before that of ``valid``, with at most ``negatives`` candidates of a user that are not
            relevant.
        valid: all candidates of the users in the newest window.
        k: length of the lists that are compared, by NDCG.
        repeats: ``allow``, ``mask``, or ``auto``: allow where the best lists are better for it.
        negatives: candidates that are not relevant, of each user of ``valid``, in the last training.
        seed: of the trees.
    """
    if len(np.unique(valid.users)) < FEWEST_USERS:
        return fallback(repeats)
    allowed = repeats == "allow" or (repeats == "auto" and _wants_repeats(valid, k))
    rankers = {name: Ranker(name) for name in SIMPLE if allowed or not name.startswith("own_")}
    figures = {name: valid.ndcg(one.scores(valid.features), k, repeats=allowed) for name, one in rankers.items()}
    base = best_of({name: figures[name] for name in POPULARITY})
    settings = {
        f"{TREES}_items": TreeSettings(base=FALLBACK, rounds=60, unused=_OF_USERS, seed=seed),
        f"{TREES}_60": TreeSettings(base=base, rounds=60, seed=seed),
        f"{TREES}_120": TreeSettings(base=base, rounds=120, seed=seed),
        f"{TREES}_logistic": TreeSettings(base=LOGISTIC, rounds=120, seed=seed),
    }
    for name, one in settings.items() if train.relevant.any() else ():
        trees = _fitted(train, allowed, one)
        figures[name] = valid.ndcg(trees.scores(valid.features), k, repeats=allowed)
    best = best_of(figures)
    simple = best_of({name: values for name, values in figures.items() if name in SIMPLE})
    ranker = Ranker(best)
    if best in settings:
        kept = valid.relevant | sampled(valid.users, valid.items, ~valid.relevant, negatives)
        ranker = Ranker(TREES, _fitted(train.with_others(valid.part(kept)), allowed, settings[best]))
    gain = difference(figures[best], figures[simple])
    return Choice(
        ranker,
        allowed,
        {
            "ranker": best,
            "repeats": allowed,
            "users": len(figures[best]),
            "ndcg": {name: round(float(values.mean()), 5) for name, values in figures.items()},
            "best_simple": simple,
            "gain": round(gain.mean, 5),
            "gain_half_interval": round(gain.half, 5),
        },
    )


def _wants_repeats(valid: Examples, k: int) -> bool:
    """Whether some simple ranker makes better lists with items that users had than all of them without these."""
    return max(_mean(valid, name, k, again=True) for name in SIMPLE) > max(
        _mean(valid, name, k, again=False) for name in SIMPLE
    )


def _mean(valid: Examples, name: str, k: int, *, again: bool) -> float:
    """NDCG of a simple ranker where items that users had are wanted, and are listed (``again``) or not."""
    scores = Ranker(name).scores(valid.features)
    shown = scores if again else np.where(valid.had, -np.inf, scores).astype(np.float32)
    return float(valid.ndcg(shown, k, repeats=True).mean())


def _fitted(examples: Examples, repeats: bool, settings: TreeSettings) -> Trees:
    used = examples if repeats else examples.part(~examples.had)
    return fit_trees(used.features, used.relevant, settings)
