"""Training the ranker: which events the item weights of its windows are made from."""

from datetime import date, datetime, timedelta
from types import SimpleNamespace

import pytest

from recsys_spark.ranking.steps.train_ranker import _days_of_weights

STARTS = [date(2024, 1, 3), date(2024, 1, 4), date(2024, 1, 5)]


@pytest.mark.parametrize(
    ("events_a_day", "days"),
    [([20, 20, 20, 20, 20], STARTS), ([60, 50, 5, 5, 5], STARTS[:1] * 3)],
    ids=["short log", "long log"],
)
def test_weights_are_made_for_every_window_where_the_log_grows_much_in_them(spark, events_a_day, days):
    first = datetime(2024, 1, 1, 12)
    rows = [(first + timedelta(days=day),) for day, number in enumerate(events_a_day) for _ in range(number)]
    cut = SimpleNamespace(events=spark.createDataFrame(rows, "timestamp timestamp"))
    assert _days_of_weights(cut, STARTS) == days
