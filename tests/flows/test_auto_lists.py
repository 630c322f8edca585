"""Default lists through the whole refresh: nights, repeats, odd logs; in this process, with a tiny encoder."""

from datetime import date, timedelta

import numpy as np
import pytest

from recsys_spark.errors import UsageError
from recsys_spark.lake.lake import Lake
from recsys_spark.recommend.options import RecommendOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import ANYONE, RECOMMENDATIONS, USERS

DAY = date(2024, 3, 1)

DATASET = """
title = "Shop"
[sources]
products = { path = "products.csv", options = { header = true } }
log = { path = "log.csv", options = { header = true } }
people = { path = "people.csv", options = { header = true } }
[items]
from = "products"
select = { item_id = "sku", title = "name" }
text = ["{title}."]
[users]
from = "people"
select = { user_id = "user" }
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "what", timestamp = "at" }
earliest = 2020-01-01
latest = "run_date"
"""

ITEMS = [f"a{n:02}" for n in range(15)]


class Shop:
    """A shop whose log a test writes; every refresh runs in this process."""

    def __init__(self, spark, folder, model):
        self.spark, self.folder, self.model = spark, folder, model
        self.lake = Lake(str(folder / "lake"))
        (folder / "shop.toml").write_text(DATASET, encoding="utf-8")
        words = ["wool", "steel", "paper", "glass", "stone"]
        rows = [f"{sku},{words[n % 5]} thing {n}" for n, sku in enumerate(ITEMS)]
        (folder / "products.csv").write_text("\n".join(["sku,name", *rows]), encoding="utf-8")
        (folder / "people.csv").write_text("user\n" + "\n".join(f"u{n}" for n in range(45)), encoding="utf-8")
        self.lines = []

    def buy(self, user, item, days, what="purchase"):
        self.lines.append(f"{user},{item},{what},{DAY - timedelta(days=days)} 10:00:00")

    def refresh(self, run_date=DAY, **more):
        (self.folder / "log.csv").write_text("\n".join(["user,sku,what,at", *self.lines]), encoding="utf-8")
        options = RefreshOptions(
            lake=self.lake.uri, dataset=str(self.folder / "shop.toml"), data=str(self.folder), model=str(self.model),
            run_date=run_date, k=4, **more,
        )  # fmt: skip
        return refresh_lake(Run("refresh_lake", self.lake, Progress()), options)

    def lists(self):
        rows = self.lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect()
        return [(row["user_id"], row["item_id"], row["score"], row["rank"], row["source"]) for row in rows]


@pytest.fixture
def shop(spark, tmp_path, tiny_bert):
    return Shop(spark, tmp_path, tiny_bert)


def busy(shop):
    """40 users who buy two of five items again and again, and a new item in the last week."""
    for user in range(40):
        for days in range(1, 42, 4):
            shop.buy(f"u{user}", ITEMS[(user + days // 20) % 5 if days % 8 else 5 + user % 3], days)


def test_a_log_to_learn_from_gives_everybody_a_ranked_list(shop):
    busy(shop)
    first = shop.refresh()
    assert first["ranking"]["repeats"]
    assert first["ranking"]["users"] >= 30
    lists = shop.lists()
    users = {row["user_id"] for row in shop.lake.read(shop.spark, USERS).collect()}
    assert {user for user, *_ in lists} == users | {ANYONE}
    assert len(lists) == 46 * 4
    of_new = {user: [(item, score) for one, item, score, *_ in lists if one == user] for user in ("u44", ANYONE)}
    assert of_new[ANYONE] == of_new["u44"], "who is unknown gets the list of a user without a history"
    assert {source for *_, source in lists} >= {"own", "popular"}


@pytest.mark.slow
def test_nights_equal_full_ones_and_a_night_without_events_makes_nothing(shop):
    busy(shop)
    shop.refresh()
    lists = shop.lists()
    same = shop.refresh(DAY + timedelta(days=1))
    assert same["lists_made"] == "none"
    assert shop.lists() == lists
    shop.buy("u3", "a09", 0)
    night = shop.refresh(DAY + timedelta(days=1))
    assert night["lists_made"].startswith("all: ")
    changed = shop.lists()
    options = RecommendOptions(lake=shop.lake.uri, run_date=DAY + timedelta(days=1), k=4, full=True)
    recommend_items(Run("recommend_items", shop.lake, Progress()), options)  # on the same item weights
    assert shop.lists() == changed != lists


@pytest.mark.slow
def test_a_click_farm_makes_an_item_popular_unless_events_count_by_trust(shop):
    """Refreshes with trust score the risk first; the default lists then count the clicks of the farm by it."""
    random = np.random.default_rng(2)
    for user in range(45):
        for days in random.choice(60, 12, replace=False):
            shop.buy(f"u{user}", ITEMS[int(random.integers(0, 12))], int(days) + 1)
    shop.lines += [
        f"farm{n},{ITEMS[14]},click,{DAY - timedelta(days=day)} 03:{minute:02}:00"
        for n in range(4)
        for day in (1, 2)
        for minute in range(25)
    ]
    shop.refresh()
    shown = {user for user, item, *_ in shop.lists() if item == ITEMS[14]}
    shop.refresh(trust_weights=True, trust_from=3.0, accept_drift=True)
    trusted = {user for user, item, *_ in shop.lists() if item == ITEMS[14]}
    honest = {f"u{n}" for n in range(45)}
    assert len(shown & honest) > 10
    assert len(trusted & honest) < len(shown & honest) / 2


@pytest.mark.parametrize(
    "log",
    [
        pytest.param([("u1", "a01", 3)], marks=pytest.mark.slow),
        pytest.param([(f"u{n}", "a01", 400) for n in range(9)] + [("u1", "a02", 1)], marks=pytest.mark.slow),
    ],
    ids=["a single event", "a gap of a year"],
)
def test_a_log_with_too_little_to_learn_from_gives_lists_by_popularity(shop, log):
    for user, item, days in log:
        shop.buy(user, item, days)
    report = shop.refresh()
    assert report["ranking"]["ranker"] == "popularity_30"
    assert "too few users" in report["ranking"]["reason"]
    lists = shop.lists()
    assert {user for user, *_ in lists} == {f"u{n}" for n in range(45)} | {ANYONE}
    seen = {(user, item) for user, item, _ in log}
    assert not seen & {(user, item) for user, item, *_ in lists}


@pytest.mark.slow
def test_a_log_of_one_day_gives_lists_by_what_was_chosen_on_it(shop):
    """Many users, and nothing before any window that a ranker could learn from."""
    for user in range(40):
        shop.buy(f"u{user}", ITEMS[user % 3 if user % 2 else 0], 3)
    report = shop.refresh()
    assert report["ranking"]["ranker"].startswith("popularity_")
    firsts = {user: item for user, item, _, rank, _ in shop.lists() if rank == 1}
    assert firsts.keys() == {f"u{n}" for n in range(45)} | {ANYONE}
    assert firsts["u44"] == "a00"


@pytest.mark.slow
def test_a_log_without_a_positive_event_gives_lists_by_cosine(shop):
    shop.buy("u1", "a01", 3, what="cancel")
    report = shop.refresh()
    assert "ranking" not in report
    assert report["lists_made"] == "all: it is the first run"


def test_keys_that_need_vectors_are_refused_by_name(tmp_path):
    run = Run("recommend_items", Lake(str(tmp_path)), Progress())
    with pytest.raises(UsageError, match="--diversity compares vectors: add --scorer=cosine"):
        recommend_items(run, RecommendOptions(lake=str(tmp_path), run_date=DAY, diversity=0.5))
