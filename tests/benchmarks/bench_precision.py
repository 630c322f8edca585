#!/usr/bin/env python3
"""Does int8 lose quality? Hit rate of text-only lists in fp32 and int8. Prints one JSON line last.

    tests/benchmarks/bench_precision.py --data=../shared/data/amazon-scientific [--model=DIR]

Leave-one-out over the whole catalogue: a user's profile is the mean of the history's vectors, the i-th latest weighted
0.7^i; the target is the last item; items of the history are left out; a tie takes the average rank. The second standard
error is that of the difference between the two, user by user.
"""

import argparse
import gzip
import json
import os
import sys
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np

from recsys_spark.encode.kernels.encoder import Encoder
from recsys_spark.encode.options import DEFAULT_MODEL, EncoderOptions
from recsys_spark.encode.steps.model_source import resolve_model

Histories = list[tuple[list[int], int]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    asked = parser.parse_args()
    texts, histories = read(asked.data)
    vectors, hits = {}, {}
    for precision in ("fp32", "int8"):
        options = EncoderOptions(lake="none", model=asked.model, max_length=128, precision=precision)
        vectors[precision] = Encoder(resolve_model(options)).encode(texts).vectors
        hits[precision] = hits_at_10(vectors[precision], histories)
    cosines = (vectors["fp32"] * vectors["int8"]).sum(1)
    lost = hits["fp32"] - hits["int8"]
    figures = {
        "items": len(texts),
        "users": len(histories),
        "fp32_hit_rate@10": hits["fp32"].mean(),
        "int8_hit_rate@10": hits["int8"].mean(),
        "standard_error_of_a_hit_rate": hits["fp32"].std() / len(lost) ** 0.5,
        "standard_error_of_the_difference": lost.std() / len(lost) ** 0.5,
        "mean_cosine": cosines.mean(),
        "least_cosine": cosines.min(),
    }
    print(json.dumps({name: round(float(value), 5) for name, value in figures.items()}))


def read(folder: Path) -> tuple[list[str], Histories]:
    """The texts in the order of the item numbers, and each user's history (oldest first) with the target."""
    texts = dict(line.split("\t", 1) for line in lines(folder / "Scientific.text.gz")[1:])
    numbers = [line.split("\t") for line in lines(folder / "Scientific.item2index.gz")]
    order = [name for name, _ in sorted(numbers, key=lambda pair: int(pair[1]))]
    rows = [line.split("\t") for line in lines(folder / "Scientific.test.inter.gz")[1:]]
    return [texts[name] for name in order], [([int(i) for i in past.split()], int(last)) for _, past, last in rows]


def lines(path: Path) -> list[str]:
    """The lines of a compressed text file."""
    return gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()


def hits_at_10(vectors: np.ndarray, histories: Histories) -> np.ndarray:
    """(users,): 1 where the target is among the first ten."""
    hits = np.zeros(len(histories))
    for user, (past, target) in enumerate(histories):
        weights = np.float32(0.7) ** np.arange(len(past))[::-1].astype(np.float32)
        scores = vectors @ (weights @ vectors[past])
        mine = scores[target]
        scores[past] = -np.inf
        scores[target] = mine
        hits[user] = (scores > mine).sum() + ((scores == mine).sum() - 1) / 2 < 10
    return hits


if __name__ == "__main__":
    main()
