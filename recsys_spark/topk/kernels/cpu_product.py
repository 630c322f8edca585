"""Choose the matrix product for the CPU of this machine."""

import os
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from recsys_spark.topk.kernels.compilation import loops_for
from recsys_spark.topk.kernels.shortlist import NUMPY, TileProduct
from recsys_spark.topk.kernels.tiles import BF16_TILES, Tiles

_FLAGS = {"avx512_bf16", "amx_bf16"}

_WITHOUT_BF16 = "SSE41 AVX AVX2 AVX2_VNNI AVX2_VNNI_2 AVX512_CORE AVX512_CORE_VNNI"

_WORTH_TORCH = 3e11  # floating-point operations that take as long as loading torch


@cache
def multiplies_bf16() -> bool:
    """Whether the CPU has instructions for bfloat16, whose products are at least twice as fast as those of float32.

    Reads /proc/cpuinfo instead of loading torch, because the driver calls this too, for its memory estimate. oneDNN,
    which multiplies, may be held to older instructions.
    """
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BF16.split():
        return False
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    return any(_FLAGS & set(line.split()) for line in lines if line.startswith("flags"))


def cpu_tiles() -> Tiles:
    """Tiles of a task on this CPU that has enough work for the fastest product."""
    if multiplies_bf16():
        return BF16_TILES
    return Tiles(NUMPY.rows, NUMPY.columns, 6, 0)


def cpu_product(flops: float, threads: int) -> TileProduct:
    """bfloat16 if the CPU has it and torch is loaded already or worth loading; otherwise float32 in NumPy.

    Compiled loops select from it if they are worth loading.
    """
    return replace(_product(flops, threads), loops=loops_for(flops), threads=threads)


def _product(flops: float, threads: int) -> TileProduct:
    if multiplies_bf16() and ("torch" in sys.modules or flops > _WORTH_TORCH):
        from recsys_spark.topk.kernels.bf16_product import bf16_product

        return bf16_product(threads)
    return NUMPY
