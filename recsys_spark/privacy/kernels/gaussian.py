"""The discrete Gaussian mechanism of OpenDP on fixed-point vectors, and what its releases spend together.

Values become integers before noise is added: sums are then exact in any order, and noise is sampled exactly (Canonne,
Kamath and Steinke, "The Discrete Gaussian for Differential Privacy", 2020). Noise comes from a secure source, so two
runs differ. Privacy loss is counted as zero-concentrated differential privacy (Bun and Steinke, 2016).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_spark.errors import UsageError

GRID = 2**20
"""Steps of the fixed-point grid from 0 to the clipping norm."""

_MARGIN = 1 - 2**-40
"""Keeps rounding errors of a norm below the clipping norm."""

_LEAST_RATIO, _MOST_RATIO = 1e-2, 1e8
"""Range of scale / sensitivity that is searched."""


def check_opendp_installed() -> None:
    """Raise UsageError if OpenDP is missing on this machine."""
    if find_spec("opendp") is None:
        raise UsageError(
            "opendp is not installed: pip install 'recsys-spark[privacy]' on the driver and on every executor"
        )


def clipped_grid(vectors: NDArray[np.floating], clip: float) -> NDArray[np.int64]:
    """(n, d) integers of at most GRID in norm: each row shortened to the norm ``clip``, in steps of ``clip`` / GRID,
    rounded towards zero. Rows with NaN or infinity become zero."""
    rows = vectors.astype(np.float64) / clip
    rows[~np.isfinite(rows).all(axis=1)] = 0.0
    rows /= np.maximum(np.abs(rows).max(axis=1, keepdims=True, initial=0.0), 1.0)  # first, or squares overflow
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    grid = np.trunc(rows * (GRID * _MARGIN)).astype(np.int64)
    assert ((grid * grid).sum(axis=1) <= GRID * GRID).all(), "the sensitivity rests on it"
    return grid


def noisy(values: NDArray[np.int64], scale: float) -> NDArray[np.int64]:
    """``values`` of any shape, each with discrete Gaussian noise of this scale (standard deviation)."""
    drawn = _gaussian(scale)(values.ravel().tolist())
    return np.array(drawn, np.int64).reshape(values.shape)


def least_scale(epsilon: float, delta: float, sensitivity: float) -> float:
    """The least scale of noise with which a release of this L2 sensitivity is (epsilon, delta)-private.

    Raises:
        UsageError: epsilon is too small or too large for any scale that makes sense.
    """
    import opendp.prelude as dp

    bounds = (_LEAST_RATIO * sensitivity, _MOST_RATIO * sensitivity)
    if (
        not _epsilon(_gaussian(bounds[1]), sensitivity, delta)
        < epsilon
        < _epsilon(_gaussian(bounds[0]), sensitivity, delta)
    ):
        raise UsageError(f"epsilon={epsilon:g} with delta={delta:g} is out of range: no scale of noise reaches it")
    return float(
        dp.binary_search_param(
            lambda scale: dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(_gaussian(scale)), delta),
            d_in=float(sensitivity),
            d_out=(float(epsilon), float(delta)),
            bounds=bounds,
        )
    )


def concentrated_loss(scale: float, sensitivity: float) -> float:
    """rho of one release, by OpenDP."""
    return float(_gaussian(scale).map(float(sensitivity)))


def composed_epsilon(releases: Sequence[tuple[float, float]], delta: float) -> float:
    """epsilon at ``delta`` of all ``(scale, sensitivity)`` together, by OpenDP's composition; 0 without any."""
    import opendp.prelude as dp

    if not releases:
        return 0.0
    # One input metric for all: a release of another sensitivity is one of sensitivity 1 with its noise divided by it.
    parts = [_gaussian(scale / sensitivity) for scale, sensitivity in releases]
    return _epsilon(dp.c.make_composition(parts), 1.0, delta)


def _epsilon(measurement: Any, sensitivity: float, delta: float) -> float:
    import opendp.prelude as dp

    return float(dp.c.make_zCDP_to_approxDP(measurement).map(float(sensitivity)).epsilon(delta))


def _gaussian(scale: float) -> Any:
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    return dp.m.make_gaussian(*space, scale=float(scale))
