"""The modules of a model folder, as modules.json of sentence-transformers lists them, and the files that they read.
Read without torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_spark.errors import InputError, UsageError

_PACKAGE = "sentence_transformers."

_BEFORE_POOLING = ("Transformer", "Pooling")

_AFTER_POOLING = ("Dense", "Normalize", "LayerNorm", "Dropout")

_FILES = ("*.safetensors", "*.safetensors.index.json", "*.onnx", "openvino.*", "*.json", "*.txt", "*.model")


@dataclass(frozen=True)
class Module:
    """One step from a text to its vector: the name of its class and its folder below the model folder."""

    kind: str
    path: str


def read_modules(root: Path) -> list[Module]:
    """The modules in their order: transformer, pooling, then what works on vectors. None without a modules.json.

    Raises:
        InputError: modules.json cannot be read.
        UsageError: a module is not known, is out of order, runs code of its own, or lies outside of the folder.
    """
    listed = read_json(root / "modules.json", list)
    try:
        modules = [(str(one["type"]), str(one.get("path", ""))) for one in listed]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model file {root / 'modules.json'} lists no modules with a type and a path") from error
    for kind, path in modules:
        _check_module(root, kind, path)
    found = [Module(kind.rpartition(".")[2], path) for kind, path in modules]
    kinds = [module.kind for module in found]
    if kinds and (kinds[0] != "Transformer" or any(kind in _BEFORE_POOLING for kind in kinds[2:])):
        raise UsageError(
            f"model folder {root}: modules.json lists {', '.join(kinds)}; supported are one Transformer, one Pooling "
            f"and after them {', '.join(_AFTER_POOLING)}"
        )
    if kinds[1:] and kinds[1] != "Pooling":
        raise UsageError(f"model folder {root}: modules.json lists {kinds[1]} before a Pooling, which is not supported")
    return found


def _check_module(root: Path, kind: str, path: str) -> None:
    name = kind.rpartition(".")[2]
    if not kind.startswith(_PACKAGE):
        raise UsageError(
            f"model folder {root}: modules.json asks for {kind}, code that comes with the model, which is refused"
        )
    if name not in _BEFORE_POOLING + _AFTER_POOLING:
        raise UsageError(f"model folder {root}: modules.json asks for {name}, which is not supported")
    if not (root / path).resolve().is_relative_to(root.resolve()):
        raise UsageError(f"model folder {root}: path '{path}' of {name} in modules.json leads out of the folder")


def transformer_folder(root: Path) -> Path:
    """Where weights, configuration and tokenizer lie: the folder itself, or that of the first module."""
    modules = read_modules(root)
    return root / modules[0].path if modules else root


def pooling_folder(root: Path) -> Path | None:
    """Where the pooling is configured; ``1_Pooling`` without a modules.json, None where that lists no pooling."""
    modules = read_modules(root)
    if not modules:
        return root / "1_Pooling"
    return next((root / module.path for module in modules if module.kind == "Pooling"), None)


def module_files(root: Path) -> list[Path]:
    """All files that a model is read from, wherever modules.json puts them."""
    folders = {root, transformer_folder(root), root / "1_Pooling", *(root / one.path for one in read_modules(root))}
    return sorted({path for folder in folders for ending in _FILES for path in folder.glob(ending) if path.is_file()})


def write_modules(root: Path, modules: Sequence[Module]) -> None:
    """modules.json, as sentence-transformers reads it."""
    listed = [
        {"idx": place, "name": str(place), "path": one.path, "type": f"{_PACKAGE}models.{one.kind}"}
        for place, one in enumerate(modules)
    ]
    (root / "modules.json").write_text(json.dumps(listed, indent=2), encoding="utf-8")


def read_json(path: Path, kind: type = dict) -> Any:
    """The content of a JSON file, an object or a list as ``kind`` says; empty where there is no file.

    Raises:
        InputError: the file is not JSON, or something else than ``kind``.
        UsageError: it is a pointer of git-lfs.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("version https://git-lfs"):
            raise UsageError(f"model file {path} is a pointer of git-lfs and has no content: run git lfs pull there")
        found = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return kind()
    except ValueError as error:
        raise InputError(f"model file {path} is not JSON: {error}") from error
    if not isinstance(found, kind):
        raise InputError(f"model file {path} holds no JSON {'object' if kind is dict else 'list'}")
    return found
