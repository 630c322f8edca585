"""Several interests of a user: clusters of a history, lists merged by the greatest score, reasons of that interest."""

from datetime import timedelta

import numpy as np
import pytest

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.errors import UsageError
from recsys_spark.profiles.kernels.interests import CLUSTERED, interests_of, weights_of
from recsys_spark.tables.schemas import RECOMMENDATIONS
from tests.bench.changing_lake import World


def grouped(sizes, seed=0):
    """Vectors about as many axes as there are sizes, shuffled, and the axis of each."""
    random = np.random.default_rng(seed)
    axes = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return unit_rows(np.eye(4)[axes] + 0.1 * random.standard_normal((len(axes), 4))), axes


def test_interests_are_clusters_of_directions_and_negative_items_are_in_none():
    vectors, axes = grouped([12, 11, 10])
    weights = np.linspace(1, 2, 33)
    labels = interests_of(vectors, weights, 3)
    assert sorted(set(labels)) == [0, 1, 2]
    for axis in range(3):
        assert len(set(labels[axes == axis])) == 1
    assert (interests_of(vectors[:19], weights[:19], 3) == -1).all()  # too few for two
    assert (interests_of(vectors, weights, 1) == -1).all()
    assert set(interests_of(vectors[:25], weights[:25], 3)) == {0, 1}  # ten each
    weights[3] = -1
    labels = interests_of(vectors, weights, 2)
    assert np.flatnonzero(labels == -1).tolist() == [3]
    counted = weights_of(labels, weights)
    assert (counted[:, 3] == -1).all()
    assert (counted.sum(axis=0)[labels >= 0] == weights[labels >= 0]).all()


def test_the_heaviest_items_are_clustered_with_the_same_labels_without_the_others():
    vectors, _ = grouped([CLUSTERED, 80], seed=4)
    weights = np.random.default_rng(1).integers(1, 9, len(vectors)) / 4
    labels = interests_of(vectors, weights, 2)
    heaviest = np.flatnonzero(labels >= 0)
    assert len(heaviest) == CLUSTERED
    assert weights[labels < 0].max() <= weights[heaviest].min()
    assert (interests_of(vectors[heaviest], weights[heaviest], 2) == labels[heaviest]).all()


@pytest.fixture(scope="module")
def world(spark, tmp_path_factory):
    world = World(spark, tmp_path_factory.mktemp("interests"))
    vectors, _ = grouped([20, 20, 20], seed=2)
    world.vectors = {n: tuple(v.tolist()) for n, v in enumerate(vectors)}
    world.about = dict.fromkeys(world.vectors, (None, None, None))
    random = np.random.default_rng(3)
    long = {(u, int(i), -1 - n) for u in range(3) for n, i in enumerate(random.permutation(60)[:25])}
    world.events = long | {(u, u * 3 + n, -1 - n) for u in range(3, 6) for n in range(4)}
    world.commit_sources()
    return world


def lists_of(world):
    rows = world.lake.read(world.spark, RECOMMENDATIONS).collect()
    return {u: sorted((r for r in rows if r["user_id"] == u), key=lambda r: r["rank"]) for u in {r[0] for r in rows}}


def test_an_item_scores_by_its_nearest_interest_and_its_reasons_are_of_that_interest(world):
    world.refresh()
    plain = lists_of(world)
    report = world.refresh(interests=2, explain=100)
    assert report[1]["unfilled_slots"] == 0
    lists = lists_of(world)
    short = ("user_id", "item_id", "score", "rank")
    for user, rows in lists.items():
        history = {i: 2 ** (-d / 180) for u, i, d in _ages(world, user)}
        items = sorted(history, key=lambda i: f"i{i}")
        vectors = unit_rows(np.array([world.vectors[i] for i in items], np.float32))
        weights = np.array([history[i] for i in items])
        labels = interests_of(vectors, weights, 2)
        profiles = unit_rows(weights_of(labels, weights) @ vectors)
        scores = {i: max(profiles @ unit_rows(np.array([v], np.float32))[0]) for i, v in world.vectors.items()}
        best = sorted((i for i in scores if i not in history), key=lambda i: (-scores[i], f"i{i}"))[:4]
        assert [row["item_id"] for row in rows] == [f"i{i}" for i in best]
        for row in rows:
            assert row["score"] == pytest.approx(scores[int(row["item_id"][1:])], abs=1e-5)
            assert sum(reason["contribution"] for reason in row["reasons"]) == pytest.approx(row["score"], abs=1e-5)
            reason_items = {int(reason["item_id"][1:]) for reason in row["reasons"]}
            assert len({labels[items.index(i)] for i in reason_items}) == 1
        if len(history) < 20:
            assert [[row[n] for n in short] for row in rows] == [[row[n] for n in short] for row in plain[user]]
    assert any([r["item_id"] for r in lists[u]] != [r["item_id"] for r in plain[u]] for u in lists)
    world.run_date += timedelta(days=1)
    assert "--interests" in world.refresh(interests=2)[1]["lists_made"]


def _ages(world, user):
    events = [event for event in world.events if f"u{event[0]}" == user]
    newest = max(days for _, _, days in events)
    return [(u, item, newest - days) for u, item, days in events]


def test_options_that_need_one_vector_are_a_usage_error_with_several_interests(world):
    for options in ({"quota": 2}, {"scorer": "hybrid"}):
        with pytest.raises(UsageError, match="--interests cannot be combined with"):
            world.refresh(interests=2, **options)
