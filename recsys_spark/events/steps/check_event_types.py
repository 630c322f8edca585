"""Check that the events of a lake have weights and a plausible rating scale."""

import logging

from pyspark.sql import functions as F

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.events.options import EventOptions, HistoryOptions
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS

_RATING = "rating"

_SHOWN_TYPES = 10

_ENOUGH_RATINGS = 20
"""Ratings from which their range says what the scale is."""

_logger = logging.getLogger(__name__)


def check_event_types(run: Run, inputs: InputVersions, options: EventOptions) -> None:
    """Refuse event types that have no weight: a silent 0 would hide a whole class of events.

    Ratings that all lie below ``rating_center`` are refused too, a few are told: liking would count as disliking.
    """
    events = events_before(inputs.frame(run, EVENTS), options.run_date)
    rated = F.when(F.col("event_type") == _RATING, F.col("value"))
    types = events.groupBy("event_type").agg(
        F.min(rated).alias("least"), F.max(rated).alias("most"), F.count(rated).alias("rows")
    )
    weighed = F.col("event_type").isin(*options.event_weights)
    # Those with a weight are few; of the others a few are shown.
    found = types.orderBy(weighed, "event_type").limit(_SHOWN_TYPES + len(options.event_weights)).collect()
    if unknown := [row["event_type"] for row in found if row["event_type"] not in options.event_weights]:
        raise UsageError(
            f"table 'events' has event types without a weight: {', '.join(unknown[:_SHOWN_TYPES])}; add them to "
            "event_weights"
        )
    if isinstance(options, HistoryOptions):
        ratings = next((row for row in found if row["event_type"] == _RATING and row["least"] is not None), None)
        if ratings is not None:
            _check_scale(ratings["least"], ratings["most"], ratings["rows"], options.rating_center)


def _check_scale(least: float, most: float, rows: int, center: float) -> None:
    if most <= center and least < center:
        said = (
            f"all {rows:,} ratings lie between {least:g} and {most:g}, none above rating_center {center:g}: what was "
            "liked counts against it. Set --rating_center to the value that is neither liked nor disliked, such as "
            f"{(least + most) / 2 if least < most else least - 1:g}"
        )
        if rows >= _ENOUGH_RATINGS:
            raise QualityError(said)
        _logger.warning("warning: %s", said)
    elif least > center and least < most and rows >= _ENOUGH_RATINGS:
        _logger.warning(
            "warning: all %s ratings lie between %g and %g, above rating_center %g: none speaks against its item",
            f"{rows:,}", least, most, center,
        )  # fmt: skip
