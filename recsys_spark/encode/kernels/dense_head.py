"""The dense head between pooling and the vector: dense layers, layer norms and scalings to unit length.

Files are those of sentence-transformers (``2_Dense/config.json``, ``2_Dense/model.safetensors``), read without torch.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from recsys_spark.arrays.vectors import Matrix, unit_rows
from recsys_spark.encode.kernels.modules import Module, read_json, read_modules, write_modules
from recsys_spark.encode.kernels.safetensors_files import read_tensors
from recsys_spark.errors import InputError, UsageError

_TRAINED = ("Dense", "LayerNorm")

_EPSILON = 1e-5  # of PyTorch's LayerNorm

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
        """(n, in) to (n, out), row by row: in a matrix product the last bits of a row depend on its position."""
        rows = [self.weight @ row for row in np.ascontiguousarray(vectors, np.float32)]
        return _ACTIVATIONS[self.activation](np.array(rows) + self.bias).astype(np.float32)


@dataclass(frozen=True)
class Unit:
    """Scaling of rows to length 1."""

    def apply(self, vectors: Matrix) -> Matrix:
        """(n, d) to (n, d)."""
        return unit_rows(vectors)


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer norm: each row to mean 0 and variance 1, then times ``weight`` (d,) plus ``bias`` (d,)."""

    weight: Matrix
    bias: Matrix

    def apply(self, vectors: Matrix) -> Matrix:
        """(n, d) to (n, d)."""
        centred = vectors - vectors.mean(1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + _EPSILON)
        return (scaled * self.weight + self.bias).astype(np.float32)


Layer = Dense | Unit | Norm


def apply_head(layers: Sequence[Layer], vectors: Matrix) -> Matrix:
    """Apply all layers to (n, d) pooled vectors. The bits of a row depend only on that row."""
    for layer in layers:
        vectors = layer.apply(vectors)
    return vectors


def read_head(root: Path) -> list[Layer]:
    """Layers that modules.json lists after pooling; empty if none of them is trained.

    Raises:
        UsageError: a module is not supported, or its weights are not in safetensors.
        InputError: a file is missing or broken.
    """
    layers: list[Layer] = []
    for module in read_modules(root):
        if module.kind == "Dense":
            layers.append(_read_dense(root / module.path))
        elif module.kind == "LayerNorm":
            layers.append(Norm(*_weights(root / module.path, ["norm.weight", "norm.bias"])))
        elif module.kind == "Normalize":
            layers.append(Unit())
    return layers if any(not isinstance(layer, Unit) for layer in layers) else []


def check_widths(root: Path, layers: Sequence[Layer], width: int) -> int:
    """Width of a vector after all layers, given its ``width`` before them.

    Raises:
        UsageError: a layer expects another input width than the layer before it gives.
    """
    for layer in layers:
        if isinstance(layer, Unit):
            continue
        expected = layer.weight.shape[-1]
        if expected != width:
            raise UsageError(
                f"model folder {root}: a {type(layer).__name__} layer expects vectors of {expected} dimensions, "
                f"not {width}"
            )
        width = len(layer.weight)
    return width


def write_head(root: Path, layers: Sequence[Layer]) -> None:
    """Write modules.json for transformer, pooling and these layers, and the layers' folders as numbered by
    sentence-transformers."""
    modules = [Module("Transformer", ""), Module("Pooling", "1_Pooling")]
    names = {"Unit": "Normalize", "Norm": "LayerNorm"}
    for number, layer in enumerate(layers, 2):
        kind = names.get(type(layer).__name__, type(layer).__name__)
        modules.append(Module(kind, f"{number}_{kind}"))
        folder = root / modules[-1].path
        folder.mkdir(parents=True)
        if isinstance(layer, Dense):
            _write_dense(folder, layer)
        elif isinstance(layer, Norm):
            save_file({"norm.weight": layer.weight, "norm.bias": layer.bias}, folder / "model.safetensors")
            (folder / "config.json").write_text(json.dumps({"dimension": len(layer.weight)}), encoding="utf-8")
    write_modules(root, modules)


def head_digest(root: Path) -> bytes:
    """sha256 over kinds and files of all layers; empty if none of them is trained."""
    modules = [module for module in read_modules(root) if module.kind in (*_TRAINED, "Normalize")]
    if not any(module.kind in _TRAINED for module in modules):
        return b""
    total = hashlib.sha256()
    for module in modules:
        total.update(module.kind.encode())
        for name in ("config.json", "model.safetensors"):
            path = root / module.path / name
            if path.is_file():
                total.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.digest()


def _weights(folder: Path, names: list[str]) -> list[NDArray[np.float32]]:
    """Tensors of a layer by name; the file must hold exactly these."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise UsageError(f"model folder {folder}: needs model.safetensors; pickled weights are refused")
    tensors = read_tensors(path)
    if set(tensors) != set(names):
        raise UsageError(
            f"model file {path} holds the tensors {', '.join(sorted(tensors))}; expected: {', '.join(names)}"
        )
    return [tensors[name] for name in names]


def _read_dense(folder: Path) -> Dense:
    config: dict[str, Any] = read_json(folder / "config.json")
    if not config:
        raise InputError(f"model folder {folder}: the config.json of the dense layer is missing")
    for name, value in (("use_residual", False), ("module_input_name", "sentence_embedding")):
        if config.get(name, value) != value:
            raise UsageError(f"model folder {folder}: a dense layer with {name} {config[name]} is not supported")
    if config.get("module_output_name") not in (None, "sentence_embedding"):
        raise UsageError(f"model folder {folder}: module_output_name {config['module_output_name']} is not supported")
    has_bias = config.get("bias", True) is not False
    weight, *bias = _weights(folder, ["linear.weight", "linear.bias"] if has_bias else ["linear.weight"])
    path = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = path.rpartition(".")[2]
    if activation not in _ACTIVATIONS or not path.startswith("torch."):
        raise UsageError(f"model folder {folder}: activation '{path}' is not one of {', '.join(_ACTIVATIONS)} of torch")
    return Dense(weight, bias[0] if bias else np.zeros(len(weight), np.float32), activation)


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
