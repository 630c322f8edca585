"""Distinct texts to embeddings: the stage that costs money. Pure DataFrame functions."""

import os
import socket
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import SparkFiles, TaskContext
from pyspark.resource import ResourceProfile, ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.runtime.task import task_device
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats

if TYPE_CHECKING:
    from recsys_spark.encode.kernels.encoder import Encoded, Encoder

WINDOW_TEXTS = 4096
"""Texts sorted together by length: over several Arrow batches, since small windows waste most of the gain."""

FAILURES_KEPT = 10_000
"""Texts without a vector that a task tells the driver of, by hash and reason; the others it counts, and they are tried
again."""

COSTS = (
    "tokens",
    "padded_tokens",
    "text_tokens",
    "unknown_tokens",
    "texts_truncated",
    "texts_failed",
    "back_offs",
    "model_loads",
)

_ENCODED_DDL = (
    "text_hash string, model string, embedding array<float>, reason string, tokens bigint, padded bigint, truncated int"
)


def distinct_texts(*frames: DataFrame) -> DataFrame:
    """Every text once, whoever it belongs to: ``text_hash, text``."""
    texts = [frame.where(F.col("text").isNotNull()).select("text_hash", "text") for frame in frames]
    whole = texts[0]
    for more in texts[1:]:
        whole = whole.unionByName(more)
    return whole.groupBy("text_hash").agg(F.min("text").alias("text")).select("text_hash", "text")


def missing_texts(texts: DataFrame, embeddings: DataFrame, failed: DataFrame, model: str) -> DataFrame:
    """The texts that ``model`` has not embedded yet, without those that it could not: ``text_hash, model`` of
    ``failed``."""
    seen = embeddings.select("text_hash", "model").unionByName(failed.select("text_hash", "model"))
    known = seen.where(F.col("model") == model).select("text_hash")
    return texts.join(known, on="text_hash", how="left_anti").select("text_hash", "text")


def count_texts(texts: DataFrame, embeddings: DataFrame, failed: DataFrame, model: ModelSpec) -> DataFrame:
    """One row ``known, failed, missing, tokens``: texts that are embedded, that could not be, that nobody has tried,
    and what these will cost, about."""
    parts = [frame.select("text_hash", "model", F.lit(n).alias("found")) for n, frame in ((1, embeddings), (0, failed))]
    own = parts[0].unionByName(parts[1]).where(F.col("model") == model.fingerprint)
    joined = texts.join(own.groupBy("text_hash").agg(F.max("found").alias("found")), on="text_hash", how="left")
    missing = F.col("found").isNull()
    cost = F.sum(F.when(missing, estimated_tokens(model.max_length)).otherwise(0))
    return joined.agg(
        F.count_if(F.col("found") == 1).alias("known"),
        F.count_if(F.col("found") == 0).alias("failed"),
        F.count_if(missing).alias("missing"),
        F.coalesce(cost, F.lit(0)).alias("tokens"),
    )


def estimated_tokens(max_length: int) -> Column:
    """What a text will cost, roughly and without a tokenizer: about four characters a token, at most ``max_length``."""
    return F.least(F.lit(max_length), F.ceil(F.length("text") / 4) + 2).cast("bigint")


def in_slice(slice_number: int, slices: int) -> Column:
    """Whether a text belongs to one of ``slices`` parts of about the same size: by its hash, so for ever."""
    return F.pmod(F.conv(F.substring("text_hash", 1, 8), 16, 10).cast("bigint"), F.lit(slices)) == slice_number


def spread_texts(texts: DataFrame, tasks: int) -> DataFrame:
    """``text_hash, text`` in even tasks: by hash. Their number is explicit because Spark merges small partitions
    otherwise, and this work is not small."""
    return texts.select("text_hash", "text").repartition(tasks, "text_hash")


def embedded_texts(texts: DataFrame, model: ModelSpec, *, tasks: int, batch_tokens: int = 1024) -> DataFrame:
    """Encode ``text_hash, text``, one row each: ``text_hash, model, embedding, reason, tokens, padded, truncated``.

    A text without a vector has a null embedding and its reason.
    """

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for window in _windows(batches, WINDOW_TEXTS):
            encoder, _ = _task_encoder(model)
            yield _rows(window, model, encoder.encode(window["text"].to_pylist(), batch_tokens))

    encoded = spread_texts(texts, tasks).mapInArrow(encode, _ENCODED_DDL)
    return encoded.select("text_hash", "model", "embedding", "reason", "tokens", "padded", "truncated")


def embedding_rows(model: ModelSpec, batch_tokens: int = 1024) -> ArrowTransform:
    """``embedded_texts`` within the task that writes: rows of the table ``embeddings``; as notes what they cost, the
    worker, and the first failures (hash, reason)."""

    def make(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
        notes |= {"worker": f"{socket.gethostname()}:{os.getpid()}", "failures": [], **dict.fromkeys(COSTS, 0)}
        for window in _windows(batches, WINDOW_TEXTS):
            encoder, loaded = _task_encoder(model)
            encoded = encoder.encode(window["text"].to_pylist(), batch_tokens)
            rows = _rows(window, model, encoded)
            failed = rows.filter(rows["reason"].is_valid()).select(["text_hash", "reason"])
            kept = failed.slice(0, FAILURES_KEPT - len(notes["failures"])).to_pylist()
            notes["failures"] += [list(row.values()) for row in kept]
            counts = (encoded.tokens, encoded.padded, encoded.text_tokens, encoded.unknown, encoded.truncated)
            sums = [count.sum() for count in counts]
            for name, cost in zip(COSTS, (*sums, failed.num_rows, encoded.back_offs, loaded), strict=True):
                notes[name] += int(cost)
            yield rows.filter(rows["reason"].is_null()).select(["text_hash", "model", "embedding"])

    return make


def embed_udf(model: ModelSpec, batch_tokens: int = 1024) -> Any:
    """The encoder as a column function, for DataFrames of your own: ``df.select(embed_udf(model)("text"))``.

    Returns array<float> of unit length; null for null or blank text, and where the model gives no finite vector. The
    model is loaded once per Python worker.
    """

    @F.pandas_udf("array<float>")  # type: ignore[call-overload]
    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        encoder, _ = _task_encoder(model)
        for batch in batches:
            result = pd.Series([None] * len(batch), dtype=object)
            there = [i for i, text in enumerate(batch) if text and text.strip()]
            if there:
                encoded = encoder.encode([batch.iloc[i] for i in there], batch_tokens)
                for i, vector, reason in zip(there, encoded.vectors, encoded.reasons, strict=True):
                    result.iat[i] = vector if reason is None else None
            yield result

    return embed.asNondeterministic()  # keeps the optimizer from running the model twice per row


def _rows(window: pa.Table, model: ModelSpec, encoded: "Encoded") -> pa.RecordBatch:
    reasons, vectors = pa.array(encoded.reasons, pa.string()), as_lists(encoded.vectors)
    columns = {
        "text_hash": window["text_hash"].combine_chunks(),
        "model": pa.array([model.fingerprint] * len(vectors), pa.string()),
        "embedding": pc.if_else(reasons.is_valid(), pa.scalar(None, vectors.type), vectors),
        "reason": reasons,
        "tokens": pa.array(encoded.tokens, pa.int64()),
        "padded": pa.array(encoded.padded, pa.int64()),
        "truncated": pa.array(encoded.truncated.astype(np.int32)),
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


def _task_encoder(model: ModelSpec) -> "tuple[Encoder, bool]":
    from recsys_spark.encode.kernels.encoder import Encoder, load_model

    context = TaskContext.get()
    threads = max(1, context.cpus()) if context else 1
    loaded, anew = load_model(model, _local_folder(model), task_device(context), threads)
    return Encoder(model, loaded), anew


def shipped_name(model: ModelSpec) -> str:
    """The name under which a model folder travels to the executors."""
    return f"model-{model.files[:16]}"


def _local_folder(model: ModelSpec) -> str:
    """The model on this machine: as shipped with the job, at the driver's path, or as an archive of the user's."""
    name = Path(model.folder).name
    places = [SparkFiles.get(shipped_name(model)), model.folder, SparkFiles.get(name), str(Path.cwd() / name)]
    return next((place for place in places if os.path.isdir(place)), model.folder)


def gpu_profile(share: float, cpus: int = 1) -> ResourceProfile:
    """Tasks with ``share`` of a GPU (0.5: two on one) and ``cpus`` cores each, for the encoding stage alone: the
    executors have the GPUs that ``spark.executor.resource.gpu.amount`` gave them."""
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cpus).resource("gpu", share)).build
