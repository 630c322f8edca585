"""The protocol and the days that the events choose, and splits that are refused."""

from datetime import UTC, date, datetime, timedelta

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.evaluate.steps.comparison_options import ComparisonOptions
from recsys_spark.evaluate.steps.event_splits import event_splits

START = datetime(2024, 1, 1, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def splits_of(spark):
    """A function: the splits of a log of (user, day) purchases."""

    def splits(log, **options):
        rows = [(f"u{user}", f"i{n}", "purchase", START + timedelta(days=day)) for n, (user, day) in enumerate(log)]
        events = spark.createDataFrame(rows, "user_id string, item_id string, event_type string, timestamp timestamp")
        return event_splits(events, ComparisonOptions(dataset="shop.toml", data=".", **options))

    return splits


DATED = [(user, 3 * user + n) for user in range(33) for n in range(2)]
POSITIONS = [(user, n) for user in range(3) for n in range(40)]


def test_events_with_real_times_are_split_by_day(splits_of):
    (split,) = splits_of(DATED)
    assert split.protocol.name == "temporal"
    assert split.days == {"valid_from": "2024-03-19", "test_from": "2024-03-29"}
    assert split.events.count() == len(DATED)
    older, newer = splits_of(DATED, windows=2)
    assert newer.days == split.days
    assert older.days == {"valid_from": "2024-03-10", "test_from": "2024-03-19", "until": "2024-03-29"}
    assert older.events.count() == sum(day < 88 for _, day in DATED)


@pytest.mark.parametrize("log", [POSITIONS, [(0, n) for n in range(99)], [(n, 0) for n in range(9)]])
def test_positions_a_single_user_and_one_day_are_left_one_out(splits_of, log):
    (split,) = splits_of(log)
    assert (split.protocol.name, split.days) == ("leave_one_out", {})


def test_a_given_day_keeps_the_other_one_of_the_events(splits_of):
    (split,) = splits_of(DATED, test_from=date(2024, 3, 25))
    assert split.days == {"valid_from": "2024-03-19", "test_from": "2024-03-25"}
    (split,) = splits_of(POSITIONS, protocol="temporal", valid_from=date(2024, 1, 3), test_from=date(2024, 1, 5))
    assert split.days == {"valid_from": "2024-01-03", "test_from": "2024-01-05"}


@pytest.mark.parametrize(
    ("log", "options", "sentence"),
    [
        ([(n, 0) for n in range(9)], {"protocol": "temporal"}, "on 1 days, too few"),
        (POSITIONS, {"windows": 2}, "the protocol is leave_one_out: leave out --windows"),
        (DATED, {"windows": 2, "valid_from": date(2024, 1, 9)}, "leave out valid_from"),
        (DATED, {"valid_from": date(2024, 5, 1)}, "valid_from .2024-05-01. must be before test_from .2024-03-29."),
        ([(n, 0) for n in range(9)], {"protocol": "temporal", "test_from": date(2024, 5, 1)}, "set both days"),
    ],
)
def test_splits_that_cannot_be_are_refused_with_a_sentence(splits_of, log, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        splits_of(log, **options)
