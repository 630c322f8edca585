"""Every preset through a whole refresh, on logs made for it; in this process, with a tiny encoder."""

from datetime import date, timedelta

import numpy as np
import pytest

from recsys_spark.lake.lake import Lake
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions, refresh_lake
from recsys_spark.runtime.config import load
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.presets import preset_values
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, RECOMMENDATIONS

DAY = date(2024, 3, 1)

USERS, K = 60, 5

DATASET = """
title = "A domain"
preset = "{preset}"
[sources]
things = {{ path = "things.csv", options = {{ header = true }} }}
log = {{ path = "log.csv", options = {{ header = true }} }}
[items]
from = "things"
select = {{ item_id = "id", title = "name", brand = "maker", available_from = "since" }}
text = ["{{title}}."]
[events]
from = "log"
select = {{ user_id = "user", item_id = "id", event_type = "what", timestamp = "at", value = "value" }}
earliest = 2020-01-01
latest = "run_date"
"""


class Domain:
    """Items, and a log that a test writes."""

    def __init__(self, spark, folder, model, preset, things):
        self.spark, self.folder, self.model, self.preset = spark, folder, model, preset
        self.since = {name: since for name, _, since in things}
        lines = ["id,name,maker,since", *(f"{n},{words},{n[-1]},{since or ''}" for n, words, since in things)]
        (folder / "things.csv").write_text("\n".join(lines), encoding="utf-8")
        self.lines = []

    def event(self, user, item, what, day, value="", hour=10):
        self.lines.append(f"u{user:02},{item},{what},{day} {hour:02}:00:00,{value}")

    def refresh(self, run_date=DAY, *, preset=True, lake="lake", **more):
        (self.folder / "log.csv").write_text("\n".join(["user,id,what,at,value", *self.lines]), encoding="utf-8")
        file = self.folder / "domain.toml"
        text = DATASET.format(preset=self.preset)
        file.write_text(text if preset else text.replace(f'preset = "{self.preset}"', ""), encoding="utf-8")
        lake = Lake(str(self.folder / lake))
        named = {"lake": lake.uri, "dataset": file, "data": self.folder, "model": self.model, "k": K} | more
        arguments = [f"--{name}={value}" for name, value in {**named, "run_date": run_date}.items()]
        report = refresh_lake(Run("refresh_lake", lake, Progress()), load(RefreshOptions, "refresh", arguments, None))
        lists = {}
        for row in lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect():
            lists.setdefault(row["user_id"], []).append(row["item_id"])
        return report, lists


TOPICS = ["wool", "steel", "paper", "glass"]


def things(count, since=None):
    return [(f"t{n:03}", f"{TOPICS[n % 4]} thing {n}", since) for n in range(count)]


def log(domain, types, *, days=30, each=8, seed=0):
    """Users have events with things of their topic mostly, of all these types; the first of them three times.

    Ratings are shares of what was watched for a preset that counts shares, and stars for the others.
    """
    most = 1.0 if preset_values(domain.preset).get("min_rating", 4.0) <= 1 else 5.0
    random, names = np.random.default_rng(seed), [*domain.since]
    kinds = [types[0], types[0], *types]
    for user in range(USERS):
        for number in range(each):
            own = [name for n, name in enumerate(names) if n % 4 == user % 4 or n % 7 == number % 7]
            what, day = kinds[int(random.integers(len(kinds)))], DAY - timedelta(days=int(random.integers(1, days)))
            value = f"{most * random.random():.2f}" if what == "rating" else ""
            domain.event(user, own[int(random.integers(len(own)))], what, day, value, number % 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video", "social", "games", "shop", "courses", "music"])
def test_a_domain_gets_lists_with_its_preset(spark, tmp_path, tiny_bert, name):
    domain = Domain(spark, tmp_path, tiny_bert, name, things(40))
    preset = preset_values(name)
    log(domain, [*preset["event_weights"]])
    report, lists = domain.refresh()
    assert {f"u{user:02}" for user in range(USERS)} < set(lists)
    seen = {(row["user_id"], row["item_id"]) for row in Lake(str(tmp_path / "lake")).read(spark, EVENTS).collect()}
    again = [(user, item) for user, items in lists.items() for item in items if (user, item) in seen]
    assert report["ranking"]["repeats"] == (preset["repeats"] == "allow") or preset["repeats"] == "auto"
    assert bool(again) == bool(report["ranking"]["repeats"])
    if "quota" in preset:
        makers = {user: [item[-1] for item in items] for user, items in lists.items()}
        assert all(own.count(one) <= preset["quota"] for own in makers.values() for one in own)


def newspaper(spark, folder, model, days=21, daily=8):
    """Articles of every day; users read those of the day and a few of the day before, of their topic mostly."""
    first, random = DAY - timedelta(days=days), np.random.default_rng(1)
    articles = [
        (f"t{day * daily + n:03}", f"{TOPICS[n % 4]} report {n} of day {day}", first + timedelta(days=day))
        for day in range(days + 1) for n in range(daily)
    ]  # fmt: skip
    domain = Domain(spark, folder, model, "news", articles)
    for day in range(days + 1):
        for user in range(USERS):
            for number in range(2):
                back = int(random.random() < 0.25) if day else 0
                topic = user % 4 if random.random() < 0.7 else int(random.integers(4))
                article = (day - back) * daily + topic + 4 * int(random.integers(2))
                what = ["view", "read", "click", "share", "hide"][int(random.choice(5, p=[0.5, 0.3, 0.1, 0.05, 0.05]))]
                domain.event(user, f"t{article:03}", what, first + timedelta(days=day), hour=8 + number)
    return domain


@pytest.mark.slow
def test_lists_of_news_are_fresher_at_no_loss(spark, tmp_path, tiny_bert):
    domain, ages, ndcg = newspaper(spark, tmp_path, tiny_bert), {}, {}
    weights = '{"view": 1, "click": 1, "read": 2, "share": 3, "hide": -2}'
    for preset in (True, False):
        more = {} if preset else {"event_weights": weights}
        _, lists = domain.refresh(preset=preset, lake=f"lake-{preset}", **more)
        listed = [(DAY - domain.since[item]).days for items in lists.values() for item in items]
        ages[preset] = float(np.mean(listed))
        report, _ = domain.refresh(DAY + timedelta(days=1), preset=preset, lake=f"lake-{preset}", **more)
        metrics = report["evaluation"]["metrics"]
        ndcg[preset] = next(v for n, v in flat(metrics) if n.startswith("ndcg"))
    assert ages[True] < 0.5 * ages[False]
    assert ndcg[True] >= ndcg[False]


def flat(metrics):
    for name, value in metrics.items():
        if isinstance(value, dict):
            yield from flat(value)
        else:
            yield name, value
