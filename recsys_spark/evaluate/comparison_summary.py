"""What a comparison says: sums of users to metrics with intervals, gaps between groups, and warnings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsys_spark.evaluate.comparison import METRICS
from recsys_spark.evaluate.kernels.metrics import coverage, gini, interval

Totals = Mapping[str, Sequence[Any]]
"""Of each slice, ``_Total`` of each contestant."""

OBJECTIVE = ("hit_rate", "ndcg")
"""Settings are chosen by the sum of both, and warnings look at each."""

_TEXT_ROWS = ("cosine", "cosine_whitened", "cosine_blocks")

_PLAIN_ROWS = ("tfidf", "popularity")


def judged(means: Any) -> float:
    """What a setting is worth on validation."""
    return float(sum(means[METRICS.index(metric)] for metric in OBJECTIVE))


def metrics_of(total: Any, at: int) -> dict[str, float]:
    """All metrics with intervals; those that say nothing here are left out (JSON has no NaN)."""
    found = _with_intervals(total, METRICS, at)
    shown = {f"coverage@{at}": coverage(total.exposure), f"gini@{at}": gini(total.exposure)}
    return {"users": total.users} | found | _finite(shown)


def in_short(total: Any, at: int) -> dict[str, float]:
    """What a table of slices shows."""
    return {"users": total.users} | (_with_intervals(total, OBJECTIVE, at) if total.users else {})


def on_validation(means: Any, at: int) -> dict[str, float]:
    """What the chosen setting reached where it was chosen."""
    return _finite({f"{metric}@{at}": means[METRICS.index(metric)] for metric in OBJECTIVE})


def gaps(totals: Totals, names: Sequence[str], at: int) -> dict[str, dict[str, dict[str, float]]]:
    """For each attribute of users and each scorer, how far the groups' NDCG lie apart, with an interval.

    The interval is that of the best group less the worst, both as found, over the same replicates.
    """
    number, found = METRICS.index("ndcg"), dict[str, dict[str, dict[str, float]]]()
    groups = [name.removeprefix("users: ") for name in totals if name.startswith("users: ")]
    for attribute in sorted({group.partition(": ")[0] for group in groups}):
        own = [f"users: {group}" for group in groups if group.partition(": ")[0] == attribute]
        for place, scorer in enumerate(names):
            means = [totals[name][place].means[:, number] for name in own if totals[name][place].users]
            if len(means) > 1:
                ordered = sorted(means, key=lambda mean: float(mean[0]))
                apart = ordered[-1] - ordered[0]
                low, high = interval(apart[1:])
                values = {f"ndcg@{at}_gap": apart[0], f"ndcg@{at}_low": low, f"ndcg@{at}_high": high}
                found.setdefault(attribute, {})[scorer] = _finite(values)
    return found


def warnings_of(metrics: Mapping[str, Mapping[str, float]], at: int) -> list[str]:
    """Where a row of text embeddings loses to words or to popularity, by either metric."""
    return [
        f"{text} ({metrics[text][name]:.4f}) loses to {plain} ({metrics[plain][name]:.4f}) by {name}"
        for text in _TEXT_ROWS
        for plain in _PLAIN_ROWS
        for name in (f"{metric}@{at}" for metric in OBJECTIVE)
        if text in metrics and plain in metrics and metrics[text][name] < metrics[plain][name]
    ]


def _with_intervals(total: Any, metrics: Sequence[str], at: int) -> dict[str, float]:
    values: dict[str, float] = {}
    for metric in metrics:
        number = METRICS.index(metric)
        low, high = interval(total.means[1:, number])
        values |= {f"{metric}@{at}": total.means[0, number], f"{metric}@{at}_low": low, f"{metric}@{at}_high": high}
    return _finite(values)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items() if np.isfinite(value)}
