"""Random numbers that are hashes of ids and a seed: the same for any partitions."""

import math

from pyspark.sql import Column
from pyspark.sql import functions as F

_BITS = 52


def uniform(*parts: Column | str | int) -> Column:
    """A number in [0, 1) for every row, by xxhash64 of ``parts``: columns, and strings or numbers as constants."""
    columns = [part if isinstance(part, Column) else F.lit(part) for part in parts]
    return F.pmod(F.xxhash64(*columns), F.lit(1 << _BITS)) / float(1 << _BITS)


def normal(*parts: Column | str | int) -> Column:
    """A standard normal number for every row (Box–Muller)."""
    radius = F.sqrt(-2.0 * F.log(1.0 - uniform(*parts, "radius")))
    return radius * F.cos(2.0 * math.pi * uniform(*parts, "angle"))


def pick(array: Column, draw: Column) -> Column:
    """An element of ``array`` by a number in [0, 1); null if the array is empty."""
    return F.try_element_at(array, (F.floor(draw * F.size(array)) + 1).cast("int"))
