"""Calibrated ratings: planted biases come back, the fit is the joint ridge, a factor never reorders a list."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from recsys_spark.evaluate.kernels.rating_model import CalibratedRatings, fit_ratings, mae, mse
from recsys_spark.tune.kernels.rating_baselines import RatingPairs, best_rescale, out_of_fold_biases

pytestmark = pytest.mark.filterwarnings("error")  # a NaN is meant, or it is a mistake
NAN = math.nan
ITEMS = np.arange(12)


def planted(seed, users=60, items=40, density=0.6, noise=0.3, slope=0.8, factors=None):
    """Pairs, ratings, scores, and what they were made from: biases of mean 0, a slope, factors of the users."""
    random = np.random.default_rng(seed)
    user_bias, item_bias = random.normal(0, 0.5, users), random.normal(0, 0.7, items)
    user_bias, item_bias = user_bias - user_bias.mean(), item_bias - item_bias.mean()
    rows, columns = np.nonzero(random.random((users, items)) < density)
    scores = random.normal(2, 1, len(rows))
    factor = np.ones(users) if factors is None else random.uniform(*factors, users)
    worth = item_bias[columns] + slope * (scores - scores.mean())
    ratings = 3.5 + user_bias[rows] + factor[rows] * worth + random.normal(0, noise, len(rows))
    return (rows, columns, ratings, scores), (user_bias, item_bias, factor)


def test_planted_biases_and_slope_come_back():
    table, (user_bias, item_bias, _) = planted(1, users=200, items=150, noise=0.1)
    fitted = fit_ratings(*table, user_shrink=0.1, item_shrink=0.1)
    assert fitted.slope == pytest.approx(0.8, abs=0.01)
    assert fitted.mean == pytest.approx(3.5, abs=0.02)
    np.testing.assert_allclose(fitted.user_bias, user_bias, atol=0.06)
    np.testing.assert_allclose(fitted.item_bias, item_bias, atol=0.06)
    np.testing.assert_array_equal(fitted.factor, 1)


def joint_ridge(users, items, ratings, scores, user_shrink, item_shrink):
    """All coefficients at once, and the condition number of their equations.

    Mean, slope times the largest score, biases of users, biases of items. Absent users and items are left at 0. Scores
    are scaled: where they almost agree the slope is huge, and what it adds to a rating is not.
    """
    offset = scores - scores.mean()
    design = np.column_stack([np.ones(len(users)), offset / np.abs(offset).max(), np.eye(6)[users], np.eye(5)[items]])
    equations = design.T @ design + np.diag([0, 0, *[user_shrink] * 6, *[item_shrink] * 5])
    return np.linalg.solve(equations, design.T @ ratings), np.linalg.cond(equations), np.abs(offset).max()


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0.1, 30), st.floats(0.1, 30))
@example(540804, 2, 0.5, 0.125)  # two scores that almost agree: a slope of 842
def test_the_fit_is_the_joint_ridge(seed, count, user_shrink, item_shrink):
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 6, count), random.integers(0, 5, count)
    ratings, scores = random.integers(1, 6, count).astype(float), random.normal(size=count)
    fitted = fit_ratings(users, items, ratings, scores, user_shrink=user_shrink, item_shrink=item_shrink)
    expected, condition, most = joint_ridge(users, items, ratings, scores, user_shrink, item_shrink)
    biases = [np.pad(part, (0, size - len(part))) for part, size in ((fitted.user_bias, 6), (fitted.item_bias, 5))]
    # The fit by turns stops when a round changes less than 1e-9 of the largest rating.
    fitted_values = np.concatenate([[fitted.mean, fitted.slope * most], *biases])
    np.testing.assert_allclose(fitted_values, expected, rtol=0, atol=1e-9 * ratings.max() * 10 * condition)


def test_each_part_beats_what_lacks_it_on_ratings_that_were_held_out():
    (users, items, ratings, scores), _ = planted(2, factors=(0.2, 2.0))
    held_out = np.random.default_rng(0).random(len(users)) < 0.25
    train, test = (np.flatnonzero(part) for part in (~held_out, held_out))
    for error in (mse, mae):
        errors = [error(np.full(len(test), ratings[train].mean()), ratings[test])]
        for given_scores, shrink in ((None, None), (scores, None), (scores, 1.0)):
            ours = None if given_scores is None else given_scores[train]
            theirs = None if given_scores is None else given_scores[test]
            fitted = fit_ratings(users[train], items[train], ratings[train], ours, factor_shrink=shrink)
            errors.append(error(fitted.predict(users[test], items[test], theirs), ratings[test]))
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.6 * errors[0]


def test_planted_factors_come_back():
    table, (_, _, factor) = planted(3, users=80, items=300, noise=0.1, factors=(0.3, 2.0))
    fitted = fit_ratings(*table, user_shrink=0.1, item_shrink=0.1, factor_shrink=0.1)
    np.testing.assert_allclose(fitted.factor / fitted.factor.mean(), factor / factor.mean(), atol=0.05)


def test_shrinking_draws_factors_to_1_and_none_falls_below_the_least():
    """User 0 rates against everyone: the best factor of that user is negative."""
    users, items = np.repeat(np.arange(9), 8), np.tile(np.arange(8), 9)
    ratings = np.where(users == 0, 4.5 - items / 2, 1.0 + items / 2)
    free, least = (
        fit_ratings(users, items, ratings, item_shrink=0.1, factor_shrink=0.0, least_factor=floor)
        for floor in (1e-9, 0.2)
    )
    assert free.factor[0] == 1e-9
    assert least.factor[0] == 0.2
    shrunk = fit_ratings(users, items, ratings, item_shrink=0.1, factor_shrink=1e9)
    np.testing.assert_allclose(shrunk.factor, 1, atol=1e-5)
    with pytest.raises(ValueError, match="least_factor must be positive, found 0"):
        fit_ratings(users, items, ratings, factor_shrink=1.0, least_factor=0.0)


@given(st.integers(0, 2**32 - 1), st.floats(0, 30), st.booleans())
def test_a_positive_factor_never_changes_the_order_of_a_list(seed, shrink, clip):
    """Ratings without any sense, so that the best factors are of either sign."""
    random = np.random.default_rng(seed)
    users, items = random.integers(0, 5, 40), random.integers(0, 12, 40)
    ratings, scores = random.integers(1, 6, 40).astype(float), random.normal(size=40)
    plain = fit_ratings(users, items, ratings, scores)
    fitted = fit_ratings(users, items, ratings, scores, factor_shrink=shrink)
    assume((fitted.factor != 1).any())
    scores_of_items = random.normal(size=12)
    for user in range(-1, len(fitted.user_bias)):
        row = np.full(12, user)
        before, after = (
            plain.predict(row, ITEMS, scores_of_items),
            fitted.predict(row, ITEMS, scores_of_items, clip=clip),
        )
        order = np.argsort(before, kind="stable")
        scale = max(np.abs(before).max(), np.abs(after).max())
        assert (np.diff(after[order]) >= -1e-13 * scale).all()
        apart = np.diff(before[order]) > 1e-10 * scale  # nearer ones may round to a tie
        assert clip or (np.diff(after[order])[apart] > 0).all()


FITTED = CalibratedRatings(
    mean=3.0,
    user_bias=np.array([0.5, -0.5]),
    item_bias=np.array([1.0, -1.0, 0.25]),
    factor=np.array([2.0, 0.5]),
    slope=2.0,
    score_mean=0.5,
    least=1.0,
    most=5.0,
)


def test_a_rating_worked_out_by_hand_and_what_is_unknown_adds_nothing():
    users, items = np.array([0, 1, -1, 2, 0, 9]), np.array([0, 1, 2, 0, -2, 3])
    scores = np.array([1.0, 0.0, NAN, 0.5, 0.75, 1.5])
    expected = [3 + 0.5 + 2 * (1 + 1), 3 - 0.5 + 0.5 * (-1 - 1), 3.25, 4, 3 + 0.5 + 2 * 0.5, 3 + 2]
    assert FITTED.predict(users, items, scores).tolist() == expected
    assert FITTED.predict(users, items, scores, clip=True).tolist() == [5.0, *expected[1:]]
    assert FITTED.predict(users[:2], items[:2]).tolist() == [3 + 0.5 + 2, 3 - 0.5 - 0.5]


def test_rows_between_those_rated_are_unknown_too():
    fitted = fit_ratings(np.array([0, 0, 3]), np.array([5, 1, 1]), np.array([5.0, 3.0, 1.0]), factor_shrink=0.0)
    assert fitted.user_bias[[1, 2]].tolist() == [0, 0]
    assert fitted.item_bias[[0, 2, 3, 4]].tolist() == [0] * 4
    assert fitted.factor[[1, 2]].tolist() == [1, 1]


def test_a_missing_score_counts_as_the_mean_score():
    (users, items, ratings, scores), _ = planted(4)
    missing = np.random.default_rng(0).random(len(scores)) < 0.2
    filled = np.where(missing, scores[~missing].mean(), scores)
    one, other = (fit_ratings(users, items, ratings, given) for given in (np.where(missing, NAN, scores), filled))
    assert one.slope == pytest.approx(other.slope)
    given_scores = np.where(missing, NAN, scores)
    np.testing.assert_allclose(one.predict(users, items, given_scores), other.predict(users, items, filled))


def test_scores_that_the_biases_explain_have_no_slope():
    (users, items, ratings, _), (_, item_bias, _) = planted(5)
    assert fit_ratings(users, items, ratings).slope == 0
    assert fit_ratings(users, items, ratings, np.full(len(users), NAN)).slope == 0
    assert fit_ratings(users, items, ratings, np.full(len(users), 7.0)).slope == 0
    assert fit_ratings(users, items, ratings, item_bias[items], item_shrink=0.0, user_shrink=0.0).slope == 0


def test_without_user_biases_the_articles_own_form_remains():
    table, _ = planted(6, factors=(0.3, 2.0))
    fitted = fit_ratings(*table, user_shrink=math.inf, factor_shrink=1.0)
    assert not fitted.user_bias.any()
    assert fitted.factor.std() > 0.1


def test_nothing_to_fit_is_refused():
    with pytest.raises(ValueError, match="no rating"):
        fit_ratings(np.zeros(0, int), np.zeros(0, int), np.zeros(0))


def test_errors_by_hand():
    predicted, actual = np.array([1.0, 2.0, 5.0]), np.array([1.0, 4.0, 4.0])
    assert mse(predicted, actual) == pytest.approx(5 / 3)
    assert mae(predicted, actual) == 1
    assert math.isnan(mse(np.zeros(0), np.zeros(0)))
    assert math.isnan(mae(np.zeros(0), np.zeros(0)))


def mostly_five(size=400):
    """Most give the highest score; predictions are their expectation, with errors."""
    rng = np.random.default_rng(2)
    unhappy = rng.random(size) < 0.15
    scores = np.where(unhappy, rng.integers(1, 5, size), 5).astype(float)
    part = np.arange(size) % 3
    predicted = np.where(unhappy, 3.9, 4.7) + rng.normal(0, 0.1, size)
    return RatingPairs([""] * size, scores, np.arange(size) % 20, np.arange(size) % 7, part.astype(np.int8)), predicted


def test_a_stretch_is_chosen_on_validation_and_makes_the_smaller_errors_there():
    data, predicted = mostly_five()
    stretched = best_rescale(data, predicted).apply(predicted)
    before, after = data.errors(predicted, 1), data.errors(stretched, 1)
    assert after["mae"] < 0.8 * before["mae"]
    assert after["mae"] / before["mae"] + after["mse"] / before["mse"] < 2
    turned = RatingPairs(data.texts, np.where(data.part == 2, 1, data.scores), data.users, data.items, data.part)
    assert best_rescale(turned, predicted) == best_rescale(data, predicted)  # the test says nothing


def test_left_out_biases_of_training_pairs_have_not_seen_them():
    data, _ = mostly_five()
    biases, train = out_of_fold_biases(data), data.part == 0
    changed = data.scores.copy()
    first = np.flatnonzero(train)[0]
    changed[first] = 1.0 if changed[first] == 5 else 5.0
    other = out_of_fold_biases(RatingPairs(data.texts, changed, data.users, data.items, data.part))
    assert abs(other[first] - biases[first]) < 1e-9
    assert np.abs(other - biases).max() > 1e-4
