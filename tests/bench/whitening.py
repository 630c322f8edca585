"""Vectors in a cone, and whitening in three slow lines."""

import numpy as np

from recsys_spark.arrays.vectors import unit_rows


def cone(rows, dimension, seed=3):
    """Unit vectors that share a direction and spread unevenly, as text embeddings do."""
    random = np.random.default_rng(seed)
    spread = random.normal(size=(rows, dimension)) @ np.diag(0.7 ** np.arange(dimension))
    return unit_rows(spread @ np.linalg.qr(random.normal(size=(dimension, dimension)))[0] + 0.5)


def slow(vectors, shrink):
    """(E − μ) V (S²/n + λ mean(S²/n))^(−1/2) Vᵀ from the singular values of E − μ."""
    wide = vectors.astype(np.float64)
    _, values, axes = np.linalg.svd(wide - wide.mean(axis=0), full_matrices=False)
    variances = values**2 / len(wide)
    white = (wide - wide.mean(axis=0)) @ axes.T @ np.diag((variances + shrink * variances.mean()) ** -0.5) @ axes
    return white / np.linalg.norm(white, axis=1)[:, None]
