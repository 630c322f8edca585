"""Columns of lists of codes (64-bit hashes of ids) as sparse matrices."""

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def code_matrix(lists: pa.ListArray, values: pa.ListArray | None = None) -> tuple[Rows, sp.csr_array]:
    """(vocabulary, (n, codes) matrix of ``values``) of a column of lists of codes.

    The vocabulary holds the distinct codes, ascending. Without ``values`` every entry is 1.
    """
    codes, offsets = flat(lists)
    vocabulary, columns = np.unique(codes, return_inverse=True)
    data = np.ones(len(codes)) if values is None else values.flatten().to_numpy().astype(np.float64)
    return vocabulary, sp.csr_array((data, columns.astype(np.int64), offsets), shape=(len(lists), len(vocabulary)))


def code_matrix_within(lists: pa.ListArray, vocabulary: Rows, values: pa.ListArray | None = None) -> sp.csr_array:
    """(n, codes) matrix of ``values`` over a given ``vocabulary`` (ascending, not empty); other codes are left out.

    Without ``values`` every entry is 1.
    """
    codes, offsets = flat(lists)
    columns = np.searchsorted(vocabulary, codes).clip(max=len(vocabulary) - 1)
    matches = vocabulary[columns] == codes
    starts = np.concatenate([[0], np.cumsum(matches)])[offsets]
    data = np.ones(int(matches.sum())) if values is None else values.flatten().to_numpy().astype(np.float64)[matches]
    return sp.csr_array((data, columns[matches], starts), shape=(len(lists), len(vocabulary)))


def flat(lists: pa.ListArray) -> tuple[Rows, Rows]:
    """(values, offsets) of a column of lists."""
    offsets = lists.offsets.to_numpy().astype(np.int64)
    return lists.flatten().to_numpy(), offsets - offsets[0]
