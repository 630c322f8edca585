"""The modules of a model folder, as listed by modules.json of sentence-transformers, and their files.

Read without torch.
"""

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
    """One step from a text to its vector: the name of its class and its path below the model folder."""

    kind: str
    path: str


def read_modules(root: Path) -> list[Module]:
    """Modules in order: transformer, pooling, then the layers of the dense head. Empty without a modules.json.

    Raises:
        InputError: modules.json cannot be read.
        UsageError: a module is not supported, out of order, from outside sentence_transformers, or outside the folder.
    """
    listed = read_json(root / "modules.json", list)
    try:
        entries = [(str(entry["type"]), str(entry.get("path", ""))) for entry in listed]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"model file {root / 'modules.json'} lists no modules with a type and a path") from error
    for kind, path in entries:
        _check_module(root, kind, path)
    modules = [Module(kind.rpartition(".")[2], path) for kind, path in entries]
    kinds = [module.kind for module in modules]
    if kinds and (kinds[0] != "Transformer" or any(kind in _BEFORE_POOLING for kind in kinds[2:])):
        raise UsageError(
            f"model folder {root}: modules.json lists {', '.join(kinds)}; supported are one Transformer, one Pooling "
            f"and after them {', '.join(_AFTER_POOLING)}"
        )
    if kinds[1:] and kinds[1] != "Pooling":
        raise UsageError(f"model folder {root}: modules.json lists {kinds[1]} before a Pooling, which is not supported")
    return modules


def _check_module(root: Path, kind: str, path: str) -> None:
    name = kind.rpartition(".")[2]
    if not kind.startswith(_PACKAGE):
        raise UsageError(
            f"model folder {root}: modules.json names {kind}, code that comes with the model, which is refused"
        )
    if name not in _BEFORE_POOLING + _AFTER_POOLING:
        raise UsageError(f"model folder {root}: modules.json names {name}, which is not supported")
    if not (root / path).resolve().is_relative_to(root.resolve()):
        raise UsageError(f"model folder {root}: path '{path}' of {name} in modules.json leads out of the folder")


def transformer_folder(root: Path) -> Path:
    """The folder of weights, configuration and tokenizer: the root, or the path of the first module."""
    modules = read_modules(root)
    return root / modules[0].path if modules else root


def pooling_folder(root: Path) -> Path | None:
    """The folder of the pooling: ``1_Pooling`` without a modules.json, None if modules.json lists no Pooling."""
    modules = read_modules(root)
    if not modules:
        return root / "1_Pooling"
    return next((root / module.path for module in modules if module.kind == "Pooling"), None)


def module_files(root: Path) -> list[Path]:
    """All files of a model, including those in the module folders that modules.json lists."""
    modules = read_modules(root)
    folders = {root, transformer_folder(root), root / "1_Pooling", *(root / module.path for module in modules)}
    return sorted({path for folder in folders for ending in _FILES for path in folder.glob(ending) if path.is_file()})


def write_modules(root: Path, modules: Sequence[Module]) -> None:
    """Write modules.json in the form that sentence-transformers reads."""
    listed = [
        {"idx": index, "name": str(index), "path": module.path, "type": f"{_PACKAGE}models.{module.kind}"}
        for index, module in enumerate(modules)
    ]
    (root / "modules.json").write_text(json.dumps(listed, indent=2), encoding="utf-8")


def read_json(path: Path, kind: type = dict) -> Any:
    """Content of a JSON file: an object (``kind`` dict) or a list; empty if the file does not exist.

    Raises:
        InputError: the file is not JSON, or holds another type than ``kind``.
        UsageError: the file is a git-lfs pointer.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith("version https://git-lfs"):
            raise UsageError(f"model file {path} is a git-lfs pointer and has no content: run git lfs pull there")
        content = json.loads(text)
    except (FileNotFoundError, NotADirectoryError):
        return kind()
    except ValueError as error:
        raise InputError(f"model file {path} is not JSON: {error}") from error
    if not isinstance(content, kind):
        raise InputError(f"model file {path} holds no JSON {'object' if kind is dict else 'list'}")
    return content
