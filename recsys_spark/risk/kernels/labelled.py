"""Scores from labels, and how good scores are by labels: a logistic regression on surprises, AUC, a cost curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.risk.kernels.scales import Floats, Histogram, Ints, Tail
from recsys_spark.risk.kernels.scoring import REASONS, Scorer, trust_of

LOGIT_STEPS = 256


@dataclass(frozen=True)
class LabelledScorer:
    """Scores evidence by a regression on its surprises: the score is the surprise of the log-odds.

    Args:
        scorer: of the surprises.
        weights: (width,) of the surprises.
        intercept: log-odds without surprise.
        tail: of the log-odds in multiples of 1 / LOGIT_STEPS.
    """

    scorer: Scorer
    weights: Floats
    intercept: float
    tail: Tail

    def __call__(self, evidence: Ints) -> dict[str, NDArray[np.generic]]:
        """As ``Scorer``; reasons are the greatest contributions to the log-odds."""
        parts = self.scorer.surprises(evidence) * self.weights
        score = self.tail.surprise(log_odds(parts, self.intercept))
        order = np.argsort(-parts, axis=1, kind="stable")[:, :REASONS]
        trust = trust_of(score, self.scorer.trust_from, self.scorer.trust_step)
        positive = np.take_along_axis(parts, order, axis=1) > 0
        places = np.where(positive & (trust < 1)[:, None], order, -1).astype(np.int32)
        return {"score": np.round(score, 6), "trust": trust, "places": places}


def log_odds(parts: Floats, intercept: float) -> Ints:
    """Sum of the contributions in their order and the intercept, in multiples of 1 / LOGIT_STEPS."""
    total = np.full(len(parts), intercept)
    for column in range(parts.shape[1]):
        total += parts[:, column]
    return np.round(np.clip(total, -60, 60) * LOGIT_STEPS).astype(np.int64)


def area_under_curve(positive: Histogram, negative: Histogram) -> float:
    """Probability that one with the label has a greater score than one without; equal scores count half."""
    below = np.concatenate([[0], np.cumsum(negative.counts)])
    first = np.searchsorted(negative.values, positive.values, side="left")
    last = np.searchsorted(negative.values, positive.values, side="right")
    wins = (below[first] + below[last]) / 2
    return float((wins * positive.counts).sum() / (positive.total * negative.total))


def cost_curve(
    positive: Histogram, negative: Histogram, budgets: Sequence[int], review_cost: float, miss_cost: float
) -> list[Mapping[str, float]]:
    """``budget, precision, recall, cost`` of a review of the greatest scores.

    Equal scores at the border count by their share. The cost is that of the reviews and of those with the label that
    they miss.
    """
    values = np.unique(np.concatenate([positive.values, negative.values]))[::-1]
    with_label, without = (_counts(one, values) for one in (positive, negative))
    seen = np.concatenate([[0], np.cumsum(with_label + without)])
    caught = np.concatenate([[0], np.cumsum(with_label)])
    rows: list[Mapping[str, float]] = []
    for budget in budgets:
        number = min(budget, int(seen[-1]))
        hits = float(np.interp(number, seen, caught))
        cost = number * review_cost + (positive.total - hits) * miss_cost
        figures = {"precision": hits / number, "recall": hits / positive.total, "cost": cost}
        rows.append({"budget": number} | {name: round(figure, 4) for name, figure in figures.items()})
    return rows


def _counts(histogram: Histogram, values: Ints) -> Ints:
    counts = np.zeros(len(values), np.int64)
    counts[np.searchsorted(-values, -histogram.values)] = histogram.counts
    return counts
