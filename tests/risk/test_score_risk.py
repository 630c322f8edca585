"""Attacks on a small lake: the truth of a copy, scores with reasons, trust in profiles and weights, bad input."""

from datetime import date, datetime, timedelta

import numpy as np
import pytest

from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.events.trust import trusted_pairs
from recsys_spark.lake.lake import Lake
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.risk.options import AttackOptions, RiskOptions
from recsys_spark.risk.steps.score_risk import score_risk
from recsys_spark.risk.steps.simulate_attacks import simulate_attacks
from recsys_spark.tables.schemas import (
    ATTACK_TRUTH,
    EMBEDDINGS,
    EVENTS,
    ITEM_RISK,
    ITEM_VECTORS,
    ITEMS,
    USER_PROFILES,
    USER_RISK,
    USERS,
)
from tests.bench.small_lake import DAY, Bench

USER_COUNT, ITEM_COUNT = 120, 40


def log(seed=0, users=USER_COUNT):
    """Users who rate some of the popular items of one of two categories."""
    random, rows = np.random.default_rng(seed), []
    popularity = np.arange(1, ITEM_COUNT // 2 + 1) ** -0.8
    for user in range(users):
        half = user % 2 * ITEM_COUNT // 2
        items = random.choice(ITEM_COUNT // 2, 8, replace=False, p=popularity / popularity.sum()) + half
        start = datetime(2024, 1, 1) + timedelta(days=float(random.uniform(0, 50)))
        for place, item in enumerate(items):
            at = start + timedelta(minutes=7 * place)
            rows.append((f"u{user:03}", f"i{item:02}", "rating", at, float(random.integers(2, 6))))
    return rows


def put_shop(bench, rows):
    items = [
        (f"i{n:02}", f"thing {n}", f"a thing {n}", f"h{n}", [f"c{2 * n // ITEM_COUNT}"], None, 5.0)
        for n in range(ITEM_COUNT)
    ]
    bench.put(ITEMS, *items)
    bench.put(USERS, *((f"u{n:03}",) for n in range(USER_COUNT)))
    bench.put(EVENTS, *rows)
    angles = {f"i{n:02}": (2 * n // ITEM_COUNT) * 1.4 + n * 0.01 for n in range(ITEM_COUNT)}
    vectors = {item: [float(np.cos(a)), float(np.sin(a))] for item, a in angles.items()}
    bench.put_vectors(vectors=vectors)
    bench.put(EMBEDDINGS, ("h0", "m", [1.0, 0.0]))


def options(bench, **more):
    return RiskOptions(lake=bench.lake.uri, run_date=DAY, **more)


def attack(bench, folder, **more):
    lake = Lake(str(folder))
    given = {"lake": bench.lake.uri, "run_date": DAY, "output_lake": lake.uri, "attack": "random", "share": 0.05}
    report = simulate_attacks(bench.run, AttackOptions(**(given | more)))
    return lake, report


@pytest.fixture(scope="module")
def shop_lake(spark, tmp_path_factory):
    bench = Bench(spark, tmp_path_factory.mktemp("risk"))
    put_shop(bench, log())
    return bench


def rows_of(spark, lake, table):
    return sorted(map(tuple, lake.read(spark, table).collect()), key=repr)


def test_attackers_are_the_same_for_any_partitions_and_are_the_truth(spark, shop_lake, tmp_path):
    first, report = attack(shop_lake, tmp_path / "first", seed=3)
    assert attack(shop_lake, tmp_path / "first", seed=3)[1]["status"] == "unchanged"
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        second, _ = attack(shop_lake, tmp_path / "second", seed=3)
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "3")
    for table in (EVENTS, USERS, ATTACK_TRUTH):
        assert rows_of(spark, first, table) == rows_of(spark, second, table)
    truth = {row["user_id"]: row["item_id"] for row in first.read(spark, ATTACK_TRUTH).collect()}
    added = [r for r in first.read(spark, EVENTS).collect() if r["user_id"] in truth]
    assert report["tables"]["attack_truth"] == len(truth) > 0
    assert len(rows_of(spark, first, EVENTS)) == len(log()) + len(added)
    pushed = {(r["user_id"], r["item_id"]): r["value"] for r in added}
    assert all(pushed[user, item] == 5.0 for user, item in truth.items())
    assert all(1 <= r["value"] <= 5 and r["timestamp"].date() < DAY for r in added)
    with pytest.raises(UsageError, match="has tables already"):
        attack(shop_lake, tmp_path / "first", seed=4)
    with pytest.raises(UsageError, match="output_lake is this lake"):
        attack(shop_lake, shop_lake.lake.uri)


@pytest.mark.parametrize("kind", ["title_stuffing", "takeover"])
def test_an_attack_changes_what_it_names_and_nothing_else(spark, shop_lake, tmp_path, kind):
    lake, _ = attack(shop_lake, tmp_path / kind, attack=kind, share=0.05, seed=1)
    truth = lake.read(spark, ATTACK_TRUTH).collect()
    table, key = (ITEMS, "item_id") if kind == "title_stuffing" else (EVENTS, "user_id")
    named = {row[key] for row in truth}
    before, after = (set(map(str, shop.read(spark, table).collect())) for shop in (shop_lake.lake, lake))
    changed = {row for row in before ^ after if not any(f"{key}='{name}'" in row for name in named)}
    assert named
    assert before != after
    assert not changed


@pytest.mark.slow
def test_users_with_long_histories_are_taken_over_too(spark, tmp_path):
    bench = Bench(spark, tmp_path / "long")
    start = datetime(2023, 1, 1)
    rows = [
        (f"u{user:03}", f"i{item % ITEM_COUNT:02}", "rating", start + timedelta(hours=item, minutes=user), 3.0)
        for user in range(20)
        for item in range(400)
    ]
    put_shop(bench, rows)
    lake, _ = attack(bench, tmp_path / "taken", attack="takeover", share=0.05)
    assert lake.read(spark, ATTACK_TRUTH).count() == 1
    assert all(row["timestamp"].date() < DAY for row in lake.read(spark, EVENTS).collect())


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["average", "bandwagon", "segment", "love_hate", "click_farm", "duplicate_items", "prompt_text"]
)
def test_every_attack_has_a_truth(spark, shop_lake, tmp_path, kind):
    lake, report = attack(shop_lake, tmp_path / kind, attack=kind, share=0.05, seed=1)
    assert report["tables"]["attack_truth"] > 0
    assert {row["attack"] for row in lake.read(spark, ATTACK_TRUTH).collect()} == {kind}


@pytest.fixture(scope="module")
def scored_lake(spark, tmp_path_factory):
    """A lake in which six users praise item i39 within minutes, beside items of both categories."""
    bench = Bench(spark, tmp_path_factory.mktemp("scored"))
    farm = []
    for user in range(6):
        at = datetime(2024, 2, 20, 3)
        items = ["i39", *(f"i{(7 * n + user) % ITEM_COUNT:02}" for n in range(1, 8))]
        farm += [(f"u{user:03}", item, "rating", at + timedelta(seconds=n), 5.0) for n, item in enumerate(items)]
    names = {f"u{user:03}" for user in range(6)}
    put_shop(bench, [row for row in log() if row[0] not in names] + farm)
    report = score_risk(bench.run, options(bench, review_budget=3))
    return bench, report, names


def test_users_who_praise_one_item_together_have_the_greatest_scores_and_reasons(spark, scored_lake):
    bench, report, names = scored_lake
    rows = sorted(bench.lake.read(spark, USER_RISK).collect(), key=lambda row: -row["score"])
    assert len(rows) == USER_COUNT
    assert {row["user_id"] for row in rows[:6]} == names
    assert all(row["trust"] < 1 and row["reasons"] for row in rows[:6])
    assert all(row["reasons"] == [] for row in rows if row["trust"] == 1)
    assert [row["segment"] for row in rows[:3]] == ["review"] * 3
    assert report["segments"]["user_risk"]["review"] == 3
    assert all("%s" not in reason for row in rows for reason in row["reasons"])
    items = {row["item_id"]: row for row in bench.lake.read(spark, ITEM_RISK).collect()}
    assert max(items.values(), key=lambda row: row["score"])["item_id"] == "i39"
    assert score_risk(bench.run, options(bench, review_budget=3))["status"] == "unchanged"


def test_scores_do_not_depend_on_partitions(spark, scored_lake, tmp_path):
    bench, _, _ = scored_lake
    again = Bench(spark, tmp_path)
    for table in (ITEMS, USERS, EVENTS, ITEM_VECTORS):
        frame = bench.lake.read(spark, table).repartition(5)
        again.lake.commit(again.lake.stage(frame, table), "copy")
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    try:
        score_risk(again.run, options(again, review_budget=3))
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", "3")
    for table in (USER_RISK, ITEM_RISK):
        assert rows_of(spark, again.lake, table) == rows_of(spark, bench.lake, table)


def test_the_profile_of_a_distrusted_user_is_scaled_and_a_change_of_trust_is_a_change(spark, scored_lake, tmp_path):
    bench = Bench(spark, tmp_path)
    for table in (ITEMS, USERS, EVENTS, ITEM_VECTORS, EMBEDDINGS):
        bench.lake.commit(bench.lake.stage(scored_lake[0].lake.read(spark, table), table), "copy")

    def trust(**by_user):
        rows = [(f"u{n:03}", 0.0, by_user.get(f"u{n:03}", 1.0), [], "normal", DAY) for n in range(USER_COUNT)]
        bench.put(USER_RISK, *rows)

    def profiles(**more):
        given = {"lake": bench.lake.uri, "run_date": DAY, "user_text_weight": 0.0, "accept_drift": True}
        report = build_profiles(bench.run, ProfileOptions(**(given | more)))
        rows = bench.lake.read(spark, USER_PROFILES).collect()
        return report, {row["user_id"]: row["embedding"] for row in rows}

    plain = profiles()[1]
    with pytest.raises(InputError, match="user_risk"):
        profiles(trust_weights=True)
    trust(u001=0.25)
    _, trusted = profiles(trust_weights=True)
    assert trusted["u001"] == [x / 4 for x in plain["u001"]]
    assert trusted["u002"] == plain["u002"]
    trust(u002=0.0625)
    report, changed = profiles(trust_weights=True)
    assert report["profiles_made"] == "2 users who changed"
    full = profiles(trust_weights=True, full=True)[1]
    assert changed == full
    assert changed["u001"] == plain["u001"]
    assert changed["u002"] == [x / 16 for x in plain["u002"]]


def test_a_weight_is_multiplied_by_trust(spark):
    at = datetime(2024, 1, 1)
    pairs = spark.createDataFrame(
        [("u", "a", 3.0, 1, at), ("v", "a", -2.0, 1, at), ("w", "a", 1.0, 1, at)],
        "user_id string, item_id string, weight double, events bigint, last_timestamp timestamp",
    )
    risk = spark.createDataFrame([("u", 0.25), ("v", 1.0)], "user_id string, trust double")
    assert {row[0]: row[2] for row in trusted_pairs(pairs, risk).collect()} == {"u": 0.75, "v": -2.0, "w": 1.0}


def test_bad_input_is_a_sentence_and_publishes_nothing(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    with pytest.raises(InputError, match="no table"):
        score_risk(bench.run, options(bench))
    put_shop(bench, log(users=1))
    with pytest.raises(QualityError, match="has one user before"):
        score_risk(bench.run, options(bench))
    early = date(2023, 1, 1)
    with pytest.raises(QualityError, match="has no user before"):
        score_risk(bench.run, options(bench).model_copy(update={"run_date": early}))
    with pytest.raises(InputError, match="there is nobody to imitate"):
        attack(bench, tmp_path / "empty", run_date=early)
    assert bench.lake.version(USER_RISK) is None
    assert Lake(str(tmp_path / "empty")).version(EVENTS) is None


def test_equal_users_and_missing_labels_are_refused(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    at = datetime(2024, 1, 1)
    put_shop(bench, [(f"u{n:03}", "i01", "rating", at, 3.0) for n in range(USER_COUNT)])
    with pytest.raises(QualityError, match="nobody can be unusual"):
        score_risk(bench.run, options(bench))
    labelled = Bench(spark, tmp_path / "labelled")
    put_shop(labelled, log())
    with pytest.raises(QualityError, match="0 users have this group"):
        score_risk(labelled.run, options(labelled, risk_label="fraud: yes"))
    assert bench.lake.version(USER_RISK) is labelled.lake.version(USER_RISK) is None


def test_forgotten_users_and_items_are_in_no_risk_table(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    for table, key in ((USER_RISK, "u"), (ITEM_RISK, "i")):
        bench.put(table, *((f"{key}{n}", 9.0, 0.25, ["many"], "watch", DAY) for n in range(3)))
    bench.put(ATTACK_TRUTH, ("u1", "i2", "random"), (None, "i1", "prompt_text"), ("u2", "i2", "random"))
    forget_users(bench.run, ForgetOptions(lake=bench.lake.uri, user_ids="u1", item_ids="i1"))
    left = {table.name: bench.lake.read(spark, table).collect() for table in (USER_RISK, ITEM_RISK, ATTACK_TRUTH)}
    assert {row[0] for row in left["user_risk"]} == {"u0", "u2"}
    assert {row[0] for row in left["item_risk"]} == {"i0", "i2"}
    assert all(row["reasons"] == ["many"] for row in left["user_risk"])
    assert [tuple(row) for row in left["attack_truth"]] == [("u2", "i2", "random")]
