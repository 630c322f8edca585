"""Exploration: the stored probability is that of every possible draw, counted one by one."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.recommend.kernels.exploration import Exploration, explored


def probabilities(candidates, settings):
    """(candidate, position) → probability: every set of drawn positions, every order of items out of its pool."""
    shown = min(settings.slots, candidates)
    tail, table = range(settings.head, shown), np.zeros((candidates, shown))
    for size in range(len(tail) + 1):
        for drawn in combinations(tail, size):
            pool = [*drawn, *range(shown, candidates)]
            ways = list(permutations(pool, size))
            chance = settings.share**size * (1 - settings.share) ** (len(tail) - size) / len(ways)
            for items in ways:
                lists = dict(zip(range(shown), range(shown), strict=True)) | dict(zip(drawn, items, strict=True))
                for place, item in lists.items():
                    table[item, place] += chance
    return table


@given(
    st.integers(1, 6), st.integers(1, 4), st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 99)
)
def test_the_probability_is_that_of_all_draws_counted_one_by_one(candidates, slots, head, share, seed):
    settings = Exploration(share, slots, head, seed)
    table = probabilities(candidates, settings)
    np.testing.assert_allclose(table.sum(axis=0), 1)
    chosen, propensity = explored(np.full(20, candidates), np.arange(20), settings)
    shown = min(slots, candidates)
    assert (chosen[:, shown:] == -1).all()
    assert np.isnan(propensity[:, shown:]).all()
    for row, chances in zip(chosen[:, :shown], propensity[:, :shown], strict=True):
        assert len(set(row)) == shown, "no item twice"
        np.testing.assert_allclose(chances, [table[item, place] for place, item in enumerate(row)])


def test_items_are_shown_as_often_as_their_probability_says():
    settings, users = Exploration(0.4, 3, 1, seed=5), 60_000
    chosen, _ = explored(np.full(users, 5), np.arange(users), settings)
    counted = np.stack([(chosen == item).mean(axis=0) for item in range(5)])
    np.testing.assert_allclose(counted, probabilities(5, settings), atol=4 * 0.5 / users**0.5)


def test_draws_depend_on_the_hash_and_the_seed_alone():
    sizes, hashes = np.array([9, 3, 0, 5, 1]), np.array([7, -3, 11, 2, 8])
    together = explored(sizes, hashes, Exploration(0.5, 4))
    for user in range(5):
        alone = explored(sizes[user : user + 1], hashes[user : user + 1], Exploration(0.5, 4))
        for one, all_users in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_users[user])
    many = np.arange(500)
    first, other = (explored(np.full(500, 9), many, Exploration(0.5, 4, seed=seed))[0] for seed in (0, 1))
    assert (first != other).any()


def test_the_head_and_lists_without_exploration_stay_as_they_are():
    chosen, propensity = explored(np.full(200, 8), np.arange(200), Exploration(1.0, 4, head=2))
    assert (chosen[:, :2] == [0, 1]).all()
    assert propensity[:, :2] == pytest.approx(np.ones((200, 2)))
    assert propensity[:, 2:] == pytest.approx(np.full((200, 2), 1 / 6), rel=0.5)
    chosen, propensity = explored(np.full(9, 8), np.arange(9), Exploration(0.0, 4))
    assert (chosen == np.arange(4)).all()
    assert (propensity == 1).all()
    assert explored(np.zeros(0, int), np.zeros(0, int), Exploration(0.5, 4))[0].shape == (0, 4)
