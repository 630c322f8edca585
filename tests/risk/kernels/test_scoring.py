"""Scores of evidence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.risk.kernels.scales import NO_FIGURE, Histogram
from recsys_spark.risk.kernels.scoring import OWN_BOUND, Scorer, trust_of

USUAL = Histogram.of(range(100), [10] * 100)


def scorer(shared, **tails):
    return Scorer.of(dict.fromkeys(range(len(shared)), USUAL) | tails, shared, 6.0, 2.0)


def test_a_shared_figure_counts_without_bound_and_a_figure_of_one_account_up_to_one():
    made = scorer([False, True])(np.array([[10_000, 0], [0, 10_000], [10, 10]]))
    own, shared, usual = made["score"]
    assert own == np.round(OWN_BOUND / 5, 6)
    assert shared > 100
    assert usual == 0
    assert made["trust"].tolist() == [1.0, 4.0**-4, 1.0]
    assert made["places"].tolist()[0] == [-1, -1]  # who is trusted needs no reason
    assert made["places"].tolist()[1] == [1, -1]


@given(st.lists(st.floats(0, 60), min_size=2, max_size=20))
def test_trust_falls_with_the_score_in_powers_of_four(scores):
    ordered = np.sort(np.array(scores))
    trust = trust_of(ordered, 6.0, 2.0)
    assert (np.diff(trust) <= 0).all()
    assert set(trust) <= {1.0, 0.25, 0.0625, 0.015625, 0.00390625}
    assert (trust[ordered <= 6] == 1).all()


@given(st.integers(0, 100), st.integers(1, 7))
def test_a_score_does_not_depend_on_the_batch(seed, size):
    evidence = np.random.default_rng(seed).integers(0, 400, (23, 5)).astype(np.int32)
    evidence[3, 2] = NO_FIGURE
    score = scorer([False, False, True, True, True])
    whole = score(evidence)
    parts = [score(evidence[start : start + size]) for start in range(0, 23, size)]
    for name, column in whole.items():
        assert np.concatenate([part[name] for part in parts]).tobytes() == column.tobytes()


def test_a_figure_that_nobody_has_surprises_nobody():
    nobody = Scorer.of({}, [True, False], 6.0, 2.0)(np.array([[NO_FIGURE, NO_FIGURE]]))
    assert nobody["score"].tolist() == [0.0]
    assert nobody["trust"].tolist() == [1.0]
