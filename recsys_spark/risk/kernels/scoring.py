"""Evidence → score and trust.

The evidence of a user is taken as surprise, −ln of the share of users with more of it (nats), which makes figures of
any unit comparable. Shared evidence, of accounts that are odd in the same way about the same item or have the same
history, is far more certain than a single odd figure, so the latter counts up to a bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_spark.risk.kernels.scales import NO_FIGURE, Floats, Histogram, Ints, Tail

OWN_BOUND = 5.0
"""Most nats that a figure of one account by itself counts."""

_OWN = 5.0
"""The surprises of an account by itself are added up and divided by this."""

_LEVELS = 4

REASONS = 3
"""Reasons at most."""

_LEAST_REASON = 2.0
"""Surprise from which a figure is a reason, in nats."""


@dataclass(frozen=True)
class Scorer:
    """Scores evidence.

    Args:
        tails: of each figure.
        shared: whether a figure is shared evidence.
        trust_from: score up to which the trust is 1.
        trust_step: nats of score for each further quarter.
        number: of the shared figures that count: their mean.
    """

    tails: Sequence[Tail]
    shared: NDArray[np.bool_]
    trust_from: float
    trust_step: float
    number: int

    @classmethod
    def of(
        cls,
        histograms: Mapping[int, Histogram],
        shared: Sequence[bool],
        trust_from: float,
        trust_step: float,
        number: int = 2,
    ) -> "Scorer":
        """The scorer of figures with these histograms; a figure that nobody has surprises nobody."""
        nobody = Tail(0.0, 1.0)
        tails = [Tail.of(histograms[place]) if place in histograms else nobody for place in range(len(shared))]
        return cls(tails, np.array(shared), trust_from, trust_step, number)

    def surprises(self, evidence: Ints) -> Floats:
        """(n, width) nats; figures of one account are bounded."""
        columns = [tail.surprise(evidence[:, place]) for place, tail in enumerate(self.tails)]
        nats = np.column_stack(columns) if columns else np.zeros((len(evidence), 0))
        return np.where(self.shared, nats, np.minimum(nats, OWN_BOUND))

    def __call__(self, evidence: Ints) -> dict[str, NDArray[np.generic]]:
        """``score, trust``, and ``places``: the figures that are reasons, the strongest first, −1 for none."""
        nats = self.surprises(evidence)
        score = _mean_of_greatest(nats[:, self.shared], self.number) + _sum(nats[:, ~self.shared]) / _OWN
        order = np.argsort(-nats, axis=1, kind="stable")[:, :REASONS]
        enough = np.take_along_axis(nats, order, axis=1) >= _LEAST_REASON
        trust = trust_of(score, self.trust_from, self.trust_step)
        places = np.where(enough & (trust < 1)[:, None], order, -1).astype(np.int32)
        return {"score": np.round(score, 6), "trust": trust, "places": places}


def trust_of(score: Floats, trust_from: float, trust_step: float) -> Floats:
    """1 up to ``trust_from``, a quarter above it and for every further ``trust_step``, at least 4⁻⁴.

    Powers of four: the root of a trust, and sums of them, are exact in floating point.
    """
    levels = np.where(score > trust_from, 1 + np.floor((score - trust_from) / trust_step), 0)
    return np.asarray(4.0 ** -np.minimum(levels, _LEVELS))


def _sum(nats: Floats) -> Floats:
    """Sum of each row, in the order of the columns."""
    total = np.zeros(len(nats))
    for column in range(nats.shape[1]):
        total += nats[:, column]
    return total


def _mean_of_greatest(nats: Floats, number: int) -> Floats:
    """Mean of the ``number`` greatest of each row, added in their order; 0 without columns."""
    total = np.zeros(len(nats))
    if not nats.shape[1]:
        return total
    greatest = -np.sort(-nats, axis=1)[:, :number]
    for column in range(greatest.shape[1]):
        total += greatest[:, column]
    return total / number


__all__ = ["NO_FIGURE", "OWN_BOUND", "REASONS", "Scorer", "trust_of"]
