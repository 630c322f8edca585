"""Scorers as files: the driver writes their arrays once, tasks map them into memory."""

from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from pyarrow.fs import FileSystem, LocalFileSystem

from recsys_spark.evaluate.kernels.scorers import ItemScores, ItemVectors, ItemWeights, Scorer

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (ItemScores, ItemVectors, ItemWeights)}

_SPARSE = ("data", "indices", "indptr")


@dataclass(frozen=True)
class ScorerFiles:
    """Where a scorer's arrays lie, and what is needed to make it of them again."""

    kind: str
    uri: str
    columns: int | None = None
    """Those of a sparse matrix; None where the array is a dense one."""


def keep_scorer(scorer: Scorer, uri: str) -> ScorerFiles:
    """Write below ``uri``; returns what ``open_scorer`` takes."""
    (field,) = fields(cast(Any, scorer))
    kind, held = type(scorer).__name__, getattr(scorer, field.name)
    if not sp.issparse(held):
        keep_array(held, f"{uri}/dense.npy")
        return ScorerFiles(kind, uri)
    for name in _SPARSE:
        keep_array(getattr(held, name), f"{uri}/{name}.npy")
    return ScorerFiles(kind, uri, int(held.shape[1]))


def open_scorer(kept: ScorerFiles) -> Scorer:
    """The scorer, its arrays mapped where they lie on this machine."""
    if kept.columns is None:
        return cast(Scorer, _KINDS[kept.kind](open_array(f"{kept.uri}/dense.npy")))
    data, indices, indptr = (open_array(f"{kept.uri}/{name}.npy") for name in _SPARSE)
    held = sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, kept.columns))
    return cast(Scorer, _KINDS[kept.kind](held))


def keep_array(array: np.ndarray, uri: str) -> None:
    """Write one array."""
    filesystem, path = FileSystem.from_uri(uri)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with filesystem.open_output_stream(path) as file:
        np.save(file, array)


def open_array(uri: str) -> np.ndarray:
    """An array that ``keep_array`` wrote."""
    filesystem, path = FileSystem.from_uri(uri)
    if isinstance(filesystem, LocalFileSystem):
        return cast(np.ndarray, np.load(path, mmap_mode="r"))
    with filesystem.open_input_file(path) as file:
        return cast(np.ndarray, np.load(file))
