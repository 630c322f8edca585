"""What stands between pooling and the vector: dense layers and scalings to unit length, as sentence-transformers keeps
them (``2_Dense/config.json``, ``2_Dense/model.safetensors``). Read without torch."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys_spark.errors import InputError, UsageError
from recsys_spark.kernels.vectors import Matrix, unit_rows

_PACKAGE = "sentence_transformers.models"
_ACTIVATIONS: dict[str, Callable[[Matrix], Matrix]] = {
    "Identity": lambda x: x,
    "ReLU": lambda x: np.maximum(x, 0),
    "Tanh": np.tanh,
}
_PATHS = {"Identity": "torch.nn.modules.linear.Identity"}


@dataclass(frozen=True, eq=False)
class Dense:
    """``activation(weight · x + bias)``; ``weight`` is (out, in), ``bias`` (out,)."""

    weight: Matrix
    bias: Matrix
    activation: str = "Identity"

    def apply(self, vectors: Matrix) -> Matrix:
        """(n, in) to (n, out). Row by row: in the product of a matrix a row's last bits depend on its place."""
        rows = [self.weight @ row for row in np.ascontiguousarray(vectors, np.float32)]
        return _ACTIVATIONS[self.activation](np.array(rows) + self.bias).astype(np.float32)


@dataclass(frozen=True)
class Unit:
    """Scales rows to length 1."""

    def apply(self, vectors: Matrix) -> Matrix:
        """(n, d) to (n, d)."""
        return unit_rows(vectors)


Layer = Dense | Unit


def apply_head(layers: Sequence[Layer], vectors: Matrix) -> Matrix:
    """(n, d) pooled vectors through all layers. A row's bits depend on that row alone. No layers: as it is."""
    for layer in layers:
        vectors = layer.apply(vectors)
    return vectors


def read_head(root: Path) -> list[Layer]:
    """The layers that modules.json of a folder names after pooling; none where there is no dense one.

    Raises:
        UsageError: a module does something else, or its weights are no safetensors.
        InputError: a file is missing or broken.
    """
    layers: list[Layer] = []
    for kind, path in _modules(root):
        if kind == "Dense":
            layers.append(_read_dense(root / path))
        elif kind == "Normalize":
            layers.append(Unit())
        elif kind not in ("Transformer", "Pooling"):
            raise UsageError(f"model folder {root}: modules.json asks for {kind}, which is not supported")
    return layers if any(isinstance(layer, Dense) for layer in layers) else []


def write_head(root: Path, layers: Sequence[Layer]) -> None:
    """modules.json for transformer, pooling and these layers, and their folders, numbered as sentence-transformers
    does."""
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    for number, layer in enumerate(layers, 2):
        kind = type(layer).__name__.replace("Unit", "Normalize")
        modules.append((kind, f"{number}_{kind}"))
        (root / modules[-1][1]).mkdir(parents=True)
        if isinstance(layer, Dense):
            _write_dense(root / modules[-1][1], layer)
    named = [
        {"idx": number, "name": str(number), "path": path, "type": f"{_PACKAGE}.{kind}"}
        for number, (kind, path) in enumerate(modules)
    ]
    (root / "modules.json").write_text(json.dumps(named, indent=2), encoding="utf-8")


def head_digest(root: Path) -> bytes:
    """Over everything in the layers; empty without a dense one."""
    modules = [(kind, root / path) for kind, path in _modules(root) if kind in ("Dense", "Normalize")]
    if not any(kind == "Dense" for kind, _ in modules):
        return b""
    total = hashlib.sha256()
    for kind, folder in modules:
        total.update(kind.encode())
        for name in ("config.json", "model.safetensors"):
            if (folder / name).is_file():
                total.update(name.encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return total.digest()


def _modules(root: Path) -> list[tuple[str, str]]:
    path = root / "modules.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return [(str(one["type"]).rpartition(".")[2], str(one.get("path", ""))) for one in listed]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model file {path} is not JSON: {error}") from error


def _read_dense(folder: Path) -> Dense:
    if not (folder / "model.safetensors").is_file():
        raise UsageError(f"model folder {folder}: needs model.safetensors; pickled weights are refused")
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        weight: NDArray[np.float32] = weights["linear.weight"].astype(np.float32)
        bias = weights.get("linear.bias", np.zeros(len(weight))).astype(np.float32)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"model folder {folder}: broken dense layer: {error}") from error
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise UsageError(f"model folder {folder}: activation '{activation}' is not one of {', '.join(_ACTIVATIONS)}")
    return Dense(weight, bias, activation)


def _write_dense(folder: Path, layer: Dense) -> None:
    weight, bias = np.ascontiguousarray(layer.weight), np.ascontiguousarray(layer.bias)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "model.safetensors")
    config = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": True,
        "activation_function": _PATHS.get(layer.activation, f"torch.nn.modules.activation.{layer.activation}"),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
