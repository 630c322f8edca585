"""Scorers as files: the driver writes their arrays once, tasks map them into memory."""

from dataclasses import fields
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from pyarrow.fs import FileSystem, LocalFileSystem

from recsys_spark.kernels.scorers import ItemScores, ItemVectors, ItemWeights, Scorer

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (ItemScores, ItemVectors, ItemWeights)}
_SPARSE = ("data", "indices", "indptr")


def keep_scorer(scorer: Scorer, uri: str) -> str:
    """Write below ``uri``; returns what ``open_scorer`` takes."""
    (field,) = fields(cast(Any, scorer))
    held = getattr(scorer, field.name)
    if not sp.issparse(held):
        keep_array(held, f"{uri}/dense.npy")
        return f"{type(scorer).__name__} {uri}"
    for name in _SPARSE:
        keep_array(getattr(held, name), f"{uri}/{name}.npy")
    return f"{type(scorer).__name__} {uri} {held.shape[1]}"


def open_scorer(kept: str) -> Scorer:
    """The scorer, its arrays mapped where they lie on this machine."""
    kind, uri, *width = kept.split(" ")
    if not width:
        return cast(Scorer, _KINDS[kind](open_array(f"{uri}/dense.npy")))
    data, indices, indptr = (open_array(f"{uri}/{name}.npy") for name in _SPARSE)
    return cast(Scorer, _KINDS[kind](sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, int(width[0])))))


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
