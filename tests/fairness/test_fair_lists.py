"""Re-ranked lists as ``recommend_items`` publishes them."""

import numpy as np
import pytest
from pydantic import ValidationError

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.fairness.kernels.exposure import position_exposure
from recsys_spark.recommend.options import RecommendOptions
from recsys_spark.tables.schemas import CHANGES, ITEMS, RECOMMENDATIONS
from tests.bench.small_lake import DAY, Bench

ANGLES = {f"i{n}": n * 0.11 for n in range(12)}
RARE = {name for n, name in enumerate(ANGLES) if n % 4 == 3}


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory):
    bench = Bench(spark, tmp_path_factory.mktemp("fair"))
    bench.put_vectors(vectors={name: [float(np.cos(a)), float(np.sin(a))] for name, a in ANGLES.items()})
    bench.put_profiles(users={f"u{n}": [float(np.cos(n / 9)), float(np.sin(n / 9))] for n in range(9)})
    bench.put(
        ITEMS,
        *((name, name, None, None, ["odd" if n % 2 else "even"], "rare" if name in RARE else "common")
          for n, name in enumerate(ANGLES)),
    )  # fmt: skip
    bench.put_events(*((f"u{n}", f"i{n}", "purchase") for n in range(9)))
    return bench


def exposure_of(rows, members):
    weights = position_exposure(4)
    total = sum(int(weights[rank - 1]) for _, _, rank in rows)
    return sum(int(weights[rank - 1]) for _, item, rank in rows if item in members), total


def users_of(rows):
    lists = {}
    for user, item, rank in rows:
        lists.setdefault(user, []).append((rank, item))
    assert all([rank for rank, _ in one] == [1, 2, 3, 4] for one in lists.values()), "every list is full"
    return {user: [item for _, item in one] for user, one in lists.items()}


def test_floors_hold_over_all_lists_and_scores_stay(spark, lake):
    _, plain = lake.lists(k=4)
    scores = {(r["user_id"], r["item_id"]): r["score"] for r in lake.lake.read(spark, RECOMMENDATIONS).collect()}
    assert exposure_of(plain, RARE)[0] < 0.4 * exposure_of(plain, RARE)[1]
    keys = {"k": 4, "exposure_on": "brand", "exposure_floor": {"rare": 0.4}}
    report, rows = lake.lists(**keys)
    rare, total = exposure_of(rows, RARE)
    assert rare * 10 >= total * 4
    assert len(users_of(rows)) == 9
    figures = report["fairness"]
    assert figures["exposure"]["rare"] == pytest.approx(rare / total, abs=1e-6)
    assert 0 < figures["gain_kept"] < 1
    assert 0 <= figures["gap"] < 0.1
    assert "re-ranked; rare has" in report["lists_made"]
    logged = lake.lake.read(spark, CHANGES).where("table = 'recommendations'").collect()
    assert any("re-ranked; rare has" in row["made"] for row in logged)
    again = lake.lake.read(spark, RECOMMENDATIONS).collect()
    assert all(scores.get((r["user_id"], r["item_id"]), r["score"]) == r["score"] for r in again)
    assert lake.lists(**keys)[0]["status"] == "unchanged"
    # Other tasks and batches, and all lists made again: the same rows.
    assert lake.lists(**keys, tasks=3, user_block_rows=2, full=True)[1] == rows


def test_floors_hold_in_every_list(lake):
    _, rows = lake.lists(k=4, exposure_on="brand", exposure_floor={"rare": 0.3}, exposure_by="list")
    for user, items in users_of(rows).items():
        rare, total = exposure_of([(user, item, at + 1) for at, item in enumerate(items)], RARE)
        assert rare * 10 >= total * 3


def test_every_list_passes_the_test(lake):
    report, rows = lake.lists(k=4, exposure_on="brand", exposure_floor={"rare": 0.6}, exposure_by="test")
    assert all(RARE & set(items[:3]) for items in users_of(rows).values())
    assert report["fairness"]["by"] == "test"


def test_prices_of_a_sample_are_raised_until_all_lists_meet_the_floor(lake):
    _, rows = lake.lists(k=4, exposure_on="brand", exposure_floor={"rare": 0.4}, fairness_users=8)
    rare, total = exposure_of(rows, RARE)
    assert rare * 10 >= total * 4


def test_evenness_and_calibration_change_lists_that_stay_full(lake):
    _, plain = lake.lists(k=4, full=True)
    report, even = lake.lists(k=4, exposure_evenness=0.3)
    counts = [np.unique([item for _, item, _ in rows], return_counts=True)[1].var() for rows in (plain, even)]
    assert users_of(even) != users_of(plain)
    assert counts[1] < counts[0]
    assert report["fairness"]["evenness"] == 0.3
    report, rows = lake.lists(k=4, calibration=0.6)
    figures = report["fairness"]
    assert figures["divergence"] < figures["divergence_as_scored"]
    assert users_of(rows)


def test_a_floor_that_candidates_cannot_meet_publishes_nothing(lake):
    version = lake.lake.version(RECOMMENDATIONS)
    keys = {"k": 4, "exposure_on": "brand", "rerank_from": 4}
    with pytest.raises(QualityError, match=r"cannot be met: with the 4 best candidates .*'rare': '0\.\d+'"):
        lake.lists(**keys, exposure_floor={"rare": 0.9})
    with pytest.raises(QualityError, match=r"cannot be met in \d of 9 lists.*Raise --rerank_from"):
        lake.lists(**keys, exposure_floor={"rare": 0.9}, exposure_by="list")
    with pytest.raises(UsageError, match="no item has the brand none; the greatest groups are common, rare"):
        lake.lists(k=4, exposure_on="brand", exposure_floor={"none": 0.1})
    with pytest.raises(UsageError, match="cannot be combined with --diversity"):
        lake.lists(k=4, exposure_evenness=0.1, diversity=0.5)
    assert lake.lake.version(RECOMMENDATIONS) == version


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"exposure_floor": {"a": 0.6, "b": 0.5}}, "sum to more than 1"),
        ({"exposure_floor": {"a": 0.0}}, "above 0 and at most 1"),
        ({"exposure_floor": {"a": 0.1}, "exposure_on": "colour"}, "'brand', 'category', 'popularity' or 'novelty'"),
        ({"exposure_on": "brand"}, "exposure_on needs an exposure_floor"),
        ({"rerank_from": 50}, "rerank_from needs exposure_floor"),
        ({"exposure_floor": {"a": 0.1, "b": 0.1}, "exposure_by": "test"}, "one group of protected items"),
        ({"calibration": 0.5, "exposure_evenness": 0.1}, "cannot be combined"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(keys, sentence):
    with pytest.raises(ValidationError, match=sentence):
        RecommendOptions(lake="l", run_date=DAY, **keys)
