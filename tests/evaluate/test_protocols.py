"""Protocols: the role of each event; and the comparison of scorers against brute force."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import scipy.sparse as sp
from pyspark.sql import functions as F

from recsys_spark.evaluate.comparison import (
    METRICS,
    RANKED_SEEN,
    SUMS_DDL,
    Candidate,
    EvaluationSpec,
    candidate_sums,
    merge_totals,
)
from recsys_spark.evaluate.driver_matrices import counts_of, fitted_pairs, gram_of, partial_counts, partial_grams
from recsys_spark.evaluate.kernels.recency import HALF_LIVES
from recsys_spark.evaluate.kernels.scorer_files import ScorerFiles, open_scorer, write_array, write_scorer
from recsys_spark.evaluate.kernels.scorers import ItemWeights, Mixed, OwnHistory, UserHistories
from recsys_spark.evaluate.kernels.sequence_scores import SequenceScores
from recsys_spark.evaluate.protocols import (
    FIT,
    TEST,
    VALID,
    Protocol,
    newest_events,
    one_event_earlier,
    user_rows,
    with_roles,
)
from recsys_spark.sequence.kernels.sequence_task import SequenceTask
from recsys_spark.sequence.kernels.transformer import Shape
from tests.bench.user_histories import user_histories

START = datetime(2024, 1, 1, tzinfo=UTC)
ITEMS = [f"i{n}" for n in range(8)]


@pytest.fixture(scope="module")
def histories():
    random = np.random.default_rng(2)
    return {f"u{u:02}": [ITEMS[i] for i in random.integers(0, 8, 1 + u % 6)] for u in range(25)}


@pytest.fixture(scope="module")
def events(spark, histories):
    rows = [(u, i, START + timedelta(days=n), 1.0) for u, items in histories.items() for n, i in enumerate(items)]
    ddl = "user_id string, item_id string, timestamp timestamp, weight double"
    return spark.createDataFrame(rows + rows[:5], ddl).repartition(4)


@pytest.fixture(scope="module")
def numbers(spark):
    return spark.createDataFrame([(item, n) for n, item in enumerate(ITEMS)], "item_id string, row int")


@pytest.fixture(scope="module")
def grouped(spark, histories):
    rows = [(user, ["shoe: left" if n % 2 else "shoe: right"] if n % 5 else None) for n, user in enumerate(histories)]
    return spark.createDataFrame(rows, "user_id string, groups array<string>")


def roles_of(events, protocol, most=100):
    rows = with_roles(newest_events(events, most), protocol).collect()
    ordered = sorted(rows, key=lambda row: row["timestamp"])
    return {
        user: [(r["item_id"], r["role"], r["fitted"]) for r in ordered if r["user_id"] == user]
        for user in {row["user_id"] for row in rows}
    }


def test_leave_one_out_tests_the_last_event_and_validates_the_one_before(events, histories):
    by_user = roles_of(events, Protocol("leave_one_out"))
    for user, items in histories.items():
        short = len(items) < 3
        roles = [FIT] * len(items) if short else [FIT] * (len(items) - 2) + [VALID, TEST]
        assert by_user[user] == [(item, role, True) for item, role in zip(items, roles, strict=True)]


def test_only_the_newest_events_of_a_user_count(events, histories):
    by_user = roles_of(events, Protocol("leave_one_out"), most=4)
    assert {user: [item for item, *_ in rows] for user, rows in by_user.items()} == {
        user: items[-4:] for user, items in histories.items()
    }


def test_ties_are_shuffled_by_a_seed_alone(spark):
    rows = [(f"u{u}", f"i{i}", START + timedelta(days=i // 8), 1.0) for u in range(6) for i in range(9)]
    events = spark.createDataFrame(rows, "user_id string, item_id string, timestamp timestamp, weight double")

    def order(seed, partitions):
        found = newest_events(events.repartition(partitions), 100, seed).orderBy("user_id", F.desc("age")).collect()
        return [[row["item_id"] for row in found if row["user_id"] == f"u{u}"] for u in range(6)]

    by_id = [[f"i{i}" for i in range(9)]] * 6
    assert order(None, 1) == order(None, 3) == by_id
    shuffled = order(1, 1)
    assert shuffled == order(1, 3) != order(2, 1)
    assert len({tuple(items) for items in shuffled}) == 6  # users have orders of their own
    for items in shuffled:
        assert items[-1] == "i8"  # a later event stays later
        assert sorted(items) == by_id[0]


def test_temporal_splits_by_day(events, histories):
    by_user = roles_of(events, Protocol("temporal", valid_from=date(2024, 1, 3), test_from=date(2024, 1, 5)))
    for user, items in histories.items():
        assert [role for _, role, _ in by_user[user]] == [FIT, FIT, VALID, VALID, TEST, TEST][: len(items)]


def test_cold_items_have_no_event_to_fit_on(events):
    seen = set()
    for seed in range(8):
        rows = [row for rows in roles_of(events, Protocol("cold_items", seed=seed)).values() for row in rows]
        roles = [tuple({role for name, role, _ in rows if name == item}) for item in ITEMS]
        assert all(len(of_item) == 1 for of_item in roles)
        seen |= {(seed, *roles)}
    assert len({roles[1:] for roles in seen}) > 1
    assert {role for roles in seen for (role,) in roles[1:]} == {FIT, VALID, TEST}


def test_nothing_of_new_users_is_fitted_on(events, histories):
    by_user = roles_of(events, Protocol("new_users", seed=3))
    new_users = {user for user, rows in by_user.items() if not rows[0][2]}
    assert 0 < len(new_users) < 15
    for user, rows in by_user.items():
        assert len({fitted for *_, fitted in rows}) == 1
        last = {TEST, VALID} if user in new_users else {FIT}
        assert rows[-1][1] in last
        assert {role for _, role, _ in rows[:-1]} <= {FIT}


@pytest.fixture(scope="module")
def users(events, numbers, grouped):
    return user_rows(with_roles(newest_events(events, 100), Protocol("leave_one_out")), numbers, grouped)


def test_grams_count_the_users_that_two_items_share(users, histories):
    for last_role, cut in ((FIT, 2), (VALID, 1), (TEST, 0)):
        gram = gram_of([tuple(row) for row in partial_grams(users, 8, last_role).collect()], 8).toarray()
        counts = counts_of([tuple(row) for row in partial_counts(users, 8, last_role).collect()], 8)
        assert counts.users.tolist() == gram.diagonal().tolist()
        counted = [set(items[: len(items) - cut] if len(items) > 2 else items) for items in histories.values()]
        expected = [[sum(a in items and b in items for items in counted) for b in ITEMS] for a in ITEMS]
        assert gram.tolist() == expected


def test_recent_counts_are_of_the_events_up_to_a_role(users, histories):
    rows = partial_counts(users.repartition(3), 8, VALID).collect()
    recent = counts_of([tuple(row) for row in rows], 8).recent[HALF_LIVES.index(7.0)]
    cut = [items[:-1] if len(items) > 2 else items for items in histories.values()]
    newest = [{item: day for day, item in enumerate(items)} for items in cut]
    last = max(day for days in newest for day in days.values())
    assert recent == pytest.approx([sum(0.5 ** ((last - d[i]) / 7) for d in newest if i in d) for i in ITEMS])


def test_roles_of_an_earlier_split_end_one_event_earlier(users):
    roles = {row["user_id"]: row["roles"] for row in users.collect()}
    earlier = {row["user_id"]: row["roles"] for row in one_event_earlier(users).collect()}
    for user, before in roles.items():
        fitted = before.count(FIT)
        last = [VALID] if fitted > 1 else [FIT] * fitted
        assert earlier[user] == [FIT] * (fitted - len(last)) + last + [role + 1 for role in before if role > FIT]


def test_fitted_pairs_are_the_events_up_to_a_role(users, numbers, histories):
    pairs = {tuple(row) for row in fitted_pairs(users, numbers, VALID).collect()}
    cut = {user: items[:-1] if len(items) > 2 else items for user, items in histories.items()}
    assert pairs == {(user, item) for user, items in cut.items() for item in items}


def test_a_scorer_comes_back_from_its_files(tmp_path):
    dense = np.arange(9, dtype=np.float32).reshape(3, 3)
    for number, scorer in enumerate((ItemWeights(dense), ItemWeights(sp.csr_array(dense)), OwnHistory(dense[1]))):
        files = write_scorer(scorer, str(tmp_path / f"my scorers {number}"))
        history = user_histories([[1.0, 2.0, 0.0]])
        assert open_scorer(files).scores(history).tolist() == scorer.scores(history).tolist()


def test_a_mixed_scorer_comes_back_from_the_files_of_its_parts(tmp_path):
    """Each part is divided by the spread of its scores of items that are not in the history."""
    first, second = (np.random.default_rng(seed).normal(size=(6, 6)).astype(np.float32) for seed in (1, 2))
    parts = {
        name: write_scorer(ItemWeights(one), f"{tmp_path}/{name}")
        for name, one in zip("ab", (first, second), strict=True)
    }
    files = ScorerFiles(
        (Mixed.__module__, "Mixed"), "", values={"first": parts["a"], "second": parts["b"], "weight": 0.5}
    )
    scores = open_scorer(files).scores(user_histories([[0, 1.0, 0, 0, 0, 0]]))[0]
    unseen = [0, 2, 3, 4, 5]
    expected = first[1] / first[1][unseen].std() + 0.5 * second[1] / second[1][unseen].std()
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_sequence_encoder_comes_back_from_its_files(tmp_path):
    """Only the order of the events differs between the two users."""
    shape = Shape(width=8, layers=1, heads=2, length=3)
    task = SequenceTask(np.eye(5, dtype=np.float32), np.arange(5), np.array([0, 5]), shape, lambda _: {})
    history = UserHistories(sp.csr_array(np.ones((2, 5))), np.array([0, 1, 1, 0]), np.array([0, 2, 4]))
    scorer = SequenceScores.of(task)
    scores = open_scorer(write_scorer(scorer, str(tmp_path))).scores(history)
    np.testing.assert_array_equal(scores, scorer.scores(history))
    states = task.user_states(task.item_vectors(), history.items, history.offsets)
    np.testing.assert_array_equal(scores, states @ task.item_vectors().T)
    assert not np.allclose(scores[0], scores[1])


def write_statistics(uri):
    statistics = {
        "counts": np.arange(8),
        "lengths": np.arange(8),
        "shared": np.arange(8) > 5,
        "vectors": np.eye(8, dtype="f4"),
    }
    for name, array in statistics.items():
        write_array(array, f"{uri}/{name}.npy")


@pytest.mark.parametrize(("mask_seen", "seen_targets"), [(True, "miss"), (True, "rank"), (False, "miss")])
@pytest.mark.parametrize("test", [True, False])
def test_comparison_equals_brute_force(users, histories, tmp_path, mask_seen, seen_targets, test):
    random = np.random.default_rng(7)
    weights = random.standard_normal((8, 8)).astype(np.float32)
    uri = str(tmp_path)
    write_statistics(uri)
    files = write_scorer(ItemWeights(weights), f"{uri}/w")
    candidates = [Candidate("one", files, decay, {}) for decay in (0.5, 1.0)]
    # One day between two events: half as much after two days is a decay of √½ per event.
    candidates.append(Candidate("two", files, 0.5, {}, half_life=2.0))
    spec = EvaluationSpec(test, mask_seen, seen_targets, 3, 8, uri, replicates=20, seed=1)
    rows = users.repartition(3).mapInArrow(candidate_sums(candidates, spec), SUMS_DDL).collect()
    totals = merge_totals(rows, spec)
    for number, candidate in enumerate(candidates):
        ranks, ranked, repeats, falls = [], [], 0, 0
        for items in histories.values():
            if len(items) < (3 if test else 3):
                continue
            history, target = (items[:-1], items[-1]) if test else (items[:-2], items[-2])
            if not history:
                continue
            decay = candidate.decay * (0.5**0.5 if candidate.half_life else 1)
            scores = sum(decay**age * weights[ITEMS.index(i)] for age, i in enumerate(reversed(history)))
            seen = {ITEMS.index(i) for i in history} if mask_seen else set()
            target_row = ITEMS.index(target)
            rank = 1 + sum(scores[i] > scores[target_row] for i in range(8) if i == target_row or i not in seen)
            ranks.append(np.inf if target_row in seen and seen_targets == "miss" else rank)
            ranked.append(rank)
            repeats += target in history
            falls += target < history[-1]
        metrics = dict(zip(METRICS, totals[number, "all"].means[0], strict=True))
        assert totals[number, "all"].users == len(ranks)
        assert metrics["hit_rate"] == pytest.approx(np.mean([rank <= 3 for rank in ranks]))
        assert metrics["ndcg"] == pytest.approx(np.mean([1 / np.log2(r + 1) if r <= 3 else 0 for r in ranks]))
        assert totals[number, "all"].exposure.sum() <= 3 * len(ranks)
        assert (RANKED_SEEN in {name for _, name in totals}) == (mask_seen and seen_targets == "miss")
        if mask_seen and seen_targets == "miss":
            kept = dict(zip(METRICS, totals[number, RANKED_SEEN].means[0], strict=True))
            assert metrics["hit_rate"] < kept["hit_rate"] == pytest.approx(np.mean([rank <= 3 for rank in ranked]))
        assert totals[number, "items: repeat (in the history)"].users == repeats > 0
        assert totals[number, "order: id falls"].users == falls > 0
        parts = [totals[number, name].users for name in ("history: below 5", "history: 5 to 10")]
        assert sum(parts) == len(ranks)
        shoes = [totals[number, f"users: shoe: {side}"].users for side in ("left", "right")]
        evaluated = [user for user, items in histories.items() if len(items) >= 3]
        assert sum(shoes) == len([user for user in evaluated if list(histories).index(user) % 5])


def test_sums_do_not_depend_on_partitions(users, tmp_path):
    uri = str(tmp_path)
    write_statistics(uri)
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    candidates = [Candidate("one", write_scorer(ItemWeights(weights), f"{uri}/w"), 0.8, {})]
    spec = EvaluationSpec(True, True, "miss", 3, 8, uri, replicates=10, seed=1)
    both = [
        merge_totals(users.repartition(n).mapInArrow(candidate_sums(candidates, spec), SUMS_DDL).collect(), spec)[
            0, "all"
        ]
        for n in (1, 4)
    ]
    np.testing.assert_allclose(both[0].sums, both[1].sums)
    assert both[0].exposure.tolist() == both[1].exposure.tolist()
