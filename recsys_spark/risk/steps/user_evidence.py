"""events, items and users → the evidence about every user."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.hybrid.item_features import word_values
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.risk.evidence import OF_USERS, STEPS
from recsys_spark.risk.kernels.scales import NO_FIGURE, shrunk_covariance, whitener
from recsys_spark.risk.lockstep import lockstep_figures
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.scaled_figures import with_distances, z_scores
from recsys_spark.risk.shared_figures import item_sums, praised_pairs, user_strengths, with_deviations
from recsys_spark.risk.steps.histograms import moments, peer_scales
from recsys_spark.risk.twins import signatures, similar_owners
from recsys_spark.risk.user_figures import (
    category_figures,
    coherence_figures,
    popularity_figures,
    text_figures,
    time_figures,
    value_figures,
)
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS

SHARED = [place for place, one in enumerate(OF_USERS) if one.shared]

GROUPED = len(SHARED) + 2
"""Figures in ``evidence`` that several accounts have in common: shared figures, twins, lockstep."""

WIDTH = len(OF_USERS) + 1 + GROUPED
"""Figures in ``evidence`` of a user: z-scores, distance, and GROUPED ones."""


@dataclass(frozen=True)
class Log:
    """The events before the run date, and what praises an item: a rating with the greatest value, or an event of
    another type with a positive weight."""

    events: DataFrame
    top: float | None
    options: RiskOptions

    def praised(self) -> DataFrame:
        """``user_id, item_id``: the pairs with an event that praises the item."""
        top = float("inf") if self.top is None else self.top
        return praised_pairs(self.events, is_positive_event(self.options.event_weights, top))


def log_of(run: Run, inputs: InputVersions, options: RiskOptions) -> Log:
    """The log of a run.

    Raises:
        QualityError: it has fewer than two users, who could be compared.
    """
    events = events_before(inputs.frame(run, EVENTS), options.run_date)
    rating = F.when(F.col("event_type") == "rating", F.col("value"))
    row = events.agg(
        F.min("user_id").alias("first"), F.max("user_id").alias("last"), F.max(rating).alias("top")
    ).collect()[0]
    if row["first"] == row["last"]:
        number = "no user" if row["first"] is None else "one user"
        raise QualityError(
            f"table 'events' has {number} before {options.run_date}: risk compares users, and needs two or more"
        )
    return Log(events, row["top"], options)


def user_figures(run: Run, inputs: InputVersions, log: Log) -> DataFrame:
    """``user_id, events`` and the figures of OF_USERS."""
    events, items = log.events, inputs.frame(run, ITEMS)
    pairs = events.select("user_id", "item_id").distinct()
    parts = [time_figures(events), popularity_figures(pairs), value_figures(events), category_figures(events, items)]
    if USERS.name in inputs.versions:
        parts.append(text_figures(inputs.frame(run, USERS)))
    parts.append(coherence_figures(pairs, word_values(items)))
    rows = events.groupBy("user_id").agg(F.count("*").alias("events"))
    for part in parts:
        rows = rows.join(part, on="user_id", how="left")
    absent = [one.name for one in OF_USERS if one.name not in rows.columns]
    return rows.withColumns({name: F.lit(None).cast("double") for name in absent})


def user_evidence(log: Log, deviations: DataFrame) -> DataFrame:
    """``user_id, evidence`` (array<int> of WIDTH, in steps).

    Args:
        deviations: ``user_id, z, distance`` of ``user_deviations``.
    """
    praised = log.praised()
    rows = with_deviations(praised, deviations, SHARED)
    shared = user_strengths(rows, item_sums(rows, len(SHARED)), len(SHARED))
    alike = similar_owners(
        signatures(log.events.select("user_id", "item_id").distinct(), "user_id", "item_id"), "user_id"
    )
    alike = alike.select("user_id", F.round(F.col("twins") * STEPS).cast("int").alias("twins"))
    together = lockstep_figures(log.events)
    together = together.select("user_id", F.round(F.col("lockstep") * STEPS).cast("int").alias("lockstep"))
    joined = deviations
    for part in (shared, alike, together):
        joined = joined.join(part, on="user_id", how="left")
    nothing = F.array_repeat(F.lit(NO_FIGURE), len(SHARED))
    grouped = F.array(*(F.coalesce(name, F.lit(NO_FIGURE)) for name in ("twins", "lockstep")))
    evidence = F.concat("z", F.array("distance"), F.coalesce("shared", nothing), grouped)
    return joined.select("user_id", evidence.alias("evidence"))


def user_deviations(steps: DataFrame) -> DataFrame:
    """``user_id, z, distance``: z-scores among peers, and their Mahalanobis distance.

    Args:
        steps: ``user_id, class, figures``, from ``in_steps``; read three times.

    Raises:
        QualityError: no figure varies.
    """
    width = len(OF_USERS)
    scales = peer_scales(steps, width)
    if not any((scale > 0).any() for _, scale in scales.values()):
        raise QualityError(
            "all users have the same figures: times, values, items and categories do not vary, so nobody can be "
            "unusual; nothing was published"
        )
    z = z_scores(steps, "user_id", scales)
    n, sums, products = moments(z, width)
    mean, covariance = shrunk_covariance(products, sums, n)
    return with_distances(z, "user_id", mean, whitener(covariance))
