"""Privacy in figures: scrubbing beside cleaning, attribute inference from private profiles, inversion of embeddings.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/bench_privacy.py --texts=FILE --lake=LAKE

``--texts``: one text a line (.gz), for the time of scrubbing. ``--lake``: a lake of MovieLens 100K with profiles.
Inference: gender by ridge logistic regression on the vectors, area under the ROC curve over five folds, mean of
``--draws`` draws of noise. Prints one JSON line.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
from deltalake import DeltaTable
from scipy.optimize import minimize
from scipy.stats import rankdata

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.ingest.kernels.clean_text import clean_text
from recsys_spark.privacy.kernels.candidates import candidates
from recsys_spark.privacy.kernels.gaussian import GRID, least_scale, noisy
from recsys_spark.privacy.kernels.inversion import word_recovery
from recsys_spark.privacy.kernels.projection import principal_projection
from recsys_spark.privacy.kernels.scrub import scrub_spans, scrub_texts
from recsys_spark.privacy.releases import PROFILE_SENSITIVITY, Shape
from tests.bench.personal_texts import personal_texts

EPSILONS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)

CLIPS = {0: 1.0, 16: 0.35}
"""By dimensions of a release (0: all), the norm that profiles are shortened to."""

DELTA, BATCH, RIDGE, FOLDS = 1e-6, 10_000, 1.0, 5


def scrubbing(path: str, repeats: int = 7) -> dict:
    """CPU seconds of cleaning and of scrubbing what was cleaned, in turn; the median ratio."""
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as file:
        texts = [line.rstrip("\n") for line in file][:20_000]
    ratios, seconds = [], []
    for _ in range(repeats + 1):  # the first imports the libraries
        start = time.process_time()
        clean = [clean_text(text, 20_000) for text in texts]
        middle = time.process_time()
        for at in range(0, len(clean), BATCH):
            scrub_texts(clean[at : at + BATCH])
        end = time.process_time()
        ratios.append((end - start) / (middle - start))
        seconds.append(middle - start)
    share = float((candidates(clean) > 0).mean())
    figures = {"texts": len(texts), "characters": sum(map(len, texts)) / len(texts), "candidates": share}
    return figures | {"clean_seconds": float(np.median(seconds[1:])), "with_scrub": float(np.median(ratios[1:]))}


def corpus() -> dict:
    """Recall and precision of exact places, on the generated texts."""
    hits = planted = marked = 0
    for one in personal_texts(5000):
        values, spans = set(one.values), {tuple(span) for span in scrub_spans(one.text)}
        hits, planted, marked = hits + len(values & spans), planted + len(values), marked + len(spans)
    return {"recall": hits / planted, "precision": hits / marked}


def auc(labels: np.ndarray, vectors: np.ndarray, folds: np.ndarray) -> float:
    """Area under the ROC curve of held-out scores."""
    scores = np.empty(len(labels))
    for fold in range(FOLDS):
        train = folds != fold
        mean, spread = vectors[train].mean(axis=0), vectors[train].std(axis=0) + 1e-12
        rows = (vectors - mean) / spread
        weights = fitted(rows[train], labels[train])
        held = rows[~train] @ weights
        scores[~train] = rankdata(held) / len(held)  # folds have models of their own
    ranks, positive = rankdata(scores), labels == 1
    above = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / (positive.sum() * (~positive).sum()))


def fitted(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights of a ridge logistic regression, classes balanced."""
    signs = np.where(labels == 1, 1.0, -1.0)
    weight = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))
    ridge = RIDGE * rows.shape[1]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (rows @ weights)
        value = (weight * np.logaddexp(0, -margins)).sum() + ridge / 2 * weights @ weights
        slope = -weight * signs / (1 + np.exp(np.clip(margins, -500, 500)))
        return float(value), rows.T @ slope + ridge * weights

    return minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B").x


def inference(lake: str, draws: int, dimensions_of: list[int]) -> list[dict]:
    """AUC of gender by dimensions and epsilon (None: all dimensions, no noise), and the mean cosine of a noisy profile
    to the true one."""
    groups = DeltaTable(f"{lake}/users").to_pyarrow_table(columns=["user_id", "groups"]).to_pylist()
    gender = {row["user_id"]: int("gender: woman" in row["groups"]) for row in groups}
    rows = DeltaTable(f"{lake}/user_profiles").to_pyarrow_table(columns=["user_id", "embedding"]).to_pylist()
    rows = sorted((row for row in rows if row["embedding"]), key=lambda row: row["user_id"])
    labels = np.array([gender[row["user_id"]] for row in rows])
    true = np.array([row["embedding"] for row in rows])
    items = np.array(DeltaTable(f"{lake}/item_vectors").to_pyarrow_table()["embedding"].to_pylist())
    folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    curve = []
    for dimensions in dimensions_of:
        shape = Shape(
            clip := CLIPS.get(dimensions, 0.35), principal_projection(items, dimensions) if dimensions else None
        )
        grid = shape.grid(as_lists(true))
        for epsilon in (None, *EPSILONS):
            scale = 0.0 if epsilon is None else least_scale(epsilon, DELTA, PROFILE_SENSITIVITY)
            drawn = [grid if epsilon is None else noisy(grid, scale) for _ in range(draws if epsilon else 1)]
            cosines = [(unit_rows(shape.vectors(one)) * unit_rows(true)).sum(axis=1).mean() for one in drawn]
            aucs = [auc(labels, one / GRID, folds) for one in drawn]
            curve.append({"dimensions": dimensions, "clip": clip, "epsilon": epsilon, "noise": scale / GRID,
                          "cosine": float(np.mean(cosines)), "auc": float(np.mean(aucs))})  # fmt: skip
    return curve


def inversion(lake: str) -> dict | None:
    """Words of item texts that the probe recovers."""
    items = DeltaTable(f"{lake}/items").to_pyarrow_table(columns=["text", "text_hash"]).to_pylist()
    stored = DeltaTable(f"{lake}/embeddings").to_pyarrow_table(columns=["text_hash", "embedding"]).to_pylist()
    vectors = {row["text_hash"]: row["embedding"] for row in stored}
    pairs = sorted({(row["text_hash"], row["text"]) for row in items if row["text_hash"] in vectors})[:1500]
    found = word_recovery([text for _, text in pairs], np.array([vectors[name] for name, _ in pairs]))
    return None if found is None else vars(found)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts")
    parser.add_argument("--lake")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--dimensions", default="0,16")
    options = parser.parse_args()
    figures: dict = {"corpus": corpus()}
    if options.texts:
        figures["scrubbing"] = {"file": Path(options.texts).name} | scrubbing(options.texts)
    if options.lake:
        figures |= {
            "inference": inference(options.lake, options.draws, [*map(int, options.dimensions.split(","))]),
            "inversion": inversion(options.lake),
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
