"""Events to profiles against a slow sum in Python."""

import uuid
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.errors import QualityError, UsageError
from recsys_spark.events.weights import EventWeights, weigh_pairs
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.profiles import _whole_users, pool_items, profile_rows, segment_pairs, user_segments
from recsys_spark.profiles.steps.build_profiles import build_profiles as profiles_step
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, USER_PROFILES, USERS
from tests.bench.events import BY_TYPE, EVENT_DDL, MIDNIGHT, RUN_DATE, WEIGHTS, utc
from tests.bench.small_lake import Bench

VECTOR_DDL = "item_id string, embedding array<float>"


SUM_DDL = "user_id string, embedding array<double>, events bigint, last_timestamp timestamp"


OWN_DDL = "user_id string, embedding array<float>"


def weight_of(kind, value, timestamp, newest=MIDNIGHT):
    """What one event counts when the user's newest one is from ``newest``."""
    centred = 1.0 if kind != "rating" or value is None else value - 3.0
    age = (newest - timestamp) / timedelta(days=1)
    return BY_TYPE.get(kind, 0.0) * centred * 2 ** (-age / 30)


def slow_pairs(events):
    """(user, item) → [weight, events, last]."""
    pairs = {}
    earlier = [event for event in events if event[3] < MIDNIGHT]
    for user, item, kind, timestamp, value in earlier:
        newest = max(event[3] for event in earlier if event[0] == user)
        pair = pairs.setdefault((user, item), [0.0, 0, timestamp])
        pair[:] = pair[0] + weight_of(kind, value, timestamp, newest), pair[1] + 1, max(pair[2], timestamp)
    return pairs


def direction(vector):
    return np.asarray(vector) / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def events():
    random = np.random.default_rng(17)
    kinds = ["view", "purchase", "rating", "skip", "unheard of"]
    rows = []
    for _ in range(200):
        user, item, hours = random.integers((0, 0, -48), (9, 14, 2000))
        kind = random.choice(kinds)
        value = float(random.integers(1, 6)) if kind == "rating" and hours % 5 else None
        rows.append((f"u{user}", f"i{item}", str(kind), MIDNIGHT - timedelta(hours=int(hours)), value))
    return rows


@pytest.fixture(scope="module")
def vectors():
    """Unit vectors of items 0 to 10; items 11, 12 and 13 have none."""
    random = np.random.default_rng(18)
    return {f"i{n}": direction(random.normal(size=5)).astype(np.float32) for n in range(11)}


@pytest.fixture(scope="module")
def packed(spark, tmp_path_factory, vectors):
    """The vectors as item blocks, of so many items each."""
    scratch = tmp_path_factory.mktemp("blocks")

    def pack(rows, some=vectors):
        frame = spark.createDataFrame([(item, v.tolist()) for item, v in some.items()], VECTOR_DDL)
        return write_item_blocks(frame, str(scratch / uuid.uuid4().hex), rows, tasks=2)

    return pack


@pytest.fixture(scope="module")
def pooled(spark, events, packed):
    """user → (sum, events, last)."""
    pairs = weigh_pairs(spark.createDataFrame(events, EVENT_DDL), RUN_DATE, WEIGHTS)
    rows = pool_items(pairs, packed(3), tasks=3).collect()
    return {row["user_id"]: (row["embedding"], row["events"], utc(row["last_timestamp"])) for row in rows}


def test_pairs_are_weighed_like_a_slow_sum(spark, events):
    rows = weigh_pairs(spark.createDataFrame(events, EVENT_DDL), RUN_DATE, WEIGHTS).collect()
    pairs = {(row["user_id"], row["item_id"]): row for row in rows}
    expected = slow_pairs(events)
    assert set(pairs) == set(expected)
    for pair, (weight, count, last) in expected.items():
        assert pairs[pair]["weight"] == pytest.approx(weight, abs=1e-8)
        assert (pairs[pair]["events"], utc(pairs[pair]["last_timestamp"])) == (count, last)


def test_a_run_knows_events_strictly_before_the_midnight_of_its_date(spark):
    moment = timedelta(microseconds=1)
    edge = [("u", name, "view", when, None) for name, when in [
        ("last", MIDNIGHT - moment), ("midnight", MIDNIGHT), ("later", MIDNIGHT + moment)
    ]]  # fmt: skip
    rows = weigh_pairs(spark.createDataFrame(edge, EVENT_DDL), RUN_DATE, WEIGHTS).collect()
    assert [(row["item_id"], row["weight"]) for row in rows] == [("last", pytest.approx(1.0))]


@pytest.mark.parametrize(
    ("kind", "value", "days", "weight"),
    [
        ("view", None, 0, 1.0),
        ("view", None, 30, 0.5),
        ("view", None, 60, 0.25),
        ("view", 9.0, 0, 1.0),
        ("purchase", 7.0, 0, 3.0),
        ("skip", None, 30, -0.5),
        ("rating", 5.0, 0, 2.0),
        ("rating", 3.0, 0, 0.0),
        ("rating", 1.0, 30, -1.0),
        ("rating", None, 0, 1.0),
        ("unheard of", None, 0, 0.0),
    ],
)
def test_the_oracle_itself_agrees_with_weights_worked_out_by_hand(kind, value, days, weight):
    assert weight_of(kind, value, MIDNIGHT - timedelta(days=days)) == weight


def test_sums_equal_a_slow_sum_and_count_events_with_unknown_items(pooled, events, vectors):
    pairs = slow_pairs(events)
    assert set(pooled) == {user for user, _ in pairs}
    for user, (total, count, last) in pooled.items():
        mine = {item: pair for (owner, item), pair in pairs.items() if owner == user}
        parts = [pair[0] * vectors[item].astype(float) for item, pair in mine.items() if item in vectors]
        np.testing.assert_allclose(total, sum(parts, np.zeros(5)), atol=1e-7)
        assert count == sum(pair[1] for pair in mine.values())
        assert last == max(pair[2] for pair in mine.values())


def test_sums_have_the_same_bits_whatever_the_partitions_tasks_and_blocks(spark, events, packed, pooled):
    for partitions, tasks, rows, items in [(1, 1, 1, 11), (5, 2, 4, 1)]:
        frame = spark.createDataFrame(events[::-1], EVENT_DDL).repartition(partitions)
        pairs = weigh_pairs(frame, RUN_DATE, WEIGHTS)
        again = pool_items(pairs, packed(items), tasks=tasks, pair_block_rows=rows).collect()
        assert len(again) == len(pooled)
        for row in again:
            assert np.array(row["embedding"]).tobytes() == np.array(pooled[row["user_id"]][0]).tobytes()


def test_time_alone_never_changes_a_bit(spark, events, packed, pooled):
    old = [event for event in events if event[3] < MIDNIGHT]
    later = weigh_pairs(spark.createDataFrame(old, EVENT_DDL), RUN_DATE + timedelta(days=90), WEIGHTS)
    rows = pool_items(later, packed(8), tasks=2).collect()
    sums = {row["user_id"]: row["embedding"] for row in rows}
    assert set(sums) == set(pooled)
    for user, total in sums.items():
        assert np.array(total).tobytes() == np.array(pooled[user][0]).tobytes()


@pytest.mark.parametrize("size", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_user_with_very_many_events_is_one_sum(spark, vectors, packed, size):
    at = F.timestamp_seconds(F.lit(int(MIDNIGHT.timestamp()) - 30 * 86_400))
    everyone = spark.range(size).select(
        F.when(F.col("id") % 10 == 0, F.concat(F.lit("u"), F.col("id"))).otherwise("whale").alias("user_id"),
        F.concat(F.lit("i"), F.col("id") % 11).alias("item_id"),
        F.lit("view").alias("event_type"),
        at.alias("timestamp"),
        F.lit(None).cast("double").alias("value"),
    )
    pairs = weigh_pairs(everyone, RUN_DATE, WEIGHTS)
    assert pairs.where("user_id = 'whale'").count() == 11, "no task holds more of a user than the items of the events"
    sums = pool_items(pairs, packed(8), tasks=2)
    [whale] = sums.where("user_id = 'whale'").collect()
    counts = np.bincount([n % 11 for n in range(size) if n % 10])
    expected = sum(count * vectors[f"i{n}"].astype(float) for n, count in enumerate(counts))
    assert whale["events"] == size * 9 // 10
    np.testing.assert_allclose(whale["embedding"], expected, atol=1e-6)


def test_no_item_vectors_or_no_pairs_give_no_sums(spark, events, packed):
    pairs = weigh_pairs(spark.createDataFrame(events, EVENT_DDL), RUN_DATE, WEIGHTS)
    for sums in (
        pool_items(pairs, packed(8, {}), tasks=2),
        pool_items(pairs.limit(0), packed(8), tasks=2),
    ):
        assert sums.collect() == []


YESTERDAY = MIDNIGHT - timedelta(days=1)


SUMS = [
    ("regular", [1.0, 2.0, 3.0], 4, YESTERDAY),
    ("both", [1.0, 0.0, 1.0], 2, YESTERDAY),
    ("sulky", [-1.0, -2.0, 0.0], 5, YESTERDAY),
    ("undecided", [0.0, 0.0, 0.0], 2, YESTERDAY),  # a purchase and its return, or only items without a vector
    ("undecided with a text", [0.0, 0.0, 0.0], 2, YESTERDAY),
    ("contrary", [-0.25, -0.125, 0.0], 1, YESTERDAY),  # the text takes back what the events say
]


OWN = [
    ("both", [0.0, 1.0]),
    ("cold", [0.6, 0.8]),
    ("undecided with a text", [1.0, 0.0]),
    ("contrary", [0.5, 0.25]),
    ("mute", None),
]


@pytest.fixture(scope="module")
def profiles(spark):
    sums, own = spark.createDataFrame(SUMS, SUM_DDL), spark.createDataFrame(OWN, OWN_DDL)
    rows = profile_rows(sums, own, "enc-1", dimension=3, prior=0.5).collect()
    return {row["user_id"]: row for row in rows}


@pytest.mark.parametrize(
    ("user", "embedding", "count"),
    [
        ("regular", [1, 2, 3], 4),
        ("both", [1, 0.5, 1], 2),
        ("sulky", [-1, -2, 0], 5),
        ("cold", [0.3, 0.4, 0], 0),
        ("undecided with a text", [0.5, 0, 0], 2),
    ],
)
def test_a_profile_is_the_sum_and_half_the_text_in_its_first_numbers(profiles, user, embedding, count):
    np.testing.assert_allclose(profiles[user]["embedding"], embedding, rtol=1e-6)
    assert profiles[user]["events"] == count


@pytest.mark.parametrize("user", ["undecided", "contrary", "mute"])
def test_a_user_without_a_direction_is_absent(profiles, user):
    assert user not in profiles


def test_profiles_name_their_space_and_their_times(profiles):
    assert {row["model"] for row in profiles.values()} == {"enc-1"}
    assert all(row["reference_time"] == row["last_timestamp"] for row in profiles.values())
    assert utc(profiles["regular"]["last_timestamp"]) == YESTERDAY
    assert profiles["cold"]["last_timestamp"] is None


USERS_DDL = "user_id string, text string, text_hash string, locale string"


LOCALES = {f"u{n}": ("de", "fr", None)[n % 3] for n in range(9)} | {"newcomer": "de", "far away": "is"}


@pytest.fixture(scope="module")
def segmented(spark, events, packed):
    """user → unit sum of the user's locale."""
    users = spark.createDataFrame([(user, None, None, locale) for user, locale in LOCALES.items()], USERS_DDL)
    pairs = weigh_pairs(spark.createDataFrame(events, EVENT_DDL), RUN_DATE, WEIGHTS)
    sums = pool_items(segment_pairs(pairs, users), packed(8), tasks=2)
    return {row["user_id"]: row["segment"] for row in user_segments(users, sums).collect()}


def test_a_segment_is_the_direction_of_all_its_users_together(segmented, pooled):
    assert set(segmented) == {user for user, locale in LOCALES.items() if locale in ("de", "fr")}
    for user, segment in segmented.items():
        together = sum(np.array(pooled[other][0]) for other in pooled if LOCALES[other] == LOCALES[user])
        np.testing.assert_allclose(segment, direction(together), atol=1e-7)


def test_a_segment_counts_like_its_weight_in_events_and_replaces_missing_ones(spark):
    sums, own = spark.createDataFrame(SUMS, SUM_DDL), spark.createDataFrame(OWN, OWN_DDL)
    rows = [("regular", [0.0, 0.0, 1.0]), ("newcomer", [0.0, 1.0, 0.0]), ("cold", [1.0, 0.0, 0.0])]
    segments = spark.createDataFrame(rows, "user_id string, segment array<double>")
    frame = profile_rows(sums, own, "enc-1", dimension=3, prior=0.5, segments=segments, segment_weight=2.0)
    by_user = {row["user_id"]: row["embedding"] for row in frame.collect()}
    assert by_user["regular"] == [1, 2, 5]
    assert by_user["newcomer"] == [0, 2, 0]
    np.testing.assert_allclose(by_user["cold"], [2.3, 0.4, 0], rtol=1e-6)
    np.testing.assert_allclose(by_user["both"], [1, 0.5, 1], rtol=1e-6)


def test_sums_of_a_segment_do_not_overflow(spark):
    rows = [(f"u{n}", "i1", 65_536.0, 1, MIDNIGHT) for n in range(300)]
    ddl = "user_id string, item_id string, weight double, events bigint, last_timestamp timestamp"
    rows.append(("nomad", "i1", 1.0, 1, MIDNIGHT))
    users = spark.createDataFrame(
        [(row[0], None, None, None if row[0] == "nomad" else "de") for row in rows], USERS_DDL
    )
    [total] = segment_pairs(spark.createDataFrame(rows, ddl), users).collect()
    assert (total["user_id"], total["item_id"], total["weight"], total["events"]) == ("de", "i1", 300 * 65_536, 300)


def test_absurd_values_of_one_user_and_item_do_not_overflow_and_ordinary_sums_keep_their_bits(spark):
    rows = [("u", "i", "rating", datetime(2024, 1, 1, second=n % 60, minute=n // 60), 1e6) for n in range(200)]
    ordinary = [("view", 1, None), ("rating", 2, 4.3), ("skip", 3, None), ("rating", 9, 1.1), ("view", 30, None)]
    rows += [("v", "i", kind, datetime(2024, 1, day), value) for kind, day, value in ordinary]
    events = spark.createDataFrame(
        rows, "user_id string, item_id string, event_type string, timestamp timestamp, value double"
    )
    weights = EventWeights({"view": 1.0, "rating": 1.0, "skip": -1.0}, 3.0, 7.0)
    by_user = {row.user_id: row.weight for row in weigh_pairs(events, date(2024, 3, 1), weights).collect()}
    assert by_user["u"] == pytest.approx(200 * 65_536, rel=1e-3)
    ages = {1: 29, 2: 28, 3: 27, 9: 21, 30: 0}
    units = [
        round(w * 2 ** (-ages[day] / 7) * 2**40) for w, day in [(1, 1), (4.3 - 3, 2), (-1, 3), (1.1 - 3, 9), (1, 30)]
    ]
    assert by_user["v"] == sum(units) / 2**40


@pytest.mark.parametrize(("rows", "users"), [(4, 2), (1, 1), (7, 100), (1000, 3)])
def test_pairs_are_cut_between_users_and_at_a_number_of_them(rows, users):
    names = [f"u{n:02d}" for n in range(20) for _ in range(1 + 12 * (n == 7))]
    batches = [pa.record_batch({"user_id": names[at : at + 3], "n": range(at, min(at + 3, len(names)))})
               for at in range(0, len(names), 3)]  # fmt: skip
    parts = [part.to_pylist() for part in _whole_users(iter(batches), rows, users)]
    assert [row["n"] for part in parts for row in part] == list(range(len(names)))
    owners = [{row["user_id"] for row in part} for part in parts]
    assert max(map(len, owners)) <= users
    assert sum(map(len, owners)) == 20, "no user is cut"


def test_the_step_takes_segments_and_the_rules_of_a_history(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    bench.put_vectors()
    bench.put(EMBEDDINGS)
    bench.put(USERS, ("u1", None, None, "de"), ("u2", None, None, "de"))
    bench.put(EVENTS, *(("u1", f"a{n}", "view", MIDNIGHT - timedelta(days=n), None) for n in (1, 3)))

    def built(**changes):
        options = ProfileOptions(**{"lake": bench.lake.uri, "run_date": RUN_DATE, "half_life_days": 0.0} | changes)
        report = profiles_step(bench.run, options)
        rows = bench.lake.read(spark, USER_PROFILES).collect()
        return report["status"], {row["user_id"]: (row["embedding"], row["events"]) for row in rows}

    assert built() == ("done", {"u1": ([1, 1], 2)})
    assert built(max_events=1) == ("done", {"u1": ([1, 0], 1)})
    assert built(half_life_steps=1.0) == ("done", {"u1": ([1, 0.5], 2)})
    assert built(half_life_steps=1.0)[0] == "unchanged"
    status, by_user = built(segment_weight=1.0)
    assert status == "done"
    np.testing.assert_allclose(by_user["u1"][0], [1 + 0.5**0.5] * 2, rtol=1e-6)
    np.testing.assert_allclose(by_user["u2"][0], [0.5**0.5] * 2, rtol=1e-6)


def test_no_profile_at_all_from_a_log_with_events_is_refused(spark, tmp_path):
    bench = Bench(spark, tmp_path)
    bench.put_vectors()
    bench.put(EMBEDDINGS)
    bench.put(USERS)
    options = ProfileOptions(lake=bench.lake.uri, run_date=RUN_DATE)
    bench.put(EVENTS, ("u", "1.0E7", "view", MIDNIGHT - timedelta(days=1), None))
    with pytest.raises(QualityError, match=r"none of the 1 events .* such as '1.0E7', vectors such as 'a1'"):
        profiles_step(bench.run, options)
    bench.put(EVENTS, *(("u", "a1", kind, MIDNIGHT - timedelta(days=1), None) for kind in ("view", "skip")))
    with pytest.raises(QualityError, match="add up to zero"):
        profiles_step(bench.run, options.model_copy(update={"half_life_days": 0.0}))
    bench.put(EVENTS, ("u", "1.0E7", "view", MIDNIGHT + timedelta(days=1), None))
    assert profiles_step(bench.run, options)["tables"] == {USER_PROFILES.name: 0}, "later events do not count"


def test_ratings_that_all_lie_below_the_center_are_refused_and_a_few_give_a_warning(spark, tmp_path, caplog):
    bench = Bench(spark, tmp_path)
    bench.put_vectors()
    bench.put(EMBEDDINGS)
    bench.put(USERS)
    options = ProfileOptions(lake=bench.lake.uri, run_date=RUN_DATE)
    stars = [(f"u{n}", "a1", "rating", MIDNIGHT - timedelta(days=1), float(n % 2)) for n in range(19)]
    bench.put(EVENTS, *stars)
    profiles_step(bench.run, options)
    assert "all 19 ratings lie between 0 and 1, none above rating_center 3" in caplog.messages[-1]
    bench.put(EVENTS, *stars, ("u20", "a1", "rating", MIDNIGHT - timedelta(days=1), 1.0))
    with pytest.raises(QualityError, match=r"all 20 ratings .* such as 0.5"):
        profiles_step(bench.run, options)
    assert profiles_step(bench.run, options.model_copy(update={"rating_center": 0.5}))["status"] == "done"
    bench.put(EVENTS, *((f"u{n}", "a1", f"kind {n}", MIDNIGHT - timedelta(days=1), None) for n in range(150)))
    with pytest.raises(UsageError, match="without a weight: kind 0, kind 1,"):
        profiles_step(bench.run, options)
