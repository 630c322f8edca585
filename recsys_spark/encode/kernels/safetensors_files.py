"""Read safetensors files without torch: check that a file is complete, and convert its tensors to fp32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize

from recsys_spark.errors import InputError, UsageError

_TYPES: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16}

_POINTER = b"version https://git-lfs"

_LARGEST_HEADER = 100_000_000


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a file in fp32. bf16 is the upper half of fp32, so its conversion is exact.

    Raises:
        InputError: the file is broken.
        UsageError: a tensor has another type than fp64, fp32, fp16 or bf16.
    """
    check_file(path)
    try:
        return {name: _numbers(path, name, tensor) for name, tensor in deserialize(path.read_bytes())}
    except (SafetensorError, ValueError) as error:
        raise InputError(f"model file {path} is broken: {error}") from error


def _numbers(path: Path, name: str, tensor: dict[str, Any]) -> NDArray[np.float32]:
    kind, data = tensor["dtype"], tensor["data"]
    if kind == "BF16":
        numbers = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif kind in _TYPES:
        numbers = np.frombuffer(data, _TYPES[kind]).astype(np.float32)
    else:
        raise UsageError(f"model file {path}: {name} has type {kind}; supported are BF16, {', '.join(_TYPES)}")
    return numbers.reshape(tensor["shape"])


def check_file(path: Path) -> None:
    """Refuse a file that is not a complete safetensors file; read only its header and its size.

    Raises:
        UsageError: the file is a git-lfs pointer, has no safetensors header, or its size differs from the header.
    """
    with path.open("rb") as stream:
        start = stream.read(8)
        size = int.from_bytes(start, "little")
        if start == _POINTER[:8]:
            raise UsageError(f"model file {path} is a git-lfs pointer and holds no weights: run git lfs pull there")
        header = stream.read(size) if size <= _LARGEST_HEADER else b""
    try:
        tensors = json.loads(header)
        end = max((entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(
            f"model file {path} is broken: it does not begin with a safetensors header; download it again"
        ) from error
    if path.stat().st_size != 8 + size + end:
        raise UsageError(
            f"model file {path} is broken: it has {path.stat().st_size} bytes, its header says {8 + size + end}; "
            "download it again"
        )
