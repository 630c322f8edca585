"""Figures of users against plain lines, and twins against all pairs."""

import math
from collections import Counter
from datetime import datetime, timedelta
from itertools import combinations

import numpy as np
import pytest

from recsys_spark.risk.twins import LEAST_ITEMS, signatures, similar_owners
from recsys_spark.risk.user_figures import category_figures, popularity_figures, time_figures, value_figures

ITEMS = {f"i{n}": [f"c{n % 3}"] for n in range(12)}


def drawn_log(seed=5, users=6):
    random, rows = np.random.default_rng(seed), []
    for user in range(users):
        at = datetime(2024, 1, 1)
        for item in random.choice(12, int(random.integers(2, 9)), replace=False):
            at += timedelta(seconds=int(random.integers(1, 9000)))
            rows.append((f"u{user}", f"i{item}", "rating", at, float(random.integers(1, 6))))
    return rows


def by_user(rows):
    users = {}
    for row in sorted(rows, key=lambda row: row[3]):
        users.setdefault(row[0], []).append(row)
    return users


def entropy(counts):
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts)


def expected_times(events):
    seconds = [int((row[3] - datetime(1970, 1, 1)).total_seconds()) for row in events]
    hours = Counter(second // 3600 for second in seconds)
    pauses = np.log1p(np.diff(seconds))
    spread = pauses.std()
    burst = (spread - pauses.mean()) / (spread + pauses.mean())
    return math.log(max(hours.values())), burst, -entropy(Counter(s // 3600 % 24 for s in seconds).values())


def expected_categories(events):
    half = len(events) // 2  # place p of n is later if 2 p > n
    parts = [Counter(ITEMS[row[1]][0] for row in part) for part in (events[:half], events[half:])]
    whole = parts[0] + parts[1]
    turn = sum(abs(parts[0][c] / sum(parts[0].values()) - parts[1][c] / sum(parts[1].values())) for c in whole) / 2
    return entropy(whole.values()), turn


def expected_values(rows, events):
    values = np.array([row[4] for row in rows])
    mean, spread = values.mean(), values.std()
    offs, parts = [], []
    for row in events:
        item = [(r[4] - mean) / spread for r in rows if r[1] == row[1]]
        level = (row[4] - mean) / spread
        offs.append(abs(level - (sum(item) - level) / len(item)))  # the mean of all, 0, counts as one value
        parts.append(offs[-1] / len(item))
    mine = [(row[4] - mean) / spread for row in events]
    top = np.mean([row[4] == values.max() for row in events])
    return np.mean(offs), math.log(np.mean(parts) + 1e-4), top, np.std(mine), max(mine) - np.mean(mine)


def test_figures_are_those_of_plain_lines(spark):
    rows = drawn_log()
    events = spark.createDataFrame(
        rows, "user_id string, item_id string, event_type string, timestamp timestamp, value double"
    )
    items = spark.createDataFrame(list(ITEMS.items()), "item_id string, category array<string>")
    times = {row["user_id"]: row for row in time_figures(events).collect()}
    categories = {row["user_id"]: row for row in category_figures(events, items).collect()}
    values = {row["user_id"]: row for row in value_figures(events).collect()}
    popularity = {row["user_id"]: row for row in popularity_figures(events.select("user_id", "item_id")).collect()}
    users = Counter(row[1] for row in rows)
    for user, mine in by_user(rows).items():
        busiest, burst, hours = expected_times(mine)
        assert times[user]["busiest_hour"] == pytest.approx(busiest)
        assert times[user]["burstiness"] == pytest.approx(burst, abs=1e-4) or len(mine) == 2
        assert times[user]["same_hours"] == pytest.approx(hours, abs=1e-5)
        scattered, turn = expected_categories(mine)
        assert categories[user]["scattered_categories"] == pytest.approx(scattered, abs=1e-5)
        assert categories[user]["turn"] == pytest.approx(turn, abs=1e-5)
        off, rare, top, spread, peak = expected_values(rows, mine)
        got = values[user]
        assert got["deviation"] == pytest.approx(off, abs=1e-4)
        assert got["rare_deviation"] == pytest.approx(rare, abs=1e-4)
        assert got["top_values"] == pytest.approx(top)
        assert got["value_spread"] == pytest.approx(spread, abs=1e-4)
        assert got["peak_value"] == pytest.approx(peak, abs=1e-4)
        logs = [math.log(users[row[1]]) for row in mine]
        assert popularity[user]["rare_items"] == pytest.approx(-np.mean(logs), abs=1e-5)
        assert popularity[user]["mixed_popularity"] == pytest.approx(np.std(logs), abs=1e-4)


def test_twins_are_accounts_with_nearly_the_same_history(spark):
    random = np.random.default_rng(1)
    sets = {f"u{n}": set(map(str, random.choice(400, 12, replace=False))) for n in range(20)}
    for n in range(20, 24):
        sets[f"u{n}"] = {str(item) for item in (*range(500, 511), 600 + n)}
    sets["short"] = {"500", "501", "502"}
    assert len(sets["short"]) < LEAST_ITEMS
    rows = spark.createDataFrame([(u, i) for u, items in sets.items() for i in items], "user_id string, item_id string")
    twins = {row[0]: row[1] for row in similar_owners(signatures(rows, "user_id", "item_id"), "user_id").collect()}
    similarity = {
        pair: len(sets[pair[0]] & sets[pair[1]]) / len(sets[pair[0]] | sets[pair[1]]) for pair in combinations(sets, 2)
    }
    assert similarity["u20", "u21"] == pytest.approx(11 / 13)
    assert all(twins[f"u{n}"] == pytest.approx(11 / 13, abs=0.15) for n in range(20, 24))
    assert all(twins.get(f"u{n}", 0.0) < 0.3 for n in range(20))
    assert "short" not in twins
