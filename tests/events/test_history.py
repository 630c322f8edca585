"""Which events count, and how much by their position, against slow loops over each user's events."""

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from statistics import median

import numpy as np
import pytest
from pyspark.sql import functions as F

from recsys_spark.events.history import History, counted_events, damp_popular
from recsys_spark.events.options import HistoryOptions
from recsys_spark.events.weights import EventWeights, weigh_pairs
from tests.bench.events import BY_TYPE, EVENT_DDL, MIDNIGHT, RUN_DATE, WEIGHTS, utc

START = datetime(2024, 2, 1, tzinfo=UTC)
HISTORIES = {
    "plain": History(),
    "steps": History(half_life_steps=1.5),
    "steep": History(half_life_steps=0.05),  # beyond three steps the weight is 0
    "last": History(max_events=4),
    "sessions": History(session_gap_minutes=30),
    "limited": History(session_gap_minutes=30, session_limit=1.0),
    "all": History(half_life_steps=2.0, max_events=5, session_gap_minutes=20, session_limit=1.5),
}


def slow(events, history):
    """(user, item, type, timestamp, value) → decay, in the order of the rules."""
    decays = {}
    for user in {event[0] for event in events}:
        mine, shares = sorted((event for event in events if event[0] == user), key=lambda event: event[3]), {}
        if history.session_gap_minutes is not None:
            sessions, last = [], None
            for event in mine:
                if last is None or event[3] - last > timedelta(minutes=history.session_gap_minutes):
                    sessions.append({})
                sessions[-1][event[1:3]] = event  # a later one replaces it
                last = event[3]
            mine = [event for session in sessions for event in session.values()]
            limit = (history.session_limit or math.inf) * median(map(len, sessions))
            shares = {event: min(1, limit / len(one)) for one in sessions for event in one.values()}
        mine.sort(key=lambda event: (MIDNIGHT - event[3], event[1], event[2]))
        mine = mine[: history.max_events]
        for event in mine:
            newer = sum(other[3] > event[3] for other in mine)
            decay = 2 ** (-newer / history.half_life_steps) if history.half_life_steps else 1.0
            if decay > 2**-57:
                decays[event] = decay * shares.get(event, 1)
    return decays


@pytest.fixture(scope="module")
def events():
    """Bursts of repeats and ties, and one user with a single event."""
    random = np.random.default_rng(5)
    rows = {("alone", "i1", "view", START): None}
    for _ in range(160):
        user, item, burst, minute = (int(n) for n in random.integers((0, 0, 0, 0), (6, 4, 5, 9)))
        kind = str(random.choice(["view", "rating"]))
        at = START + timedelta(hours=7 * burst, minutes=10 * minute)
        rows[(f"u{user}", f"i{item}", kind, at)] = float(random.integers(1, 6)) if kind == "rating" else None
    return [(*key, value) for key, value in rows.items()]


@pytest.mark.parametrize("name", HISTORIES)
def test_counted_events_equal_slow_loops(spark, events, name):
    rows = counted_events(spark.createDataFrame(events[::-1], EVENT_DDL), HISTORIES[name]).collect()
    decays = {
        (row["user_id"], row["item_id"], row["event_type"], utc(row["timestamp"]), row["value"]): row["decay"]
        for row in rows
    }
    expected = slow(events, HISTORIES[name])
    assert len(rows) == len(decays)
    assert decays == pytest.approx(expected)
    assert (len(decays) == len(events)) == (name in ("plain", "steps"))


@pytest.mark.parametrize(
    ("minutes", "counted"),
    [
        ([0, 30], [30]),  # the gap itself ends nothing
        ([0, 31], [0, 31]),
        ([0, 20, 40, 60], [60]),  # a session may be longer than the gap
        ([0, 0], [0]),
    ],
)
def test_a_pause_longer_than_the_gap_ends_a_session(spark, minutes, counted):
    rows = [("u", "i", "view", START + timedelta(minutes=m), None) for m in dict.fromkeys(minutes)]
    rows = counted_events(spark.createDataFrame(rows, EVENT_DDL), History(session_gap_minutes=30)).collect()
    assert sorted(utc(row["timestamp"]) for row in rows) == [START + timedelta(minutes=m) for m in counted]


def test_other_events_of_the_user_keep_a_session_open(spark):
    rows = [
        ("u", item, kind, START + timedelta(minutes=m), None)
        for item, kind, m in [("a", "view", 0), ("b", "view", 20), ("a", "view", 40), ("a", "cart", 45)]
    ]
    rows = counted_events(spark.createDataFrame(rows, EVENT_DDL), History(session_gap_minutes=30)).collect()
    assert sorted((row["item_id"], row["event_type"]) for row in rows) == [
        ("a", "cart"), ("a", "view"), ("b", "view")
    ]  # fmt: skip


def test_of_events_at_one_moment_the_last_ones_are_taken_by_item(spark):
    rows = [("u", item, "view", START, None) for item in "dbca"]
    rows = counted_events(spark.createDataFrame(rows, EVENT_DDL), History(max_events=2)).collect()
    assert sorted(row["item_id"] for row in rows) == ["a", "b"]


@pytest.mark.parametrize("name", HISTORIES)
def test_weights_have_the_same_bits_whatever_order_and_partitions(spark, events, name):
    def weighed(rows, partitions):
        frame = spark.createDataFrame(rows, EVENT_DDL).repartition(partitions)
        pairs = weigh_pairs(frame, RUN_DATE, WEIGHTS, HISTORIES[name]).collect()
        return {(row["user_id"], row["item_id"]): (row["weight"].hex(), row["events"]) for row in pairs}

    assert weighed(events, 1) == weighed(events[::-1], 5)


def test_steps_and_days_decay_together_and_days_can_be_left_out(spark):
    rows = [("u", f"i{n}", "view", MIDNIGHT - timedelta(days=30 * (n + 1)), None) for n in range(3)]
    frame = spark.createDataFrame(rows, EVENT_DDL)

    def weights(half_life_days, **rules):
        weights = EventWeights(BY_TYPE, rating_center=3.0, half_life_days=half_life_days)
        pairs = weigh_pairs(frame, RUN_DATE, weights, History(**rules)).orderBy("item_id").collect()
        return [row["weight"] for row in pairs]

    assert weights(30) == [1.0, 0.5, 0.25]
    assert weights(30, half_life_steps=1) == [1.0, 0.25, 0.0625]
    assert weights(0, half_life_steps=1) == [1.0, 0.5, 0.25]
    assert weights(0) == [1.0, 1.0, 1.0]


def test_popular_items_count_less_by_their_share_of_events(spark):
    rows = [("u1", "hit", 2.0, 6), ("u2", "hit", -1.0, 2), ("u1", "rare", 1.0, 1), ("u2", "other", 1.0, 1)]
    pairs = spark.createDataFrame([(*row, MIDNIGHT) for row in rows], PAIR_DDL)
    weights = {(row["user_id"], row["item_id"]): row["weight"] for row in damp_popular(pairs, 0.1).collect()}
    for user, item, weight, _ in rows:
        share = Fraction(sum(row[3] for row in rows if row[1] == item), 10)
        assert weights[user, item] == pytest.approx(weight * 0.1 / (0.1 + float(share)))


PAIR_DDL = "user_id string, item_id string, weight double, events bigint, last_timestamp timestamp"


def test_sif_is_applied_to_the_pairs_of_a_history(spark, events):
    frame = spark.createDataFrame(events, EVENT_DDL)
    plain = {tuple(row)[:2]: row["weight"] for row in weigh_pairs(frame, RUN_DATE, WEIGHTS).collect()}
    damped = {
        tuple(row)[:2]: row["weight"] for row in weigh_pairs(frame, RUN_DATE, WEIGHTS, History(sif=0.5)).collect()
    }
    shares = {item: sum(event[1] == item for event in events) / len(events) for item in {event[1] for event in events}}
    assert damped == pytest.approx({pair: w * 0.5 / (0.5 + shares[pair[1]]) for pair, w in plain.items()})


@pytest.fixture
def plan(spark, events, capsys):
    def explained(history):
        counted_events(spark.createDataFrame(events, EVENT_DDL), history).explain()
        return capsys.readouterr().out

    return explained


def test_a_history_without_rules_has_no_window(plan):
    assert "Window" not in plan(History())
    assert "Window" not in plan(History(sif=0.1))


@pytest.mark.parametrize("history", [History(max_events=50), History(half_life_steps=2.0)])
def test_events_that_cannot_count_are_dropped_before_the_shuffle(plan, history):
    steps = [line for line in plan(history).splitlines() if "WindowGroupLimit" in line or "Exchange" in line]
    assert "Final" in steps[0]
    assert "Exchange" in steps[1]
    assert "Partial" in steps[2]


def test_a_user_with_fifty_thousand_events_is_sorted_and_not_collected(spark):
    at = F.timestamp_seconds(F.lit(int(START.timestamp())) + F.col("id") * 60)
    whale = spark.range(50_000).select(
        F.lit("whale").alias("user_id"),
        F.concat(F.lit("i"), F.col("id") % 7).alias("item_id"),
        F.lit("view").alias("event_type"),
        at.alias("timestamp"),
        F.lit(None).cast("double").alias("value"),
    )
    everything = History(half_life_steps=2.0, max_events=5, session_gap_minutes=0.5)
    weights = EventWeights(BY_TYPE, rating_center=3.0, half_life_days=0)
    late = (START + timedelta(days=90)).date()
    rows = weigh_pairs(whale, late, weights, everything).collect()
    expected = {f"i{(49_999 - n) % 7}": 2 ** (-n / 2) for n in range(5)}
    assert {row["item_id"]: row["weight"] for row in rows} == pytest.approx(expected)


def test_a_burst_moves_a_history_by_a_bounded_amount(spark):
    rows = [("u", f"i{day}", "view", START + timedelta(days=day), None) for day in range(4)]
    burst = [("u", f"x{n}", "view", START + timedelta(days=9, seconds=n), None) for n in range(60)]
    frame = spark.createDataFrame(rows + burst, EVENT_DDL)
    decays = {
        limit: {
            row["item_id"]: row["decay"]
            for row in counted_events(frame, History(None, None, 30, None, limit)).collect()
        }
        for limit in (None, 2.0)
    }
    assert sum(decays[None].values()) == 64
    assert sum(value for item, value in decays[2.0].items() if item.startswith("x")) == pytest.approx(2)
    assert all(value == 1 for item, value in decays[2.0].items() if item.startswith("i"))


def test_commits_without_a_limit_say_what_those_of_earlier_releases_say():
    assert "session_limit" not in History(session_gap_minutes=30).settings()
    assert History(session_gap_minutes=30, session_limit=2.0).settings()["session_limit"] == 2.0


def test_a_limit_needs_sessions():
    with pytest.raises(ValueError, match="session_limit needs session_gap_minutes, such as 30"):
        HistoryOptions(lake="lake", run_date=RUN_DATE, session_limit=2.0)
