"""Popularity that fades, and the user's own items, against counts by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.errors import UsageError
from recsys_spark.evaluate.kernels.recency import HALF_LIVES, item_counts, total_counts
from recsys_spark.evaluate.kernels.scorers import OwnHistory
from recsys_spark.evaluate.steps.search_grids import DEFAULT_GRIDS, drop_infeasible
from tests.bench.user_histories import user_histories


def log_of(seed, events=60, items=6):
    """(owners, items, days) of a random log."""
    random = np.random.default_rng(seed)
    return random.integers(0, 9, events), random.integers(0, items - 1, events), random.uniform(10_000, 10_400, events)


def test_a_user_counts_once_by_the_newest_event_of_an_item():
    owners, items, days = log_of(1)
    counts = item_counts(owners, items, days, 6)
    newest = {(u, i): max(d for v, j, d in zip(owners, items, days, strict=True) if (v, j) == (u, i))
              for u, i in zip(owners, items, strict=True)}  # fmt: skip
    assert counts.users.tolist() == [len([pair for pair in newest if pair[1] == item]) for item in range(6)]
    for half_life, recent in zip(HALF_LIVES, counts.recent, strict=True):
        faded = [
            [0.5 ** ((days.max() - d) / half_life) for (_, i), d in newest.items() if i == item] for item in range(6)
        ]
        assert recent == pytest.approx([sum(values) for values in faded])
        levels = counts.popularity(half_life)
        assert levels[:5] == pytest.approx(np.log2(recent[:5]), rel=1e-5)
        assert levels[5] == pytest.approx(levels[:5].min() - 1)  # without users


@given(st.integers(0, 500), st.integers(1, 5))
def test_counts_do_not_depend_on_tasks(seed, tasks):
    owners, items, days = log_of(seed)
    parts = [item_counts(owners[of], items[of], days[of], 6) for of in (owners % tasks == n for n in range(tasks))]
    whole, total = item_counts(owners, items, days, 6), total_counts(parts, 6)
    assert total.users.tolist() == whole.users.tolist()
    np.testing.assert_allclose(total.recent, whole.recent)
    assert total_counts([], 6).popularity(7.0).tolist() == [0] * 6


def test_events_of_ten_years_ago_keep_their_order():
    counts = item_counts(np.arange(3), np.arange(3), np.array([4000.0, 1.0, 0.0]), 4)
    levels = counts.popularity(7.0)
    assert levels.tolist() == sorted(levels, reverse=True)
    assert len(set(levels.tolist())) == 4


def test_own_items_come_first_and_the_rest_is_popularity():
    scorer = OwnHistory(np.array([-3.0, 5.0, 1.0, 2.0], np.float32))
    histories = user_histories([[0.5, 0, 0.25, 0], [0, 0, 0, 0], [1e-200, 0, 0, 1.0]])
    scores = scorer.scores(histories)
    assert [np.argsort(-row).tolist() for row in scores] == [[0, 2, 1, 3], [1, 3, 2, 0], [3, 0, 1, 2]]
    assert scores.dtype == np.float32


def test_own_history_is_left_out_where_no_item_is_listed_twice():
    names, warnings = drop_infeasible(",".join(DEFAULT_GRIDS), 10, mask_seen=True)
    assert names == [name for name in DEFAULT_GRIDS if name != "own_history"]
    assert warnings == ["own_history is left out: it lists items of the history, which --mask_seen=false allows"]
    assert drop_infeasible(",".join(DEFAULT_GRIDS), 10, mask_seen=False) == (list(DEFAULT_GRIDS), [])
    with pytest.raises(UsageError, match="mask_seen=false"):
        drop_infeasible("own_history", 10, mask_seen=True)
