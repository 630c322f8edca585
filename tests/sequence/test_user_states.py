"""Events to states: which events count, in which order, and that blocks and partitions change no bit."""

import numpy as np
from pyspark.sql import functions as F

from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.sequence.item_rows import SCALE_COLUMN, cosine_vectors, item_vectors
from recsys_spark.sequence.kernels.model_files import read_sequence_files, write_sequence_files
from recsys_spark.sequence.kernels.user_encoder import encoded_users
from recsys_spark.sequence.user_states import last_items, user_state_rows
from tests.bench.sequence_models import random_model


def events_of(spark, *rows):
    frame = spark.createDataFrame(list(rows), "user_id string, item_id string, event_type string, day int")
    time = F.timestamp_seconds(F.col("day") * 86400).alias("timestamp")
    return frame.select("user_id", "item_id", "event_type", time)


def items_by_user(frame):
    return {row["user_id"]: row["items"] for row in frame.collect()}


def test_the_newest_events_of_known_items_count_and_the_oldest_is_first(spark):
    days = [("u", item, "view", day) for day, item in enumerate("dacxbab")]
    rows = [*days, ("u", "b", "skip", 9), ("u", "b", "view", 6), ("v", "x", "view", 1)]
    items = spark.createDataFrame([(name,) for name in "abcd"], "item_id string")
    assert items_by_user(last_items(events_of(spark, *rows), items, ["view"], 4)) == {"u": ["c", "b", "a", "b"]}


def test_the_order_of_events_at_the_same_time_says_nothing_about_ids(spark):
    rows = [(f"u{user}", item, "view", 1) for user in range(40) for item in "ab"]
    items = spark.createDataFrame([("a",), ("b",)], "item_id string")
    orders = items_by_user(last_items(events_of(spark, *rows), items, ["view"], 9))
    ascending = sum(order == ["a", "b"] for order in orders.values())
    assert 10 < ascending < 30
    again = last_items(events_of(spark, *reversed(rows)).repartition(5), items, ["view"], 9)
    assert items_by_user(again) == orders


def test_a_state_depends_on_neither_blocks_nor_tasks_and_leaves_out_items_without_a_vector(spark, tmp_path):
    ids = [f"i{number:02}" for number in range(12)]
    write_sequence_files(random_model(ids[:9], "enc", dimension=4), tmp_path / "model")
    model = read_sequence_files(tmp_path / "model")
    shipped = spark.sparkContext.broadcast(model)
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(12, 4)).astype(np.float32)
    # i11 was not learned and has no text, i08 has only an offset, i10 only a text.
    embedded = [(f"h{n}", "enc", texts[n].tolist()) for n in range(12) if n not in (8, 11)]
    embedded.append(("h11", "other", texts[11].tolist()))
    embeddings = spark.createDataFrame(embedded, "text_hash string, model string, embedding array<float>")
    items = spark.createDataFrame([(i, f"h{n}") for n, i in enumerate(ids)], "item_id string, text_hash string")
    vectors = item_vectors(items, embeddings, "enc", shipped)
    rows = {row["item_id"]: np.array(row["vector"], np.float32) for row in vectors.collect()}
    assert sorted(rows) == ids[:11]
    np.testing.assert_array_equal(rows["i08"], model.offsets[8])
    greatest = vectors.agg(F.max("length")).collect()[0][0]
    histories = [(f"u{n}", [ids[i] for i in rng.integers(0, 12, n % 5)]) for n in range(20)] + [("none", ["i11"])]
    users = spark.createDataFrame(histories, "user_id string, items array<string>")

    def states(block_rows, tasks):
        uri = (tmp_path / f"blocks{block_rows}").as_uri()
        frame = cosine_vectors(vectors, greatest)
        blocks = write_item_blocks(frame, uri, block_rows, tasks=2, extra_columns=SCALE_COLUMN)
        for block in blocks.blocks():
            lengths = np.linalg.norm(block["embedding"].values.to_numpy().reshape(block.num_rows, -1), axis=1)
            np.testing.assert_allclose(lengths, 1, rtol=1e-6)
        found = user_state_rows(users, blocks, shipped, tasks=tasks).collect()
        return {row["user_id"]: row["embedding"] for row in found}

    first = states(100, 1)
    assert states(5, 3) == first
    assert not any(first["none"])
    for user, history in histories[:-1]:
        own = np.array([rows[item] for item in history if item in rows], np.float32).reshape(-1, 8)
        expected = encoded_users(model, own, np.arange(len(own)), np.array([0, len(own)]), "cpu", 1)[0]
        np.testing.assert_allclose(first[user][:-1], expected, atol=1e-5)
        assert first[user][-1] == 0
