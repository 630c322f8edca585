"""Histories of scorers in tests."""

import numpy as np
import scipy.sparse as sp

from recsys_spark.evaluate.kernels.scorers import UserHistories


def user_histories(weights):
    """The histories with these weights, (users, items); each user's events are in the order of items."""
    matrix = sp.csr_array(weights)
    return UserHistories(matrix, matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64))
