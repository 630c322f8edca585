#!/usr/bin/env python3
"""Encoding inside Spark against what people would otherwise write. Prints one JSON line last.

    tests/benchmarks/bench_encode.py --texts=FILE [--model=DIR] [--n=2000] [--pairs=5]

FILE has one text a line, or a table with tabs whose last column is the text; it may end in .gz. The same texts, the
same longest text (128 tokens), the same cores and the same run for all; each is warm before it is timed, ours and its
peer take turns, and a ratio is the median over these pairs. Ours includes Spark, Arrow, Parquet and the commit;
sentence-transformers and the article's way run in one process without Spark. The article's way (all padded to the
longest, 16 a batch) encodes a quarter of the texts: its time for a text does not depend on the text.
"""

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
import torch
from pairs import paired
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, FloatType
from transformers import AutoModel, AutoTokenizer

from recsys_spark.encode.embedding import embedded_texts, embedding_rows, spread_texts
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.options import DEFAULT_MODEL, EncoderOptions
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import EMBEDDINGS

MAX_LENGTH = 128
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    """Measure and print."""
    asked = arguments()
    texts = read_texts(asked.texts, asked.n)
    scratch = tempfile.mkdtemp(prefix="bench-encode-")
    try:
        print(json.dumps(measure(texts, asked.model, asked.pairs, Path(scratch))))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", required=True, type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    return parser.parse_args()


def read_texts(path: Path, n: int) -> list[str]:
    """The first n distinct texts."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        found = dict.fromkeys(line.decode("utf-8").rpartition("\t")[2].strip() for line in lines)
    return [text for text in found if text][:n]


def measure(texts: list[str], model: str, pairs: int, scratch: Path) -> dict[str, object]:
    """All figures of one run."""
    bench = Bench(texts, scratch)
    options = {"lake": str(scratch), "model": model, "max_length": MAX_LENGTH}
    fp32 = resolve_model(EncoderOptions(**options))
    int8 = resolve_model(EncoderOptions(**options, precision="int8"))
    peer = sentence_transformers(fp32.folder, texts)
    rows: dict[str, object] = {"texts": len(texts), "cores": CORES}
    seconds, rows["vs_sentence_transformers"] = paired("sentence-transformers", peer, "ours", bench.job(fp32), pairs)
    rows["texts_per_s"] = round(len(texts) / seconds, 1)
    udf = bench.batch_udf(fp32.folder)
    _, rows["vs_predict_batch_udf"] = paired("predict_batch_udf", udf, "ours", bench.job(fp32), pairs)
    quarter = texts[::4]
    share = len(texts) / len(quarter)
    slow = article(fp32.folder, quarter)
    _, rows["vs_article_padding"] = paired("the article's way", slow, "ours", bench.job(fp32), pairs, share)
    _, rows["int8_vs_sentence_transformers"] = paired("sentence-transformers", peer, "int8", bench.job(int8), pairs)
    exact = bench.encoded(fp32)
    rows["padding_share"] = round(1 - exact["tokens"].sum() / exact["padded"].sum(), 4)
    rows |= cosines("int8", exact, bench.encoded(int8))
    if torch.cpu._is_avx512_bf16_supported():  # elsewhere ten times slower than fp32
        bf16 = resolve_model(EncoderOptions(**options, precision="bf16"))
        _, rows["bf16_vs_sentence_transformers"] = paired("sentence-transformers", peer, "bf16", bench.job(bf16), pairs)
        rows |= cosines("bf16", exact, bench.encoded(bf16))
    return rows | {"fp32_largest_difference": float(np.abs(exact["vectors"] - peer()).max())}


def cosines(name: str, exact: dict[str, np.ndarray], reduced: dict[str, np.ndarray]) -> dict[str, float]:
    """How near vectors of a reduced precision are to those in fp32."""
    found = (exact["vectors"] * reduced["vectors"]).sum(1)
    return {f"{name}_mean_cosine": round(float(found.mean()), 5), f"{name}_least_cosine": round(float(found.min()), 5)}


class Bench:
    """The session and the texts as a cached DataFrame."""

    def __init__(self, texts: list[str], scratch: Path) -> None:
        """Settings of conf/spark-local.conf that matter here."""
        builder = SparkSession.builder.master(f"local[{CORES},4]").config("spark.ui.enabled", "false")
        builder = builder.config("spark.driver.memory", "3g").config("spark.ui.showConsoleProgress", "false")
        self.spark = builder.config("spark.sql.execution.arrow.pyspark.enabled", "true").getOrCreate()
        self.spark.sparkContext.setLogLevel("ERROR")
        rows = [(f"{number:08x}", text) for number, text in enumerate(texts)]
        frame = self.spark.createDataFrame(rows, "text_hash string, text string")
        self.texts = frame.repartition(CORES).cache()
        self.texts.count()
        self.lake, self._runs = Lake(str(scratch / "lake")), 0

    def job(self, model: ModelSpec) -> Callable[[], object]:
        """The stage as the job runs it: encode, write Parquet, commit."""

        def run() -> None:
            self._runs += 1
            texts = spread_texts(self.texts, CORES)
            staged = self.lake.stage(texts, EMBEDDINGS, embedding_rows(model))
            self.lake.commit(staged, f"run {self._runs}", append=True)

        return run

    def encoded(self, model: ModelSpec) -> dict[str, np.ndarray]:
        """Vectors in the order of the texts, and token counts."""
        table = embedded_texts(self.texts, model, tasks=CORES).toArrow().sort_by("text_hash")
        vectors = table["embedding"].combine_chunks().values.to_numpy().reshape(table.num_rows, -1)
        return {"vectors": vectors, "tokens": table["tokens"].to_numpy(), "padded": table["padded"].to_numpy()}

    def batch_udf(self, folder: str) -> Callable[[], object]:
        """As the examples of predict_batch_udf do: 32 rows at a time, in the order of arrival."""

        def make() -> Callable[[np.ndarray], np.ndarray]:
            torch.set_num_threads(1)
            encode = plain_encoder(folder, padding=True)
            return lambda texts: encode(list(texts))

        embed = predict_batch_udf(make, return_type=ArrayType(FloatType()), batch_size=32)
        return lambda: self.texts.select("text_hash", embed("text")).write.format("noop").mode("overwrite").save()


def sentence_transformers(folder: str, texts: list[str]) -> Callable[[], np.ndarray]:
    """With all cores in one process, which is what it does by itself."""
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(CORES)
    model = SentenceTransformer(folder, device="cpu")
    model.max_seq_length = MAX_LENGTH
    return lambda: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def article(folder: str, texts: list[str]) -> Callable[[], object]:
    """Everything padded to the longest length, 16 texts at a time."""
    encode = plain_encoder(folder, padding="max_length")
    return lambda: [encode(texts[start : start + 16]) for start in range(0, len(texts), 16)]


def plain_encoder(folder: str, padding: bool | str) -> Callable[[list[str]], np.ndarray]:
    """Tokenise, run, mean over the tokens, unit length."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def encode(texts: list[str]) -> np.ndarray:
        inputs = tokenizer(texts, padding=padding, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    return encode


if __name__ == "__main__":
    main()
