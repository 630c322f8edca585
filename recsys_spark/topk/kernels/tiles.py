"""Tile sizes of the matrix products of a task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tiles:
    """Tiles of ``rows`` queries and ``columns`` items, with ``bytes_each`` a pair, and the memory of the library."""

    rows: int
    columns: int
    bytes_each: int
    library_bytes: int


BF16_TILES = Tiles(4096, 1024, 12, 180_000_000)  # torch
