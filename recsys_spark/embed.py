"""Distinct texts to embeddings: the stage that costs money. Pure DataFrame functions."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.kernels.model_folder import ModelSpec

if TYPE_CHECKING:
    from recsys_spark.kernels.encoder import Encoder

WINDOW_TEXTS = 4096
"""Texts sorted together by length: over several Arrow batches, since small windows waste most of the gain."""


def distinct_texts(*frames: DataFrame) -> DataFrame:
    """Every text once, whoever it belongs to: ``text_hash, text``."""
    texts = [frame.where(F.col("text").isNotNull()).select("text_hash", "text") for frame in frames]
    whole = texts[0]
    for more in texts[1:]:
        whole = whole.unionByName(more)
    return whole.groupBy("text_hash").agg(F.min("text").alias("text")).select("text_hash", "text")


def missing_texts(texts: DataFrame, embeddings: DataFrame, model: str) -> DataFrame:
    """The texts that ``model`` has not embedded yet."""
    known = embeddings.where(F.col("model") == model).select("text_hash")
    return texts.join(known, on="text_hash", how="left_anti").select("text_hash", "text")


def embed_texts(texts: DataFrame, model: ModelSpec, *, tasks: int, batch_tokens: int = 2048) -> DataFrame:
    """Encode ``text_hash, text`` to ``text_hash, model, embedding, tokens, truncated``; texts whose vector is not
    finite are absent.

    ``tasks`` is explicit because Spark merges small partitions otherwise, and this work is not small.
    """
    encode = _encode_batches(model, batch_tokens)
    schema = "text_hash string, model string, embedding array<float>, tokens bigint, truncated int"
    spread = texts.repartition(tasks, "text_hash")
    return spread.mapInArrow(encode, schema).select("text_hash", "model", "embedding", "tokens", "truncated")


def embed_udf(model: ModelSpec, batch_tokens: int = 2048) -> Any:
    """The encoder as a column function, for DataFrames of your own: ``df.select(embed_udf(model)("text"))``.

    Returns array<float> of unit length; null for null or blank text. The model is loaded once per Python worker.
    """

    @F.pandas_udf("array<float>")  # type: ignore[call-overload]
    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        encoder = _task_encoder(model)
        for batch in batches:
            result = pd.Series([None] * len(batch), dtype=object)
            there = [i for i, text in enumerate(batch) if text and text.strip()]
            if there:
                vectors = encoder.encode([batch.iloc[i] for i in there], batch_tokens).vectors
                result.iloc[there] = pd.Series(list(vectors), index=there)
            yield result

    return embed.asNondeterministic()  # keeps the optimizer from running the model twice per row


def _encode_batches(
    model: ModelSpec, batch_tokens: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for window in _windows(batches, WINDOW_TEXTS):
            yield _encode_window(window, model, batch_tokens)

    return encode


def _encode_window(window: pa.Table, model: ModelSpec, batch_tokens: int) -> pa.RecordBatch:
    encoded = _task_encoder(model).encode(window["text"].to_pylist(), batch_tokens)
    finite = np.isfinite(encoded.vectors).all(axis=1)
    vectors = encoded.vectors[finite]
    rows, dimension = vectors.shape
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(dimension))
    columns = {
        "text_hash": window["text_hash"].combine_chunks().filter(pa.array(finite)),
        "model": pa.array([model.fingerprint] * rows, pa.string()),
        "embedding": pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel())),
        "tokens": pa.array(encoded.tokens[finite], pa.int64()),
        "truncated": pa.array(encoded.truncated[finite].astype(np.int32)),
    }
    return pa.RecordBatch.from_pydict(columns)


def _windows(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in chain(batches, [None]):
        if held and (batch is None or sum(b.num_rows for b in held) >= rows):
            yield pa.Table.from_batches(held)
            held = []
        if batch is not None and batch.num_rows:
            held.append(batch)


def _task_encoder(model: ModelSpec) -> "Encoder":
    from recsys_spark.kernels.encoder import load_encoder

    context = TaskContext.get()
    return load_encoder(model, task_device(context), threads=max(1, context.cpus()) if context else 1)


def task_device(context: TaskContext | None) -> str:
    """The device of this task: the GPU that Spark assigned, else the CPU.

    Spark does not set CUDA_VISIBLE_DEVICES. Where a container did, the assigned address counts within it.
    """
    import os

    gpus = context.resources().get("gpu") if context else None
    if not gpus:
        return "cpu"
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    address = gpus.addresses[0]
    return f"cuda:{visible.index(address) if address in visible else int(address)}"
