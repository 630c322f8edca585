"""Scorers compared in one session, on planted tastes: the protocols against brute force, errors and warnings."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import InputError, UsageError
from recsys_spark.evaluate.comparison import METRICS, Candidate, EvaluationSpec, _Total, candidate_sums, merge_totals
from recsys_spark.evaluate.comparison_summary import gaps, warnings_of
from recsys_spark.evaluate.kernels.scorer_files import write_array, write_scorer
from recsys_spark.evaluate.kernels.scorers import ItemScores, ItemWeights
from recsys_spark.evaluate.protocols import FIT, TEST, VALID, Protocol, newest_events, with_roles
from recsys_spark.evaluate.steps import search_grids
from recsys_spark.evaluate.steps.comparison_options import ComparisonOptions
from recsys_spark.evaluate.steps.evaluate_models import evaluate_models
from recsys_spark.evaluate.steps.search_grids import GRIDS
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress

START = datetime(2024, 1, 1, 10, tzinfo=UTC)
KINDS = ["tea", "garden", "wool"]
SHOP = """
title = "Tastes"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log.csv"
options = { header = true }
[items]
from = "products"
select = { item_id = "sku", title = "name", brand = "brand", category = "split(path, '/')", price = "price" }
text = ["{title}."]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "what", timestamp = "at" }
earliest = 2024-01-01
latest = 2024-12-31
"""


_WEIGHTS = [{"sequence": weight} for weight in (0.0, 0.5)]


def log_of():
    """(user, item, time): 40 users who buy six items, five of one kind and one of any, beginning on different days."""
    random = np.random.default_rng(3)
    rows = []
    for user in range(40):
        favourites = random.permutation(10)[:5] * 3 + user % 3
        items = [*favourites, random.integers(0, 30)]
        begin = START + timedelta(days=int(random.integers(0, 20)))
        rows += [(f"u{user:02}", f"i{item:02}", begin + timedelta(days=n)) for n, item in enumerate(items)]
    return rows


@pytest.fixture(scope="module")
def world(spark, tiny_bert, tmp_path_factory):
    """A function that compares scorers on the planted log, all of its events of one type."""
    folder = tmp_path_factory.mktemp("tastes")
    (folder / "shop.toml").write_text(SHOP, encoding="utf-8")
    lines = [f"i{n:02},{KINDS[n % 3]} {n % 7},brand{n % 4},shop/{KINDS[n % 3]},{1 + n}" for n in range(30)]

    def write(kind, log):
        (folder / kind).mkdir()
        (folder / kind / "products.csv").write_text("sku,name,brand,path,price\n" + "\n".join(lines), encoding="utf-8")
        what = kind if kind in ("listen", "skip") else "purchase"
        rows = [f"{user},{item},{what},{time:%Y-%m-%d %H:%M:%S}" for user, item, time in log]
        (folder / kind / "log.csv").write_text("user,sku,what,at\n" + "\n".join(rows), encoding="utf-8")

    def compare(kind="purchase", log=None, **options):
        if not (folder / kind).exists():
            write(kind, log or log_of())
        lake = str(folder / "lakes" / kind)
        settings = {"dataset": str(folder / "shop.toml"), "data": str(folder / kind), "model": str(tiny_bert)}
        settings |= {"lake": lake, "metrics_k": 5, "replicates": 20} | options
        return evaluate_models(Run("evaluate_models", Lake(lake), Progress()), ComparisonOptions(**settings))

    return compare


def popularity_by_hand(spark, protocol, k):
    """(users, hit rate, NDCG) of popularity, from the roles of events only."""
    ddl = "user_id string, item_id string, timestamp timestamp, weight double"
    events = spark.createDataFrame([(*row, 1.0) for row in log_of()], ddl)
    rows = with_roles(newest_events(events, 1000), protocol).collect()
    users = {row["user_id"] for row in rows}
    had = {u: {r["item_id"] for r in rows if r["user_id"] == u and r["role"] != TEST} for u in users}
    fitted = {u: had[u] for u in users if any(r["fitted"] for r in rows if r["user_id"] == u)}
    counts = {f"i{n:02}": sum(f"i{n:02}" in items for items in fitted.values()) for n in range(30)}
    results = []
    for user in users:
        right = {r["item_id"] for r in rows if r["user_id"] == user and r["role"] == TEST}
        if not right or not had[user]:
            continue
        others = {item: count for item, count in counts.items() if item in right or item not in had[user]}
        ranks = []
        for item in right:
            above = sum(count > others[item] for count in others.values())
            ranks.append(1 + above + (sum(count == others[item] for count in others.values()) - 1) / 2)
        hits = [rank for rank in sorted(ranks) if rank <= k][:k]
        ideal = sum(1 / np.log2(n + 2) for n in range(min(k, len(ranks))))
        results.append((bool(hits), sum(1 / np.log2(rank + 1) for rank in hits) / ideal))
    return len(results), *np.mean(results, axis=0)


@pytest.mark.parametrize(
    "name", ["temporal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cold_items", "new_users"))]
)
def test_every_protocol_agrees_with_brute_force(spark, world, name):
    days = {"valid_from": date(2024, 1, 14), "test_from": date(2024, 1, 18)} if name == "temporal" else {}
    report = world(protocol=name, seed=4, scorers="popularity,tfidf", **days)
    users, hit_rate, ndcg = popularity_by_hand(spark, Protocol(name, 4, **days), 5)
    values = report["metrics"]["popularity"]
    assert values["users"] == users > 0
    assert (values["hit_rate@5"], values["ndcg@5"]) == pytest.approx((hit_rate, ndcg), abs=6e-5)
    if name != "new_users":  # of whom there are five
        assert report["metrics"]["tfidf"]["hit_rate@5"] > hit_rate  # users have tastes
    assert report["protocol"] == name


def test_validation_chooses_epochs_and_weight_of_the_sequence_encoder(world, monkeypatch):
    monkeypatch.setitem(
        GRIDS, "hybrid_sequential", [[GRIDS["hybrid"][0][0] | {"candidates": 10, "decay": 0.8}], _WEIGHTS]
    )
    monkeypatch.setitem(GRIDS, "reranked", [*GRIDS["hybrid_sequential"], [{"reranked": 1}]])
    report = world(protocol="leave_one_out", scorers="sequential,hybrid_sequential,reranked")
    chosen = report["chosen"]
    assert 1 <= chosen["sequential"]["epochs"] <= 20
    weight = chosen["hybrid_sequential"]["sequence"]
    assert weight in (0.0, 0.5)
    assert chosen["hybrid_sequential"].get("epochs") == (chosen["sequential"]["epochs"] if weight else None)
    assert [one["users"] for one in report["metrics"].values()] == [40] * 3
    assert report["metrics"]["reranked"]["hit_rate@5"] > 5 / 30, "a list in any order"


@pytest.mark.slow
def test_a_temporal_split_without_days_takes_quantiles_of_the_events(world):
    report = world(protocol="temporal", scorers="popularity")
    days = sorted(time.date() for _, _, time in log_of())
    assert report["valid_from"] == str(days[int(np.ceil(0.8 * len(days))) - 1])
    assert report["test_from"] == str(days[int(np.ceil(0.9 * len(days))) - 1])
    later = world(protocol="temporal", scorers="popularity", test_from=date(2024, 1, 20))
    assert (later["valid_from"], later["test_from"]) == (report["valid_from"], "2024-01-20")
    with pytest.raises(UsageError, match="2024-01-10"):
        world(protocol="temporal", scorers="popularity", test_from=date(2024, 1, 10))


@pytest.mark.slow
def test_each_window_is_a_comparison_and_new_users_are_apart(world):
    log = [(f"u{u:02}", f"i{(u + n) % 30:02}", START + timedelta(days=3 * u + n)) for u in range(40) for n in range(6)]
    report = world("dated", log, scorers="popularity,ease", windows=2)
    assert report["protocol"] == "temporal"
    new = report["slices"]["history: none (new users)"]
    assert new["ease"]["users"] > 0
    assert new["ease"]["hit_rate@5"] == 0 < new["popularity"]["hit_rate@5"]
    both = report["windows"]["popularity"]
    before = 2 * both["hit_rate@5"] - report["metrics"]["popularity"]["hit_rate@5"]
    assert both["hit_rate@5_spread"] == pytest.approx(abs(before - both["hit_rate@5"]) * 2**0.5, abs=3e-4)
    late = {"valid_from": date(2024, 4, 1), "test_from": date(2024, 8, 1)}
    with pytest.raises(InputError, match="in the test under this protocol"):
        world("dated", scorers="popularity", **late)


@pytest.mark.slow
def test_lists_of_one_item_have_no_diversity_and_the_report_is_json(world):
    report = world(scorers="popularity", metrics_k=1)
    assert "NaN" not in json.dumps(report, default=str)
    assert "diversity@1" not in report["metrics"]["popularity"]


@pytest.mark.slow
def test_ease_is_left_out_of_a_large_catalogue_with_a_warning(world, monkeypatch):
    monkeypatch.setattr(search_grids, "EASE_ITEMS", 29)
    with pytest.raises(UsageError, match="30 items"):
        world(scorers="ease")
    report = world(scorers="popularity,ease")
    assert list(report["metrics"]) == ["popularity"]
    assert [warning for warning in report["warnings"] if "ease is left out" in warning]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["leave_one_out", "temporal"])
def test_event_types_without_a_weight_and_logs_without_positive_events_are_refused(world, protocol):
    with pytest.raises(UsageError, match="listen"):
        world("listen", protocol=protocol, scorers="popularity")
    with pytest.raises(InputError, match="no event"):
        world("skip", protocol=protocol, scorers="popularity")


def user_batch(items, roles):
    """Rows of ``user_rows`` of users with one event a day."""
    row = {"user_hash": range(len(items)), "groups": [None] * len(items), "items": items, "roles": roles}
    row |= {"weights": [[1.0] * len(one) for one in items], "days": [np.arange(len(one)) * 1.0 for one in items]}
    lists = [pa.string(), pa.int32(), pa.int32(), pa.float32(), pa.float64()]
    kinds = [pa.int64(), *(pa.list_(kind) for kind in lists)]
    return pa.RecordBatch.from_pydict(row, pa.schema(dict(zip(row, kinds, strict=True))))


def user_metrics(tmp_path, items, roles, scores, k=3, seen_targets="miss"):
    """Metrics of one user against scores."""
    uri, count = str(tmp_path), len(scores)
    statistics = {"counts": np.ones(count, int), "lengths": np.ones(count, int), "shared": np.zeros(count, bool)}
    for name, array in (statistics | {"vectors": np.eye(count, dtype=np.float32)}).items():
        write_array(array, f"{uri}/{name}.npy")
    one = Candidate("one", write_scorer(ItemScores(np.array(scores, np.float32)), f"{uri}/w"), 1.0, {})
    spec = EvaluationSpec(True, True, seen_targets, k, count, uri, replicates=2, seed=1)
    batch = user_batch([items], [roles])
    rows = [row for part in candidate_sums([one], spec)(iter([batch])) for row in part.to_pylist()]
    return dict(zip(METRICS, merge_totals(rows, spec)[0, "all"].means[0], strict=True))


def test_an_item_that_is_relevant_twice_counts_once(tmp_path):
    once = user_metrics(tmp_path, [0, 3, 3, 2], [FIT, VALID, TEST, TEST], [1, 2, 3, 4], k=2, seen_targets="rank")
    roles = [FIT, VALID, TEST, TEST, TEST, TEST]
    twice = user_metrics(tmp_path, [0, 3, 3, 2, 3, 2], roles, [1, 2, 3, 4], k=2, seen_targets="rank")
    assert twice == once
    assert twice["ndcg"] == twice["map"] == twice["recall"] == 1
    one = user_metrics(tmp_path, [0, 1, 3, 3], [FIT, FIT, TEST, TEST], [1, 2, 3, 4])
    assert (one["ndcg"], one["map"], one["precision"]) == (1, 1, 1 / 3)


def test_a_relevant_item_of_the_history_is_a_miss_or_has_a_rank(tmp_path):
    repeat = [0, 3, 3], [FIT, VALID, TEST], [1, 2, 3, 4]
    assert user_metrics(tmp_path, *repeat)["hit_rate"] == 0
    assert user_metrics(tmp_path, *repeat, seen_targets="rank")["mrr"] == 1


def test_a_new_user_has_a_list_of_scorers_that_need_no_history_only(tmp_path):
    uri = str(tmp_path)
    write_array(np.eye(3, dtype=np.float32), f"{uri}/vectors.npy")
    for name in ("counts", "lengths", "shared"):
        write_array(np.ones(3, bool if name == "shared" else int), f"{uri}/{name}.npy")
    popularity = write_scorer(ItemScores(np.array([1, 2, 3], np.float32)), f"{uri}/p")
    pairs = write_scorer(ItemWeights(np.ones((3, 3), np.float32)), f"{uri}/w")
    candidates = [Candidate("one", files, 1.0, {}) for files in (popularity, pairs)]
    batch = user_batch([[2], [0, 2]], [[TEST], [FIT, TEST]])
    for test in (True, False):
        spec = EvaluationSpec(test, True, "miss", 2, 3, uri, replicates=2 * test, seed=1)
        rows = [row for part in candidate_sums(candidates, spec)(iter([batch])) for row in part.to_pylist()]
        totals = merge_totals(rows, spec)
        assert not test or [totals[n, "all"].users for n in (0, 1)] == [1, 1]
        new = [totals[n, "history: none (new users)"] for n in (0, 1)] if test else []
        assert [total.means[0, METRICS.index("hit_rate")] for total in new] == [1, 0][: len(new)]


def total_of(means, users=50):
    """A total whose means over users are given, the first whole, the others replicates."""
    sums = np.stack([np.array(means, np.float64), np.ones((len(means), len(means[0])))])
    return _Total(users, sums, np.zeros(3, np.int64))


def test_a_gap_is_the_best_group_minus_the_worst_with_the_interval_of_that_pair():
    number = METRICS.index("ndcg")

    def group(ndcg, users=50):
        return [total_of([[value if n == number else 9 for n in range(len(METRICS))] for value in ndcg], users)]

    totals = {
        "all": group([0.2, 0.2, 0.2]),
        "users: age: old": group([0.3, 0.5, 0.1]),
        "users: age: young": group([0.1, 0.1, 0.2]),
        "users: age: nobody": group([np.nan, np.nan, np.nan], users=0),
        "users: size: one": group([0.3, 0.3, 0.3]),
    }
    by_attribute = gaps(totals, ["hybrid"], 10)
    assert by_attribute == {"age": {"hybrid": {"ndcg@10_gap": 0.2, "ndcg@10_low": -0.0875, "ndcg@10_high": 0.3875}}}


def test_a_text_scorer_that_loses_by_either_metric_gives_a_warning():
    rows = {"hit_rate@10": 0.2, "ndcg@10": 0.1}
    metrics = {"popularity": rows, "cosine": rows | {"ndcg@10": 0.09}, "cosine_whitened": rows | {"hit_rate@10": 0.19}}
    warnings = warnings_of(metrics | {"hybrid": dict.fromkeys(rows, 0.0), "tfidf": dict.fromkeys(rows, 0.0)}, 10)
    assert warnings == [
        "cosine (0.0900) loses to popularity (0.1000) by ndcg@10",
        "cosine_whitened (0.1900) loses to popularity (0.2000) by hit_rate@10",
    ]
    assert warnings_of({"cosine": rows, "tfidf": rows}, 10) == []


def test_every_scorer_can_be_compared_and_the_closed_form_is_near_the_sparse_one(world):
    report = world(scorers=",".join(GRIDS), mask_seen=False)
    values = report["metrics"]
    assert list(values) == list(GRIDS)
    assert values["hybrid"]["ndcg@5"] == pytest.approx(values["hybrid_exact"]["ndcg@5"], rel=0.05)
    assert values["hybrid"]["ndcg@5"] > values["popularity"]["ndcg@5"]
    assert report["chosen"]["own_history"].keys() == {"own_half_life", "half_life", "decay"}
    assert report["chosen"]["popularity_recent"].keys() == {"half_life", "decay"}
    assert report["chosen"]["cosine_whitened"].keys() == {"whitened", "shrink", "decay"}
    assert report["chosen"]["cosine_blocks"].keys() == {"whitened", "shrink", "category", "brand", "price", "decay"}
    assert values["cosine_blocks"]["ndcg@5"] > values["cosine"]["ndcg@5"]  # a tiny random encoder; categories tell all
    assert report["texts"] == {"items": 30, "words": 1.0, "without_words": 0.0, "of_several_items": shared_titles()}
    assert report["slices"]["text: of several items"]["tfidf"]["users"] > 0
    assert report["slices"]["text: none"]["tfidf"] == {"users": 0}


def shared_titles():
    """The share of items whose title another item has too: number n is of kind n % 3 and has the figure n % 7."""
    titles = [(n % 3, n % 7) for n in range(30)]
    return round(sum(titles.count(title) > 1 for title in titles) / 30, 4)
