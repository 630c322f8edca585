"""Team draft against its slow lines, and between lists that are equally good."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.arrays.hashed_draws import streams, uniform
from recsys_spark.online.kernels.interleaving import sign_test, team_draft


def slow(first, second, slots, coins):
    """One user's draft."""
    shown, teams = [], []
    for slot in range(slots):
        sides = [[item for item in one if item not in shown] for one in (first, second)]
        if not any(sides):
            break
        sizes = teams.count(0), teams.count(1)
        team = int(coins[slot] < 0.5) if sizes[0] == sizes[1] else int(sizes[1] < sizes[0])
        team = team if sides[team] else 1 - team
        shown.append(sides[team][0])
        teams.append(team)
    return shown, teams


LIST = st.lists(st.integers(0, 6), unique=True, max_size=5)


def padded(lists, width):
    return np.array([[*one, *[-1] * (width - len(one))] for one in lists]).reshape(len(lists), width)


@given(st.lists(st.tuples(LIST, LIST), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 9))
def test_the_draft_is_that_of_its_slow_lines(pairs, slots, seed):
    hashes = np.arange(len(pairs)) - 2
    items, teams = team_draft(*(padded(one, 5) for one in zip(*pairs, strict=True)), slots, hashes, seed)
    coins = np.stack([uniform(streams(hashes, seed), slot) for slot in range(slots)], axis=1)
    for user, (first, second) in enumerate(pairs):
        shown, own = slow(first, second, slots, coins[user])
        assert items[user].tolist() == [*shown, *[-1] * (slots - len(shown))]
        assert teams[user].tolist() == [*own, *[-1] * (slots - len(own))]


def test_a_user_s_draft_depends_on_no_other_user():
    rng = np.random.default_rng(0)
    lists = [np.argsort(rng.random((50, 9)), axis=1)[:, :6] for _ in range(2)]
    hashes = rng.integers(2**63, size=50)
    whole = team_draft(*lists, 6, hashes)
    for user in (0, 17, 49):
        alone = team_draft(*(one[user : user + 1] for one in lists), 6, hashes[user : user + 1])
        assert [part[0].tolist() for part in alone] == [part[user].tolist() for part in whole]


def wins(users, seed, better):
    """Users of each team with more clicks; ``better``: how much more probable a click on the second list's items is."""
    rng = np.random.default_rng(seed)
    first, second = (np.argsort(rng.random((users, 12)), axis=1)[:, :8] for _ in range(2))
    _, teams = team_draft(first, second, 6, rng.integers(2**63, size=users), seed)
    clicked = rng.random(teams.shape) < np.array([0.5, 0.4, 0.3, 0.2, 0.2, 0.2]) * np.where(teams, 1 + better, 1)
    clicks = [(clicked & (teams == team)).sum(axis=1) for team in (0, 1)]
    return (clicks[0] > clicks[1]).sum(), (clicks[1] > clicks[0]).sum()


def test_equals_have_no_preference_and_the_better_list_wins():
    """At a level of 95 %, about 5 of 100 tests of equals find a preference; positions of both teams are as good."""
    p_values = np.array([sign_test(*map(int, wins(400, seed, 0.0)), 0.95).p_value for seed in range(400)])
    assert 0.01 <= (p_values < 0.05).mean() <= 0.07
    equal, better = (sign_test(*map(int, wins(40_000, 3, more)), 0.95) for more in (0.0, 0.2))
    assert equal.low < 0.5 < equal.high
    assert equal.share == pytest.approx(0.5, abs=0.01)
    assert better.low > 0.5
    assert better.p_value < 1e-6


def test_the_test_is_the_exact_binomial_one():
    test = sign_test(2, 8, 0.95)
    two_sided = 2 * sum([1, 10, 45]) / 2**10
    assert (test.share, test.p_value) == (0.8, pytest.approx(two_sided))
    assert (test.low, test.high) == pytest.approx((0.4439, 0.9748), abs=1e-4), "Clopper and Pearson for 8 of 10"
    assert sign_test(0, 0, 0.95).share is None
    assert sign_test(0, 3, 0.95).high == 1
