"""Encode distinct texts, the expensive stage of a refresh. Pure DataFrame functions."""

import os
import socket
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
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
"""Number of texts that are grouped by length at once, across Arrow batches: few texts of a smaller window have equal
lengths."""

MAX_FAILURES = 10_000
"""Maximum number of failed texts that a task reports to the driver with hash and reason. Further ones are only counted,
so the next run tries them again."""

COUNTERS = (
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
    """Distinct texts of all frames: ``text_hash, text``."""
    texts = [frame.where(F.col("text").isNotNull()).select("text_hash", "text") for frame in frames]
    union = texts[0]
    for frame in texts[1:]:
        union = union.unionByName(frame)
    return union.groupBy("text_hash").agg(F.min("text").alias("text")).select("text_hash", "text")


def missing_texts(texts: DataFrame, embeddings: DataFrame, failed: DataFrame, model: str) -> DataFrame:
    """``text_hash, text`` of texts that ``model`` has neither embedded nor failed on.

    ``embeddings`` and ``failed`` have ``text_hash, model``.
    """
    tried = embeddings.select("text_hash", "model").unionByName(failed.select("text_hash", "model"))
    tried = tried.where(F.col("model") == model).select("text_hash")
    return texts.join(tried, on="text_hash", how="left_anti").select("text_hash", "text")


def count_texts(texts: DataFrame, embeddings: DataFrame, failed: DataFrame, model: ModelSpec) -> DataFrame:
    """One row ``embedded, failed, missing, tokens``: numbers of texts by state, and the estimated tokens of the missing
    texts."""
    embedded = embeddings.select("text_hash", "model", F.lit(True).alias("embedded"))
    tried = embedded.unionByName(failed.select("text_hash", "model", F.lit(False).alias("embedded")))
    tried = tried.where(F.col("model") == model.fingerprint)
    states = tried.groupBy("text_hash").agg(F.max("embedded").alias("embedded"))
    joined = texts.join(states, on="text_hash", how="left")
    missing = F.col("embedded").isNull()
    tokens = F.sum(F.when(missing, estimated_tokens(model.max_length)).otherwise(0))
    return joined.agg(
        F.count_if("embedded").alias("embedded"),
        F.count_if(~F.col("embedded")).alias("failed"),
        F.count_if(missing).alias("missing"),
        F.coalesce(tokens, F.lit(0)).alias("tokens"),
    )


def estimated_tokens(max_length: int) -> Column:
    """Rough number of tokens of ``text`` without a tokenizer: a token per four characters, at most ``max_length``."""
    return F.least(F.lit(max_length), F.ceil(F.length("text") / 4) + 2).cast("bigint")


def in_slice(slice_number: int, slices: int) -> Column:
    """Whether a text belongs to slice ``slice_number`` of ``slices`` of about equal size, by its hash: in every run."""
    return F.pmod(F.conv(F.substring("text_hash", 1, 8), 16, 10).cast("bigint"), F.lit(slices)) == slice_number


def spread_texts(texts: DataFrame, tasks: int) -> DataFrame:
    """``text_hash, text`` in ``tasks`` partitions by hash. The number is explicit because Spark would merge partitions
    of few bytes, and encoding these takes long."""
    return texts.select("text_hash", "text").repartition(tasks, "text_hash")


def embedded_texts(texts: DataFrame, model: ModelSpec, *, tasks: int, batch_tokens: int = 1024) -> DataFrame:
    """Encode ``text_hash, text`` to ``text_hash, model, embedding, reason, tokens, padded, truncated``, a row per text.

    A failed text has a null embedding and a reason.
    """

    def encode(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for window in _windows(batches, WINDOW_TEXTS):
            encoder, _ = _task_encoder(model)
            yield _rows(window, model, encoder.encode(window["text"].to_pylist(), batch_tokens))

    encoded = spread_texts(texts, tasks).mapInArrow(encode, _ENCODED_DDL)
    return encoded.select("text_hash", "model", "embedding", "reason", "tokens", "padded", "truncated")


def embedding_rows(model: ModelSpec, batch_tokens: int = 1024) -> ArrowTransform:
    """``embedded_texts`` within the writing task: rows of the table ``embeddings``.

    Task statistics are the ``COUNTERS``, the worker, and the first failures as (hash, reason).
    """

    def embed(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        stats |= {"worker": f"{socket.gethostname()}:{os.getpid()}", "failures": [], **dict.fromkeys(COUNTERS, 0)}
        for window in _windows(batches, WINDOW_TEXTS):
            encoder, is_new = _task_encoder(model)
            encoded = encoder.encode(window["text"].to_pylist(), batch_tokens)
            rows = _rows(window, model, encoded)
            failed = rows.filter(rows["reason"].is_valid()).select(["text_hash", "reason"])
            reported = failed.slice(0, MAX_FAILURES - len(stats["failures"])).to_pylist()
            stats["failures"] += [list(row.values()) for row in reported]
            counts = (encoded.tokens, encoded.padded, encoded.text_tokens, encoded.unknown, encoded.truncated)
            sums = [count.sum() for count in counts]
            for name, count in zip(COUNTERS, (*sums, failed.num_rows, encoded.back_offs, is_new), strict=True):
                stats[name] += int(count)
            yield rows.filter(rows["reason"].is_null()).select(["text_hash", "model", "embedding"])

    return embed


def embed_udf(model: ModelSpec, batch_tokens: int = 1024) -> Any:
    """The encoder as a column function for any DataFrame: ``df.select(embed_udf(model)("text"))``.

    Returns array<float> of unit length; null if the text is null or blank or fails to encode. The model is loaded once
    per Python worker.
    """
    import pandas as pd  # here, so that a run without new texts does not load it

    @F.pandas_udf("array<float>")  # type: ignore[call-overload]
    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        encoder, _ = _task_encoder(model)
        for batch in batches:
            result = pd.Series([None] * len(batch), dtype=object)
            rows = [i for i, text in enumerate(batch) if text and text.strip()]
            if rows:
                encoded = encoder.encode([batch.iloc[i] for i in rows], batch_tokens)
                for i, vector, reason in zip(rows, encoded.vectors, encoded.reasons, strict=True):
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
    pending: list[pa.RecordBatch] = []
    for batch in chain(batches, [None]):
        if pending and (batch is None or sum(b.num_rows for b in pending) >= rows):
            yield pa.Table.from_batches(pending)
            pending = []
        if batch is not None and batch.num_rows:
            pending.append(batch)


def _task_encoder(model: ModelSpec) -> "tuple[Encoder, bool]":
    from recsys_spark.encode.kernels.encoder import Encoder, load_model

    context = TaskContext.get()
    threads = max(1, context.cpus()) if context else 1
    loaded, is_new = load_model(model, _local_folder(model), task_device(context), threads)
    return Encoder(model, loaded), is_new


def shipped_name(model: ModelSpec) -> str:
    """Name of a model folder shipped to the executors."""
    return f"model-{model.files[:16]}"


def _local_folder(model: ModelSpec) -> str:
    """Path of the model on this machine: shipped by the job, at the driver's path, or in an archive of the user."""
    name = Path(model.folder).name
    candidates = [SparkFiles.get(shipped_name(model)), model.folder, SparkFiles.get(name), str(Path.cwd() / name)]
    return next((folder for folder in candidates if os.path.isdir(folder)), model.folder)


def gpu_profile(share: float, cpus: int = 1) -> ResourceProfile:
    """Resource profile of encoding tasks: ``share`` of a GPU (0.5: two tasks per GPU) and ``cpus`` cores each.

    Executors stay as they are, with the GPUs of ``spark.executor.resource.gpu.amount``.
    """
    return ResourceProfileBuilder().require(TaskResourceRequests().cpus(cpus).resource("gpu", share)).build
