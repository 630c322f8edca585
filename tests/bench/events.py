"""Events of a few users."""

from datetime import UTC, date, datetime

from recsys_spark.events.weights import EventWeights

EVENT_DDL = "user_id string, item_id string, event_type string, timestamp timestamp, value double"


RUN_DATE = date(2024, 3, 1)


MIDNIGHT = datetime(2024, 3, 1, tzinfo=UTC)


BY_TYPE = {"view": 1.0, "purchase": 3.0, "rating": 1.0, "skip": -1.0}


WEIGHTS = EventWeights(BY_TYPE, rating_center=3.0, half_life_days=30)


def utc(moment):
    return moment.astimezone(UTC)
