"""Which events speak for their item."""

from collections.abc import Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F


def is_positive_event(by_type: Mapping[str, float], min_rating: float) -> Column:
    """True for an event that speaks for its item: a rating from ``min_rating`` on, another type of positive weight."""
    positive = [name for name, weight in by_type.items() if weight > 0 and name != "rating"]
    good_rating = (F.col("event_type") == "rating") & (F.col("value") >= min_rating)
    return F.coalesce(F.col("event_type").isin(positive) | good_rating, F.lit(False))
