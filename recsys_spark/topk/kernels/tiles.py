"""Sizes of the tiles in which a processor multiplies best."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tiles:
    """What the products of a task take of its memory: tiles of so many queries and items, and the library."""

    rows: int
    columns: int
    bytes_each: int
    library_bytes: int


BF16_TILES = Tiles(4096, 1024, 12, 180_000_000)  # torch
