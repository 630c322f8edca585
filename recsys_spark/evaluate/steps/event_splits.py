"""Choose the protocol of a comparison, and its days, from the times of the events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.evaluate.kernels.split_days import Window, has_real_times, window_days
from recsys_spark.evaluate.protocols import Protocol
from recsys_spark.evaluate.steps.comparison_options import ComparisonOptions

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class EventSplit:
    """A protocol and the events that it splits: of positive weight, each with weight 1, before the day ``until``."""

    protocol: Protocol
    events: DataFrame
    until: date | None = None

    @property
    def days(self) -> dict[str, str]:
        """The days of a temporal split, by name."""
        days = {"valid_from": self.protocol.valid_from, "test_from": self.protocol.test_from, "until": self.until}
        return {name: str(day) for name, day in days.items() if day is not None}


def event_splits(events: DataFrame, options: ComparisonOptions) -> list[EventSplit]:
    """The splits to evaluate, the oldest first: ``windows`` temporal ones, or the one of another protocol.

    Raises:
        InputError: no event has a weight above 0.
        UsageError: the days contradict each other, or the events have too few days.
    """
    positive = _positive(events, options)
    day = F.unix_date(F.to_date("timestamp"))
    counts = positive.groupBy(day.alias("day")).agg(F.count("*").alias("events")).orderBy("day").toArrow()
    days, numbers = (counts[name].to_numpy().astype(np.int64) for name in ("day", "events"))
    if not len(days):
        raise InputError(
            f"no event before {options.run_date} has a weight above 0: choose another run_date or other event_weights"
        )
    found = window_days(days, numbers, options.windows)
    name = options.protocol or ("temporal" if found and _has_real_times(positive, days) else "leave_one_out")
    if name != "temporal":
        if options.windows > 1:
            raise UsageError(f"windows are parts of a temporal split, and the protocol is {name}: leave out --windows")
        return [EventSplit(Protocol(name, options.seed), positive)]
    if options.valid_from or options.test_from:
        return [_of_given_days(positive, options, found)]
    if not found:
        raise UsageError(
            f"the events are on {len(days)} days, too few for {options.windows} temporal test(s) after a "
            "validation and a day to fit on: set valid_from and test_from, or use --protocol=leave_one_out"
        )
    return [_of_days(positive, options, *window) for window in found]


def _positive(events: DataFrame, options: ComparisonOptions) -> DataFrame:
    weights = F.create_map(*(F.lit(x) for pair in sorted(options.event_weights.items()) for x in pair))
    weight = F.signum(F.coalesce(F.try_element_at(weights, F.col("event_type")), F.lit(0.0))).alias("weight")
    return events.select("user_id", "item_id", "timestamp", weight).where("weight > 0")


def _has_real_times(positive: DataFrame, days: np.ndarray) -> bool:
    first = F.min(F.unix_date(F.to_date("timestamp"))).alias("day")
    begins = positive.groupBy("user_id").agg(first).agg(F.count("*"), F.count_if(F.col("day") == int(days[0])))
    users, first_day_users = begins.collect()[0]
    return has_real_times(len(days), users, first_day_users)


def _of_given_days(positive: DataFrame, options: ComparisonOptions, found: Sequence[Window] | None) -> EventSplit:
    """A split with a day that is given; the other one may be that of the last window found."""
    if options.windows > 1:
        raise UsageError("the days of several windows are chosen from the events: leave out valid_from and test_from")
    valid, test, _ = found[-1] if found else (None, None, None)
    first, second = options.valid_from or _date(valid), options.test_from or _date(test)
    if first is None or second is None or first >= second:
        raise UsageError(f"valid_from ({first}) must be before test_from ({second}): set both days")
    return EventSplit(Protocol("temporal", options.seed, first, second), positive)


def _of_days(positive: DataFrame, options: ComparisonOptions, valid: int, test: int, until: int | None) -> EventSplit:
    """The split of a window; its days count from 1970."""
    last = _date(until)
    before = positive if last is None else positive.where(F.col("timestamp") < F.lit(str(last)).cast("timestamp"))
    return EventSplit(Protocol("temporal", options.seed, _date(valid), _date(test)), before, last)


def _date(day: int | None) -> date | None:
    return None if day is None else _EPOCH + timedelta(day)
