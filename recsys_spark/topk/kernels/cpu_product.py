"""What the processor of this machine can do, and what multiplies on it."""

import sys
from functools import cache
from pathlib import Path

from recsys_spark.topk.kernels.shortlist import NUMPY, TileProduct
from recsys_spark.topk.kernels.tiles import BF16_TILES, Tiles

_FLAGS = {"avx512_bf16", "amx_bf16"}

_WORTH_TORCH = 3e11  # operations that take as long as loading torch


@cache
def multiplies_bf16() -> bool:
    """Whether products of numbers with 8 bits are twice as fast as those of float32, or faster. Without torch: the
    driver asks too, for its estimate of memory."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(_FLAGS & set(line.split()) for line in lines if line.startswith("flags"))


def cpu_tiles() -> Tiles:
    """Of a task on this CPU, where there is work enough to choose the fastest products."""
    if multiplies_bf16():
        return BF16_TILES
    return Tiles(NUMPY.rows, NUMPY.columns, 6, 0)


def cpu_product(flops: float, threads: int) -> TileProduct:
    """In bfloat16 where the processor is made for it and there is work enough to load torch for, or it is there."""
    if multiplies_bf16() and ("torch" in sys.modules or flops > _WORTH_TORCH):
        from recsys_spark.topk.kernels.bf16_product import bf16_product

        return bf16_product(threads)
    return NUMPY
