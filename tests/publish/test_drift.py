"""Figures of the drift gate, against sums over all pairs; and the checks that tasks count."""

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.lake.data_files import ListFaults, VectorSums
from recsys_spark.publish.drift import drifted, vector_figures

BOUNDS = {
    "max_row_change": 0.5,
    "max_norm_change": 0.5,
    "max_cosine_change": 0.2,
    "max_coverage_drop": 0.1,
    "max_changed_lists": 0.8,
}


def stats_of(vectors):
    sums = VectorSums()
    sums.add(pa.RecordBatch.from_pydict({"embedding": pa.array(vectors, pa.list_(pa.float32()))}))
    return {"vectors": sums.sums()}


def test_the_mean_cosine_of_all_pairs_comes_from_sums_of_tasks():
    vectors = np.random.default_rng(3).normal(0.4, 1, (30, 6)).astype(np.float32)
    figures = vector_figures([stats_of(vectors[:11].tolist()), {}, stats_of(vectors[11:].tolist())])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [units[i] @ units[j] for i in range(30) for j in range(30) if i != j]
    assert figures["mean_cosine"] == pytest.approx(np.mean(pairs), abs=1e-5)
    assert figures["mean_norm"] == pytest.approx(np.linalg.norm(vectors, axis=1).mean(), rel=1e-5)
    assert figures["unusable"] == 0


def test_vectors_without_a_direction_are_counted():
    figures = vector_figures([stats_of([[0.0, 0.0], [float("nan"), 1.0], [3.0, 4.0], None])])
    assert (figures["unusable"], figures["mean_norm"]) == (3, 5.0)
    assert "mean_cosine" not in figures
    assert vector_figures([]) == {}


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ({"rows": 1000}, {"rows": 1500}, []),
        ({"rows": 1000}, {"rows": 1501}, ["rows went from 1,000 to 1,501"]),
        ({"rows": 1000}, {"rows": 499}, ["rows went from 1,000 to 499"]),
        ({"mean_norm": 2.0}, {"mean_norm": 3.1}, ["mean_norm went from 2 to 3.1"]),
        ({"mean_cosine": 0.1}, {"mean_cosine": -0.2}, ["mean_cosine went from 0.1 to -0.2"]),
        ({"mean_cosine": 0.1}, {"mean_cosine": 0.2}, []),
        ({"coverage": 0.5}, {"coverage": 0.3}, ["coverage went from 0.5 to 0.3"]),
        ({"coverage": 0.5}, {"coverage": 0.9}, []),
        ({}, {"changed_lists": 0.9}, ["90.0% of the lists have changed"]),
        ({"rows": 1000}, {"mean_norm": 9}, []),
    ],
)
def test_each_figure_beyond_its_bound_is_named(was, now, words):
    faults = drifted(was, now, BOUNDS)
    assert len(faults) == len(words)
    assert all(text.startswith(word) for text, word in zip(faults, words, strict=True))


def test_tasks_count_the_faults_of_lists():
    def counts(*rows, at_once=2):
        faults = ListFaults()
        for first in range(0, len(rows), at_once):
            part = [
                dict(zip(("user_id", "item_id", "score"), row, strict=True)) for row in rows[first : first + at_once]
            ]
            faults.add(pa.RecordBatch.from_pylist(part))
        return tuple(faults.counts().values())

    good = [("u", "a", 0.9), ("u", "b", 0.9), ("u", "c", -0.1), ("v", "a", 1.0), ("w", "a", 0.5), ("w", "b", 0.4)]
    for at_once in (1, 2, 3, 6):
        assert counts(*good, at_once=at_once) == (0, 0, 0)
        assert counts(*good, ("w", "c", 0.6), at_once=at_once) == (0, 1, 0)
        assert counts(*good, ("w", "a", 0.3), at_once=at_once) == (0, 0, 1)
        assert counts(*good, ("x", "a", float("nan")), at_once=at_once) == (1, 0, 0)
    assert counts() == (0, 0, 0)
