"""Columns of lists of codes (64-bit hashes of ids) as sparse matrices."""

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def coded(lists: pa.ListArray, values: pa.ListArray | None = None) -> tuple[Rows, sp.csr_array]:
    """The distinct codes of a column of lists, ascending, and (n, codes) the values of each row; ones without."""
    codes, offsets = flat(lists)
    vocabulary, columns = np.unique(codes, return_inverse=True)
    data = np.ones(len(codes)) if values is None else values.flatten().to_numpy().astype(np.float64)
    return vocabulary, sp.csr_array((data, columns.astype(np.int64), offsets), shape=(len(lists), len(vocabulary)))


def within(lists: pa.ListArray, vocabulary: Rows, values: pa.ListArray | None = None) -> sp.csr_array:
    """(n, codes) the values of rows that have a code of ``vocabulary`` (not empty); ones without ``values``."""
    codes, offsets = flat(lists)
    place = np.searchsorted(vocabulary, codes).clip(max=len(vocabulary) - 1)
    known = vocabulary[place] == codes
    starts = np.concatenate([[0], np.cumsum(known)])[offsets]
    data = np.ones(int(known.sum())) if values is None else values.flatten().to_numpy().astype(np.float64)[known]
    return sp.csr_array((data, place[known], starts), shape=(len(lists), len(vocabulary)))


def flat(lists: pa.ListArray) -> tuple[Rows, Rows]:
    """(values, offsets) of a column of lists."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.flatten().to_numpy(), offsets - offsets[0]
