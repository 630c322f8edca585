"""Exploration of published lists: off it changes nothing, on it is the same in every run."""

from collections import defaultdict
from math import cos, sin

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.recommend.exploration import shown_lists
from recsys_spark.recommend.kernels.exploration import Exploration
from recsys_spark.recommend.options import RecommendOptions, TopKOptions
from recsys_spark.recommend.steps.list_request import _settings
from recsys_spark.tables.schemas import ANYONE, EXPOSURES, RECOMMENDATIONS
from tests.bench.small_lake import DAY, Bench
from tests.recommend.kernels.test_exploration import probabilities

USERS = [f"u{n}" for n in range(5)]

ON = {"k": 6, "explore": 0.5, "explore_slots": 4, "explore_seed": 3}


def bench_of(spark, folder):
    bench = Bench(spark, folder)
    bench.put_vectors(vectors={f"a{n}": [cos(n / 5), sin(n / 5)] for n in range(7)})
    bench.put_profiles(users={name: [cos(n / 9), sin(n / 9)] for n, name in enumerate([*USERS, ANYONE])})
    bench.put_events(("u1", "a6", "purchase"))
    return bench


def exposures(spark, lake):
    return sorted(map(tuple, lake.read(spark, EXPOSURES).collect()))


def test_what_is_shown_is_stored_with_its_exact_probability_and_the_lists_stay(spark, tmp_path):
    bench = bench_of(spark, tmp_path)
    (first, lists), key = bench.lists(k=6), bench.lake.last_commit(RECOMMENDATIONS).key
    assert bench.lake.version(EXPOSURES) is None, "off: no table"
    report, same = bench.lists(**ON)
    assert (first["status"], report["status"], same) == ("done", "unchanged", lists)
    assert bench.lake.last_commit(RECOMMENDATIONS).key == key
    shown = exposures(spark, bench.lake)
    bench.lists(**ON)
    assert exposures(spark, bench.lake) == shown, "once for every snapshot of lists"
    candidates, ranks = {user: [] for user, *_ in lists if user != ANYONE}, defaultdict(list)
    lists = [row for row in lists if row[0] != ANYONE]
    for user, item, _ in lists:
        candidates[user].append(item)
    for user, item, rank, run_date, propensity, scorer, draw in shown:
        table = probabilities(len(candidates[user]), Exploration(0.5, 4))
        assert propensity == pytest.approx(table[candidates[user].index(item), rank - 1])
        assert (run_date, scorer, draw) == (DAY, "cosine", 1)
        ranks[user].append(rank)
    assert {user: sorted(ranks[user]) for user in candidates} == dict.fromkeys(candidates, [1, 2, 3, 4])
    assert {row[:3] for row in shown} != {row for row in lists if row[2] <= 4}, "something was explored"

    frame = spark.createDataFrame(lists[::-1], "user_id string, item_id string, rank int").repartition(4)
    again, other = (sorted(map(tuple, shown_lists(frame, DAY, Exploration(0.5, 4, seed=n)).collect())) for n in (3, 4))
    assert again == [(*row[:3], row[4]) for row in shown], "the same draws for other partitions"
    assert [row[:3] for row in other] != [row[:3] for row in again]


def test_no_key_of_exploration_is_a_setting_of_the_lists():
    options = TopKOptions(lake="lake", run_date=DAY)
    on = TopKOptions(lake="lake", run_date=DAY, explore=0.2, explore_seed=1, explore_head=0, explore_slots=4)
    assert _settings(options) == _settings(on)


def test_exploration_without_candidates_is_refused(spark, tmp_path):
    bench = bench_of(spark, tmp_path)
    with pytest.raises(UsageError, match="--k=4 is not above --explore_slots=4; set --k=8"):
        bench.lists(**ON | {"k": 4})
    assert bench.lake.version(RECOMMENDATIONS) is None
    with pytest.raises(ValueError, match="explore_seed needs explore above 0"):
        RecommendOptions(lake="lake", run_date=DAY, explore_seed=1)
