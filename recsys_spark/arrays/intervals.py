"""Intervals of means."""

_NORMAL_95 = 1.96
"""The 97.5 % quantile of the standard normal distribution."""


def half_width(standard_error: float) -> float:
    """Half of the 95 % interval of a mean by the normal approximation."""
    return float(_NORMAL_95 * standard_error)
