"""The Top-K join against brute force, hand-made catalogues and Spark's own nearest-by join."""

import uuid

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.errors import UsageError
from recsys_spark.topk.join import join_blocks

USER_DDL = "user_id string, embedding array<float>"
ITEM_DDL = "item_id string, embedding array<float>"
SEEN_DDL = "user_id string, item_id string"


def unit(vector):
    wide = np.asarray(vector, np.float64)
    return (wide / np.sqrt((wide * wide).sum())).astype(np.float32)


def brute_force(users, items, k, seen=()):
    """(user, item, float32 score, rank), by user and rank: cosine in float64, ties to the smaller item_id."""
    rows = []
    for user, profile in sorted(users.items()):
        scores = {item: (unit(profile).astype(np.float64) * unit(v)).sum() for item, v in items.items()}
        scores = {item: float(np.float32(score)) for item, score in scores.items() if (user, item) not in seen}
        best = sorted(scores, key=lambda item: (-scores[item], item))[:k]
        rows += [(user, item, scores[item], rank) for rank, item in enumerate(best, 1)]
    return rows


def collected(frame):
    return sorted((tuple(row) for row in frame.collect()), key=lambda row: (row[0], row[3]))


def frames(spark, users, items, seen=(), partitions=2):
    def floats(table):
        return [(name, [float(x) for x in vector]) for name, vector in table.items()]

    return (
        spark.createDataFrame(floats(users), USER_DDL).repartition(partitions),
        spark.createDataFrame(floats(items), ITEM_DDL).repartition(partitions),
        spark.createDataFrame(sorted(seen), SEEN_DDL),
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Items as blocks in a folder of their own."""
    scratch = tmp_path_factory.mktemp("blocks")

    def pack(items, rows=8192, tasks=2, **options):
        return write_item_blocks(items, str(scratch / uuid.uuid4().hex), rows, tasks=tasks, **options)

    return pack


def whole_numbers(random, names, dimension):
    """Small whole numbers: parallel vectors and exact ties are frequent."""
    vectors = random.integers(-2, 3, (len(names), dimension))
    vectors[~vectors.any(axis=1), 0] = 1
    return dict(zip(names, vectors.tolist(), strict=True))


@pytest.fixture(scope="module")
def catalogue():
    random = np.random.default_rng(11)
    users = whole_numbers(random, [f"u{n}" for n in range(25)], 4)
    items = whole_numbers(random, [f"i{n}" for n in range(70)], 4)
    seen = {(f"u{u}", f"i{i}") for u, i in random.integers(0, 75, (400, 2))}  # some users and items do not exist
    return users, items, seen


def test_rows_equal_brute_force_whatever_the_blocks_tasks_and_partitions(spark, packed, catalogue):
    expected = brute_force(*catalogue[:2], 7, catalogue[2])
    for user_rows, item_rows, tasks, partitions in [(4096, 8192, None, 1), (7, 4, 1, 3), (1, 30, 3, 2)]:
        users, items, seen = frames(spark, *catalogue, partitions=partitions)
        blocks = packed(items, item_rows, tasks or 4)
        lists = join_blocks(users, blocks, 7, seen=seen, user_block_rows=user_rows, tasks=tasks)
        assert collected(lists) == expected


# Shrinking would start Spark jobs for minutes.
@settings(max_examples=max(4, settings.default.max_examples // 50), phases=[Phase.generate])
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 5)),
    k=st.integers(1, 15),
    blocks=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3)),
)
def test_random_catalogues_equal_brute_force(spark, packed, seed, sizes, k, blocks):
    random = np.random.default_rng(seed)
    users = whole_numbers(random, [f"u{n}" for n in range(sizes[0])], sizes[2])
    items = whole_numbers(random, [f"i{n}" for n in range(sizes[1])], sizes[2])
    seen = {(f"u{u}", f"i{i}") for u, i in random.integers(0, 9, (20, 2))}
    profiles, vectors, pairs = frames(spark, users, items, seen)
    items_packed = packed(vectors, blocks[1], blocks[2])
    lists = join_blocks(profiles, items_packed, k, seen=pairs, user_block_rows=blocks[0], tasks=blocks[2])
    assert collected(lists) == brute_force(users, items, k, seen)


NAN, INF = float("nan"), float("inf")
ODD_USERS = [
    ("north", [0.0, 2.0]),
    ("huge", [3e38, 0.0]),
    ("tiny", [0.0, 1e-44]),
    ("sated", [1.0, 1.0]),
    ("Zoë 🙂", [-1.0, 0.0]),
    ("zero", [0.0, 0.0]),
    ("minus zero", [-0.0, 0.0]),
    ("nan", [NAN, 1.0]),
    ("infinite", [INF, 1.0]),
    ("null", None),
    ("null inside", [None, 1.0]),
    ("empty", []),
]
ODD_ITEMS = [
    ("a", [0.0, 1.0]),
    ("B", [0.0, 7.0]),  # the direction of "a": a tie, and "B" sorts before "a"
    ("é", [1.0, 0.0]),
    ("🎬", [-3.0, 0.0]),
    ("", [0.0, -1.0]),
    ("zero", [0.0, 0.0]),
    ("nan", [NAN, NAN]),
    ("infinite", [0.0, -INF]),
    ("null", None),
    ("null inside", [1.0, None]),
    ("empty", []),
]
ODD_SEEN = [
    *(("sated", item) for item in ["a", "B", "é", "🎬", ""]),
    ("north", "a"),
    ("north", "a"),  # twice
    ("north", "withdrawn"),
    ("north", None),
    ("Zoë 🙂", "🎬"),
    ("stranger", "B"),
]


@pytest.fixture(scope="module")
def odd_lists(spark, packed):
    """Everything odd in one join: user → [(item, score, rank)]."""
    users, items = spark.createDataFrame(ODD_USERS, USER_DDL), spark.createDataFrame(ODD_ITEMS, ITEM_DDL)
    seen = spark.createDataFrame(ODD_SEEN, SEEN_DDL)
    lists = {}
    for user, *row in collected(join_blocks(users, packed(items, 2), 50, seen=seen, user_block_rows=2)):
        lists.setdefault(user, []).append(tuple(row))
    return lists


def test_vectors_without_a_direction_are_left_out_on_both_sides(odd_lists):
    assert set(odd_lists) == {"north", "huge", "tiny", "Zoë 🙂"}
    assert {item for rows in odd_lists.values() for item, _, _ in rows} == {"a", "B", "é", "🎬", ""}


def test_a_user_who_has_seen_everything_gets_no_list(odd_lists):
    assert "sated" not in odd_lists


def test_a_list_longer_than_the_catalogue_holds_all_of_it_with_ranks_without_gaps(odd_lists):
    assert [rank for _, _, rank in odd_lists["huge"]] == [1, 2, 3, 4, 5]


def test_equal_scores_fall_to_the_smaller_item_id_in_the_order_of_code_points(odd_lists):
    assert odd_lists["huge"] == [("é", 1.0, 1), ("", 0.0, 2), ("B", 0.0, 3), ("a", 0.0, 4), ("🎬", -1.0, 5)]


def test_lengths_of_vectors_do_not_count(odd_lists):
    assert odd_lists["tiny"][:2] == [("B", 1.0, 1), ("a", 1.0, 2)]


def test_seen_items_are_left_out_once_named_twice_or_beside_nulls(odd_lists):
    assert [item for item, _, _ in odd_lists["north"]] == ["B", "é", "🎬", ""]
    assert [item for item, _, _ in odd_lists["Zoë 🙂"]] == ["", "B", "a", "é"]


def test_seen_items_are_left_out_before_the_cut_and_lists_stay_full(spark, packed):
    users, items, seen = frames(
        spark, {"u": [1, 0]}, {f"i{n}": [9 - n, 1] for n in range(9)}, {("u", f"i{n}") for n in range(5)}
    )
    assert [row[1] for row in collected(join_blocks(users, packed(items), 3, seen=seen))] == ["i5", "i6", "i7"]


def test_of_more_duplicates_than_k_the_smallest_ids_are_listed(spark, packed):
    users, items, _ = frames(spark, {"u": [1, 2]}, {f"i{n:02}": [2, 4] for n in range(30)})
    lists = join_blocks(users, packed(items, 7, 3), 4, tasks=3)
    assert [row[1] for row in collected(lists)] == ["i00", "i01", "i02", "i03"]


def test_no_items_or_no_profiles_give_an_empty_result_with_its_schema(spark, packed):
    users, items, _ = frames(spark, {"u": [1, 0]}, {"i": [1, 0]})
    expected = "user_id string, item_id string, score float, rank int"
    for lists in (join_blocks(users, packed(items.limit(0)), 3), join_blocks(users.limit(0), packed(items), 3)):
        assert ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in lists.schema) == expected
        assert lists.collect() == []


def test_different_dimensions_are_a_usage_error_that_names_both(spark, packed):
    users, items, _ = frames(spark, {"u": [1, 0, 0]}, {"i": [1, 0]})
    with pytest.raises(Exception, match="profiles have 3 dimensions, items 2: they are of different models"):
        join_blocks(users, packed(items), 3).collect()


def test_vectors_of_several_lengths_in_one_table_are_a_usage_error(spark, packed):
    users, items, _ = frames(spark, {"u": [1, 0]}, {"i": [1, 0], "j": [1, 0, 0]})
    with pytest.raises(Exception, match="one table has vectors of 2 and of 3 dimensions: it mixes two models"):
        join_blocks(users, packed(items, tasks=1), 3).collect()


def test_k_must_be_at_least_1(spark, packed):
    users, items, _ = frames(spark, {"u": [1, 0]}, {"i": [1, 0]})
    with pytest.raises(UsageError, match="k must be at least 1, found 0"):
        join_blocks(users, packed(items), 0)


@pytest.mark.skipif(not hasattr(DataFrame, "nearestByJoin"), reason="this Spark has no DataFrame.nearestByJoin")
def test_scores_equal_those_of_the_nearest_by_join_of_spark(spark, packed):
    random = np.random.default_rng(5)
    users = {f"u{n}": vector for n, vector in enumerate(random.normal(size=(20, 8)).astype(np.float32))}
    items = {f"i{n}": vector for n, vector in enumerate(random.normal(size=(30, 8)).astype(np.float32))}
    profiles, vectors, _ = frames(spark, users, items)
    cosine = F.expr("vector_cosine_similarity(profile, embedding)")
    theirs = profiles.withColumnRenamed("embedding", "profile").nearestByJoin(vectors, cosine, 6, "exact", "similarity")
    rows = theirs.select("user_id", "item_id", cosine.alias("score")).collect()
    ours = collected(join_blocks(profiles, packed(vectors), 6))
    assert {(row["user_id"], row["item_id"]) for row in rows} == {row[:2] for row in ours}
    scores = {(row["user_id"], row["item_id"]): row["score"] for row in rows}
    np.testing.assert_allclose([row[2] for row in ours], [scores[row[:2]] for row in ours], atol=1e-6)
