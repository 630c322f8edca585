"""Summarise a comparison: sums over users to metrics with intervals, gaps between groups, and warnings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recsys_spark.evaluate.comparison import METRICS
from recsys_spark.evaluate.kernels.metrics import coverage, gini, interval

Totals = Mapping[str, Sequence[Any]]
"""By slice, the ``_Total`` of each candidate."""

OBJECTIVE = ("hit_rate", "ndcg")
"""The sum of both chooses a setting; warnings compare each of them."""

_TEXT_SCORERS = ("cosine", "cosine_whitened", "cosine_blocks")

_PLAIN_SCORERS = ("tfidf", "popularity")


def objective(means: Any) -> float:
    """The value by which validation chooses a setting."""
    return float(sum(means[METRICS.index(metric)] for metric in OBJECTIVE))


def metrics_of(total: Any, k: int) -> dict[str, float]:
    """All metrics with their intervals. Undefined ones are left out, since JSON has no NaN."""
    exposure = {f"coverage@{k}": coverage(total.exposure), f"gini@{k}": gini(total.exposure)}
    return {"users": total.users} | _with_intervals(total, METRICS, k) | _finite(exposure)


def slice_metrics(total: Any, k: int) -> dict[str, float]:
    """The users of a slice and the metrics of the objective with their intervals."""
    return {"users": total.users} | (_with_intervals(total, OBJECTIVE, k) if total.users else {})


def validation_metrics(means: Any, k: int) -> dict[str, float]:
    """The metrics of the objective that the chosen setting reached on validation."""
    return _finite({f"{metric}@{k}": means[METRICS.index(metric)] for metric in OBJECTIVE})


def gaps(totals: Totals, names: Sequence[str], k: int) -> dict[str, dict[str, dict[str, float]]]:
    """For each user attribute and each scorer, the NDCG of the best group minus that of the worst, with an interval.

    The best and the worst group are those of the whole sample; the interval is of their difference over the same
    replicates.
    """
    number, by_attribute = METRICS.index("ndcg"), dict[str, dict[str, dict[str, float]]]()
    groups = [name.removeprefix("users: ") for name in totals if name.startswith("users: ")]
    for attribute in sorted({group.partition(": ")[0] for group in groups}):
        slices = [f"users: {group}" for group in groups if group.partition(": ")[0] == attribute]
        for candidate, scorer in enumerate(names):
            means = [totals[name][candidate].means[:, number] for name in slices if totals[name][candidate].users]
            if len(means) > 1:
                ordered = sorted(means, key=lambda mean: float(mean[0]))
                difference = ordered[-1] - ordered[0]
                low, high = interval(difference[1:])
                values = {f"ndcg@{k}_gap": difference[0], f"ndcg@{k}_low": low, f"ndcg@{k}_high": high}
                by_attribute.setdefault(attribute, {})[scorer] = _finite(values)
    return by_attribute


def windows_summary(reports: Sequence[Mapping[str, Any]], k: int) -> dict[str, dict[str, float]]:
    """By scorer, the mean of each metric of the objective over the windows and its standard deviation (n − 1), the
    ``spread``; empty for one window."""
    if len(reports) < 2:
        return {}
    names = [f"{metric}@{k}" for metric in OBJECTIVE]
    summary: dict[str, dict[str, float]] = {}
    for scorer in reports[0]["metrics"]:
        for name in names:
            values = [report["metrics"][scorer][name] for report in reports]
            figures = {name: np.mean(values), f"{name}_spread": np.std(values, ddof=1)}
            summary.setdefault(scorer, {"windows": len(values)}).update(_finite(figures))
    return summary


def warnings_of(metrics: Mapping[str, Mapping[str, float]], k: int) -> list[str]:
    """Warn of text embeddings that lose to words or to popularity, by either metric of the objective."""
    return [
        f"{text} ({metrics[text][name]:.4f}) loses to {plain} ({metrics[plain][name]:.4f}) by {name}"
        for text in _TEXT_SCORERS
        for plain in _PLAIN_SCORERS
        for name in (f"{metric}@{k}" for metric in OBJECTIVE)
        if text in metrics and plain in metrics and metrics[text][name] < metrics[plain][name]
    ]


def _with_intervals(total: Any, metrics: Sequence[str], k: int) -> dict[str, float]:
    values: dict[str, float] = {}
    for metric in metrics:
        number = METRICS.index(metric)
        low, high = interval(total.means[1:, number])
        values |= {f"{metric}@{k}": total.means[0, number], f"{metric}@{k}_low": low, f"{metric}@{k}_high": high}
    return _finite(values)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items() if np.isfinite(value)}
