"""Check that the events of a lake have weights and a plausible rating scale."""

import logging

from pyspark.sql import functions as F

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.events.options import EventOptions, HistoryOptions
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.presets import preset_values
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS

_RATING = "rating"

_NAMED_TYPES = 10

_ENOUGH_RATINGS = 20
"""Number of ratings from which their range shows the scale."""

_logger = logging.getLogger(__name__)


def check_event_types(run: Run, inputs: InputVersions, options: EventOptions) -> None:
    """Check that every event type has a weight and that ``rating_center`` fits the scale of the ratings.

    A silent weight of 0 would hide a whole class of events. If no rating is above the center, even those of liked items
    count against them; where the ratings are too few to show the scale, that is a warning only.

    Raises:
        UsageError: there are event types without a weight.
        QualityError: no rating is above ``rating_center``.
    """
    events = events_before(inputs.frame(run, EVENTS), options.run_date)
    rating = F.when(F.col("event_type") == _RATING, F.col("value"))
    types = events.groupBy("event_type").agg(
        F.min(rating).alias("least"), F.max(rating).alias("most"), F.count(rating).alias("rows")
    )
    has_weight = F.col("event_type").isin(*options.event_weights)
    # Event types with a weight are few; the others can be many, and an error names the first of them.
    rows = types.orderBy(has_weight, "event_type").limit(_NAMED_TYPES + len(options.event_weights)).collect()
    if unknown := [row["event_type"] for row in rows if row["event_type"] not in options.event_weights]:
        raise UsageError(
            f"table 'events' has event types without a weight: {', '.join(unknown[:_NAMED_TYPES])}; add them to "
            f"event_weights{_of_preset(options)}"
        )
    _check_preset({row["event_type"] for row in rows}, options)
    if isinstance(options, HistoryOptions):
        ratings = next((row for row in rows if row["event_type"] == _RATING and row["least"] is not None), None)
        if ratings is not None:
            _check_scale(ratings["least"], ratings["most"], ratings["rows"], options.rating_center)


def _of_preset(options: EventOptions) -> str:
    weights = {} if options.preset is None else preset_values(options.preset).get("event_weights")
    return f", which are those of preset '{options.preset}'" if weights == options.event_weights else ""


def _check_preset(types: set[str], options: EventOptions) -> None:
    """Warn of types that the preset weighs and that never occur: it may be about other events.

    Raises:
        UsageError: no event has a positive weight.
    """
    weights = options.event_weights if _of_preset(options) else {}
    absent = sorted(set(weights) - types)
    if types and weights and not any(weights.get(name, 0) > 0 for name in types):
        raise UsageError(
            f"preset '{options.preset}' does not fit: of the event types that it counts for an item, "
            f"{', '.join(name for name in absent if weights[name] > 0)}, none occurs in table 'events', which has "
            f"{', '.join(sorted(types))}. Take another preset, or set event_weights"
        )
    if absent:
        _logger.warning(
            "warning: preset '%s' weighs %s, which never occurs in table 'events': does it fit?",
            options.preset, ", ".join(absent),
        )  # fmt: skip


def _check_scale(least: float, most: float, rows: int, center: float) -> None:
    if most <= center and least < center:
        message = (
            f"all {rows:,} ratings lie between {least:g} and {most:g}, none above rating_center {center:g}: ratings of "
            "liked items would count against them. Set --rating_center to the neutral rating, such as "
            f"{(least + most) / 2 if least < most else least - 1:g}"
        )
        if rows >= _ENOUGH_RATINGS:
            raise QualityError(message)
        _logger.warning("warning: %s", message)
    elif least > center and least < most and rows >= _ENOUGH_RATINGS:
        _logger.warning(
            "warning: all %s ratings lie between %g and %g, above rating_center %g: none counts against its item",
            f"{rows:,}", least, most, center,
        )  # fmt: skip
