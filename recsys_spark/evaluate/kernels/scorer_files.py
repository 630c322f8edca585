"""Scorers as files: the driver writes their arrays once, and tasks map them into memory."""

from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from pyarrow.fs import FileSystem, LocalFileSystem

from recsys_spark.evaluate.kernels.scorers import ItemScores, ItemVectors, ItemWeights, OwnHistory, Scorer

_KINDS: dict[str, type] = {kind.__name__: kind for kind in (ItemScores, ItemVectors, ItemWeights, OwnHistory)}

_SPARSE = ("data", "indices", "indptr")


@dataclass(frozen=True)
class ScorerFiles:
    """The folder of a scorer's arrays, its class name, and the width of a sparse matrix."""

    kind: str
    uri: str
    columns: int | None = None
    """None for a dense array."""


def write_scorer(scorer: Scorer, uri: str) -> ScorerFiles:
    """Write the array of a scorer below ``uri``, for ``open_scorer``."""
    (field,) = fields(cast(Any, scorer))
    kind, array = type(scorer).__name__, getattr(scorer, field.name)
    if not sp.issparse(array):
        write_array(array, f"{uri}/dense.npy")
        return ScorerFiles(kind, uri)
    for name in _SPARSE:
        write_array(getattr(array, name), f"{uri}/{name}.npy")
    return ScorerFiles(kind, uri, int(array.shape[1]))


def open_scorer(files: ScorerFiles) -> Scorer:
    """Open a scorer; arrays on a local disk are mapped into memory."""
    if files.columns is None:
        return cast(Scorer, _KINDS[files.kind](open_array(f"{files.uri}/dense.npy")))
    data, indices, indptr = (open_array(f"{files.uri}/{name}.npy") for name in _SPARSE)
    matrix = sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, files.columns))
    return cast(Scorer, _KINDS[files.kind](matrix))


def write_array(array: np.ndarray, uri: str) -> None:
    """Write an array as an .npy file, with its folder."""
    filesystem, path = FileSystem.from_uri(uri)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with filesystem.open_output_stream(path) as file:
        np.save(file, array)


def open_array(uri: str) -> np.ndarray:
    """Open an array of ``write_array``, mapped into memory where it is on a local disk."""
    filesystem, path = FileSystem.from_uri(uri)
    if isinstance(filesystem, LocalFileSystem):
        return cast(np.ndarray, np.load(path, mmap_mode="r"))
    with filesystem.open_input_file(path) as file:
        return cast(np.ndarray, np.load(file))
