"""Recall of an approximate join against the exact lists, estimated from a stratified sample of users."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.intervals import half_width

_BUCKETS = 1 << 40


@dataclass(frozen=True)
class Recall:
    """Mean recall@k over all users with a 95 % confidence interval, measured on ``users`` of them."""

    mean: float
    low: float
    high: float
    users: int


def stratum() -> Column:
    """Stratum of a user by the number of events: 0, 1, 2–3, 4–7, …"""
    return F.floor(F.log2(F.greatest(F.col("events"), F.lit(0)) + 1)).cast("int")


def strata(profiles: DataFrame) -> DataFrame:
    """``stratum, users``: the number of users of each stratum, a few dozen rows."""
    return profiles.groupBy(stratum().alias("stratum")).agg(F.count("*").alias("users"))


def with_strata(profiles: DataFrame, sizes: Mapping[int, int], users: int) -> DataFrame:
    """Mark a stratified sample of about ``users`` profiles, by a hash of the id, in a column ``stratum``.

    Strata get equal shares of the sample, as far as they have the users. ``stratum`` is null outside the sample.
    """
    each = users / max(len(sizes), 1)
    limits = [F.lit(x) for number, size in sizes.items() for x in (number, int(min(1.0, each / size) * _BUCKETS))]
    if not limits:
        return profiles.withColumn("stratum", F.lit(None).cast("int"))
    sampled = F.pmod(F.xxhash64("user_id"), F.lit(_BUCKETS)) < F.element_at(F.create_map(*limits), stratum())
    return profiles.withColumn("stratum", F.when(sampled, stratum()))


def estimated(shares: Sequence[tuple[int, float]], sizes: Mapping[int, int]) -> Recall:
    """Estimate the mean over all users from shares by stratum: Σ Wₕ·x̄ₕ ± 1.96·√(Σ Wₕ²·sₕ²/nₕ·(1 − nₕ/Nₕ)).

    Cochran, Sampling Techniques (1977), chapter 5. A stratum with one sampled user gets the variance of the whole
    sample. The recall of an empty sample is 1. If all n sampled shares are equal, users outside the sample may still
    differ: with 95 % confidence at most 3/n of them do (Hanley and Lippman-Hand, JAMA 249, 1983).

    Args:
        shares: stratum and recall of each sampled user.
        sizes: number of users of each stratum.
    """
    if not shares:
        return Recall(1.0, 1.0, 1.0, 0)
    by_stratum: dict[int, list[float]] = {}
    for number, share in shares:
        by_stratum.setdefault(number, []).append(share)
    total = sum(sizes[number] for number in by_stratum)
    overall = _variance([share for _, share in shares])
    mean = spread = 0.0
    for number, values in by_stratum.items():
        weight, n = sizes[number] / total, len(values)
        mean += weight * sum(values) / n
        variance = _variance(values) if n > 1 else overall
        spread += weight**2 * variance / n * (1 - min(n / sizes[number], 1))
    half = half_width(math.sqrt(spread)) if spread else 3 / len(shares) * max(1 - len(shares) / total, 0.0)
    return Recall(mean, max(mean - half, 0.0), min(mean + half, 1.0), len(shares))


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
