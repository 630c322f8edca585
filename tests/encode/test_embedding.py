"""Distinct texts to embeddings, with a tiny model in the workers."""

from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.sql import functions as F

from recsys_spark.encode.embedding import distinct_texts, embed_udf, embedded_texts, missing_texts
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.runtime.task import task_device

TEXT_DDL = "text_hash string, text string"
TEXTS = [(f"h{n}", text) for n, text in enumerate(["a film", "a very long film " * 30, "z", "😀 مرحبا", "b", "c d e"])]


@pytest.fixture(scope="module")
def model(tiny_bert):
    return read_model(str(tiny_bert), max_length=32)


@pytest.fixture(scope="module")
def alone(model):
    """text_hash → result of the encoder for this text in a batch of one."""
    from recsys_spark.encode.kernels.encoder import Encoder

    encoder = Encoder(model)
    return {name: encoder.encode([text]) for name, text in TEXTS}


def test_embeddings_equal_the_encoders_for_any_number_of_tasks(spark, model, alone):
    texts = spark.createDataFrame(TEXTS, TEXT_DDL)
    for tasks, batch_tokens in [(1, 2048), (4, 16)]:
        frame = embedded_texts(texts, model, tasks=tasks, batch_tokens=batch_tokens)
        rows = {row["text_hash"]: row for row in frame.collect()}
        assert set(rows) == set(alone)
        for name, expected in alone.items():
            np.testing.assert_allclose(rows[name]["embedding"], expected.vectors[0], atol=1e-5)
            assert rows[name]["model"] == model.fingerprint
            assert rows[name]["tokens"] == expected.tokens[0]
            assert rows[name]["truncated"] == int(expected.truncated[0])
    assert rows["h1"]["truncated"] == 1


def test_the_column_function_gives_the_same_vectors_and_null_for_blank_texts(spark, model, alone):
    blank = [("null", None), ("empty", ""), ("blank", " \t\n")]
    texts = spark.createDataFrame([*blank[:2], *TEXTS, blank[2]], TEXT_DDL).coalesce(1)
    rows = texts.select("text_hash", embed_udf(model)("text").alias("embedding")).collect()
    vectors = {row["text_hash"]: row["embedding"] for row in rows}
    assert [vectors[name] for name, _ in blank] == [None, None, None]
    for name, expected in alone.items():
        np.testing.assert_allclose(vectors[name], expected.vectors[0], atol=1e-5)


def test_a_text_of_several_items_and_users_is_taken_once(spark):
    items = spark.createDataFrame([("h1", "one", 1), ("h1", "one", 2), (None, None, 3)], f"{TEXT_DDL}, more int")
    users = spark.createDataFrame([("h2", "two"), ("h1", "one"), (None, None)], TEXT_DDL)
    assert sorted(distinct_texts(items, users).collect()) == [("h1", "one"), ("h2", "two")]


def test_texts_are_missing_until_this_model_has_embedded_them(spark):
    texts = spark.createDataFrame([("h1", "one"), ("h2", "two"), ("h3", "three")], TEXT_DDL)
    key = "text_hash string, model string"
    embedded = spark.createDataFrame([("h1", "mine"), ("h2", "another"), ("h9", "mine")], key)
    embedded = embedded.withColumn("embedding", F.array(F.lit(1.0)))
    failed = spark.createDataFrame([("h3", "mine"), ("h2", "another")], key)
    assert sorted(missing_texts(texts, embedded, failed.limit(0), "mine").collect()) == [("h2", "two"), ("h3", "three")]
    assert missing_texts(texts, embedded, failed, "mine").collect() == [("h2", "two")]


@pytest.mark.parametrize(
    ("addresses", "visible", "device"),
    [
        (None, None, "cpu"),
        (None, "0,1", "cpu"),
        (["0"], None, "cuda:0"),
        (["3"], None, "cuda:3"),
        (["3"], "", "cuda:3"),
        (["3"], "2,3", "cuda:1"),
        (["2"], "2", "cuda:0"),
        (["0"], "2,3", "cuda:0"),
        (["1"], "1,0", "cuda:0"),
        (["GPU-b"], "GPU-a,GPU-b", "cuda:1"),
    ],
)
def test_a_task_takes_the_gpu_that_spark_assigned(monkeypatch, addresses, visible, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    resources = {"gpu": SimpleNamespace(addresses=addresses)} if addresses else {}
    assert task_device(SimpleNamespace(resources=lambda: resources)) == device


def test_outside_of_a_task_the_device_is_the_cpu():
    assert task_device(None) == "cpu"
