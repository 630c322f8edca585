"""Scorers as files: the driver writes their arrays once, and tasks map them into memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from pyarrow.fs import FileSystem, LocalFileSystem

from recsys_spark.evaluate.kernels.scorers import Scorer

_SPARSE = ("data", "indices", "indptr")


@dataclass(frozen=True)
class ScorerFiles:
    """A scorer whose arrays are in the folder ``uri``.

    Args:
        kind: module and name of its class.
        columns: width of each array, by the name of its field; None for a dense one.
        values: the fields that are no arrays; a scorer among them is its own ``ScorerFiles``.
    """

    kind: tuple[str, str]
    uri: str
    columns: Mapping[str, int | None] = field(default_factory=dict, hash=False)
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)


def write_scorer(scorer: Scorer, uri: str) -> ScorerFiles:
    """Write the arrays of a scorer, a dataclass, below ``uri``, for ``open_scorer``."""
    columns: dict[str, int | None] = {}
    values: dict[str, Any] = {}
    for name, value in ((one.name, getattr(scorer, one.name)) for one in fields(cast(Any, scorer))):
        if sp.issparse(value):
            columns[name] = int(value.shape[1])
            for part in _SPARSE:
                write_array(getattr(value, part), f"{uri}/{name}.{part}.npy")
        elif isinstance(value, np.ndarray):
            columns[name] = None
            write_array(value, f"{uri}/{name}.npy")
        else:
            values[name] = value
    return ScorerFiles((type(scorer).__module__, type(scorer).__name__), uri, columns, values)


def open_scorer(files: ScorerFiles) -> Scorer:
    """Open a scorer; arrays on a local disk are mapped into memory."""
    module, name = files.kind
    arrays = {name: _open(f"{files.uri}/{name}", columns) for name, columns in files.columns.items()}
    values = {
        name: open_scorer(value) if isinstance(value, ScorerFiles) else value for name, value in files.values.items()
    }
    return cast(Scorer, getattr(import_module(module), name)(**arrays, **values))


def _open(uri: str, columns: int | None) -> Any:
    if columns is None:
        return open_array(f"{uri}.npy")
    data, indices, indptr = (open_array(f"{uri}.{part}.npy") for part in _SPARSE)
    return sp.csr_array((data, indices, indptr), shape=(len(indptr) - 1, columns))


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
