"""The rules of conf/rules on the worlds of rule_worlds.py: forbidden pairs, full lists, places and the audit."""

import csv
from datetime import date, datetime, timedelta

import numpy as np
import pytest

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.lake.lake import Lake
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    ITEM_VECTORS,
    ITEM_WEIGHTS,
    ITEMS,
    RECOMMENDATIONS,
    RULE_AUDIT,
    USER_PROFILES,
    USERS,
)
from tests.bench.rule_worlds import DAY, write_world
from tests.bench.stored_rows import commit_rows
from tests.conftest import ROOT

K = 5

THEN = datetime(2024, 3, 1)


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def words(text):
    return set(filter(None, text.split(";")))


class World:
    """A lake with the tables of a world, with vectors and weights that the test draws, and the rules in Python."""

    def __init__(self, name, spark, folder):
        self.name, self.spark, self.data = name, spark, folder / name
        self.lake, self.rules = Lake(str(folder / "lake")), str(ROOT / "conf" / "rules" / f"{name}.toml")
        write_world(name, self.data)
        options = IngestOptions(lake=self.lake.uri, dataset=name, data=str(self.data), run_date=date.fromisoformat(DAY))
        ingest_tables(self.run, options)
        self.items = sorted(row["item_id"] for row in self.lake.read(spark, ITEMS).collect())
        self.users = sorted(row["user_id"] for row in self.lake.read(spark, USERS).collect())
        random = np.random.default_rng(3)
        self.vectors, self.profiles = (
            unit_rows(random.standard_normal((len(ids), 6))).astype(np.float32) for ids in (self.items, self.users)
        )
        vectors = zip(self.items, self.vectors.tolist(), strict=True)
        commit_rows(self.lake, ITEM_VECTORS, [(item, "m", vector) for item, vector in vectors], "v")
        profiles = zip(self.users, self.profiles.tolist(), strict=True)
        commit_rows(self.lake, USER_PROFILES, [(user, "m", vector, 3, THEN, THEN) for user, vector in profiles], "p")
        pairs = [(a, b, float(random.uniform(0.1, 1))) for a in self.items for b in self.items if a != b]
        commit_rows(self.lake, ITEM_WEIGHTS, pairs, "w")
        commit_rows(self.lake, EMBEDDINGS, [("x", "m", [1.0, 0.0])], "e")
        log = rows_of(self.data / "log.csv")
        user_key, item_key = [*log[0]][:2]
        self.log = [(row[user_key], row[item_key], row.get("what", "view")) for row in log]

    @property
    def run(self):
        return Run("recommend_items", self.lake, Progress())

    def lists(self, scorer="cosine", **more):
        options = {
            "rules_file": self.rules,
            "k": K,
            "run_date": date.fromisoformat(DAY),
            "repeats": "mask",
            "accept_drift": True,
        } | more
        recommend_items(self.run, TopKOptions(lake=self.lake.uri, scorer=scorer, **options))
        found = {}
        for row in self.lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect():
            found.setdefault(row["user_id"], []).append(row["item_id"])
        return found

    def audit(self):
        rows = self.lake.read(self.spark, RULE_AUDIT).collect()
        return {row["user_id"]: row for row in rows}


@pytest.fixture(scope="module")
def worlds(spark, tmp_path_factory):
    made = {}

    def world(name):
        if name not in made:
            made[name] = World(name, spark, tmp_path_factory.mktemp(name))
        return made[name]

    return world


def forbidden_of(world):
    """For each rule that removes, by priority: whether it removes a pair, in plain Python."""
    files = {path.stem: rows_of(path) for path in world.data.glob("*.csv")}
    if world.name == "courses":
        after = {row["course"]: words(row["after"]) for row in files["courses"]}
        done = {(user, item) for user, item, what in world.log if what == "complete"}
        return {"predecessors": lambda user, item: any((user, one) not in done for one in after[item])}
    if world.name == "medicine":
        remedies = {row["remedy"]: row for row in files["remedies"]}
        people = {row["patient"]: row for row in files["patients"]}

        def too_young(user, item):
            least, age = remedies[item]["min_age"], people[user]["age"]
            return bool(least) and (not age or int(age) < int(least))

        unfit = lambda user, item: words(remedies[item]["unfit"]) & words(people[user]["conditions"])  # noqa: E731
        return {"contra-indication": unfit, "age": too_young}
    if world.name == "city":
        services = {row["service"]: row for row in files["services"]}
        districts = {row["person"]: row["district"] for row in files["people"]}
        return {
            "area": lambda user, item: districts[user] not in words(services[item]["areas"]),
            "closed": lambda user, item: "Mon" not in words(services[item]["open_on"]),
        }
    needs = {row["document"]: int(row["clearance"]) for row in files["documents"]}
    has = {row["person"]: row["clearance"] for row in files["staff"]}
    return {"clearance": lambda user, item: not has[user] or int(has[user]) < needs[item]}


def check_lists(world, lists, *, full=True):
    """No forbidden pair; lists are full whenever enough items are eligible."""
    rules, seen = forbidden_of(world), {(user, item) for user, item, _ in world.log}
    for user in world.users:
        eligible = {
            item
            for item in world.items
            if (user, item) not in seen and not any(rule(user, item) for rule in rules.values())
        }
        assert set(lists.get(user, [])) <= eligible
        if full:
            assert len(lists.get(user, [])) == min(K, len(eligible)), user
    return rules


def check_audit(world, rules):
    """The counts of every rule, and that they add up."""
    audit = world.audit()
    assert set(world.users) <= set(audit)
    for user in world.users:
        row, left, expected = audit[user], set(world.items), {}
        for name, removes in rules.items():
            hit = {item for item in left if removes(user, item)}
            left -= hit
            expected |= {name: len(hit)} if hit else {}
        removing = zip(row["rules"], row["actions"], row["items"], strict=True)
        assert {rule: n for rule, action, n in removing if action in ("ban", "require")} == expected
        assert (row["candidates"], row["remaining"]) == (len(world.items), len(left))


def test_a_remedy_is_never_listed_to_whom_it_could_harm(worlds):
    world = worlds("medicine")
    rules = check_lists(world, world.lists())
    check_audit(world, rules)
    without = world.lists(rules_file=None, k=len(world.items))
    for scorer in ("hybrid", "auto"):
        every = world.lists(scorer, rules_file=None, k=len(world.items))
        lists = world.lists(scorer)
        check_lists(world, lists, full=False)
        for user in world.users:
            kept = [item for item in every.get(user, []) if not any(rule(user, item) for rule in rules.values())]
            assert lists.get(user, []) == kept[:K], "the list without rules, less what they remove, cut at k"
    assert len(without) == len(world.users)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["courses", "city"])
def test_the_rules_of_a_world_hold(worlds, name):
    world = worlds(name)
    rules = check_lists(world, world.lists())
    check_audit(world, rules)


@pytest.mark.slow
def test_a_service_is_open_on_the_day_of_the_lists(worlds):
    world = worlds("city")
    monday = world.lists()
    tuesday = world.lists(run_date=date.fromisoformat(DAY) + timedelta(days=1))
    opened = {row["service"]: words(row["open_on"]) for row in rows_of(world.data / "services.csv")}
    for lists, day in ((monday, "Mon"), (tuesday, "Tue")):
        assert all(day in opened[item] for items in lists.values() for item in items)


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["cosine", "hybrid", "auto"])
def test_a_newcomer_reads_the_handbook_first(worlds, scorer):
    world = worlds("enterprise")
    lists = world.lists(scorer)
    staff = rows_of(world.data / "staff.csv")
    departments = {row["document"]: row["department"] for row in rows_of(world.data / "documents.csv")}
    newcomers = [row["person"] for row in staff if row["since"] == "2024-02-01" and row["clearance"]]
    assert newcomers
    for user in newcomers:
        assert lists[user][0] == "handbook"
    for user, items in lists.items():
        counts = [departments[item] for item in items if item != "handbook"]
        assert all(counts.count(one) <= 3 for one in counts), user
    check_lists(world, lists, full=False)
    check_audit(world, forbidden_of(world))
    audit = world.audit()
    placed = {user: dict(zip(row["rules"], row["items"], strict=True)).get("newcomers") for user, row in audit.items()}
    assert {user for user, number in placed.items() if number} == set(newcomers)
