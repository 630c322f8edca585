"""Read and check a model folder: weights, pooling, prompts, maximum length. Without torch, on the driver."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recsys_spark.encode.kernels.dense_head import head_digest, read_head
from recsys_spark.encode.kernels.folder_settings import (
    POOLINGS,
    max_length_of,
    read_pooling,
    read_prompts,
    sentence_settings,
)
from recsys_spark.encode.kernels.modules import pooling_folder, read_json, transformer_folder
from recsys_spark.encode.kernels.safetensors_files import check_file
from recsys_spark.errors import InputError, UsageError

_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")

_TOKENIZER_PARTS = (
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.model", "bpe.codes",
)  # fmt: skip
"""Files that a tokenizer is built from, besides those above, if there is no tokenizer.json."""

_WEIGHTS = ("*.safetensors", "model.onnx", "openvino.*")


@dataclass(frozen=True)
class ModelSpec:
    """A complete description of an encoder. ``fingerprint`` identifies its vectors."""

    folder: str
    weights: str  # digest of the folder with the weights
    files: str  # digest of ``folder``: the same, or that of the engine's files if the model was converted
    pooling: str = "mean"
    max_length: int = 512
    prompt: str = ""  # put before every text of an item
    user_prompt: str = ""  # put before every text of a user
    role: str = "item"
    dimension: int | None = None  # number of leading dimensions of a vector that are kept; None: all
    long_text: str = "truncate"
    precision: str = "fp32"
    engine: str = "torch"
    include_prompt: bool = True  # whether the tokens of the prompt are pooled
    lower_case: bool = False  # whether texts are lowercased before the tokenizer

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that changes a vector, and nothing else: a copy of the folder is the same
        model. If items and users have different prompts, ``.passage`` or ``.query`` is added: the vectors share one
        space, but a text has two."""
        defaults: dict[str, Any] = {
            "user_prompt": self.prompt,
            "dimension": None,
            "long_text": "truncate",
            "precision": "fp32",
        }
        defaults |= {"include_prompt": True, "lower_case": False}  # omitted, so that older fingerprints stay valid
        ignored = {"folder", "engine", "role"} | ({"files"} if self.precision != "int8" else set())
        settings = {
            k: v for k, v in asdict(self).items() if k not in ignored and not (k in defaults and v == defaults[k])
        }
        name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        if self.user_prompt == self.prompt:
            return name
        return f"{name}.query" if self.role == "user" else f"{name}.passage"

    @property
    def model_key(self) -> tuple[str, ...]:
        """Key of a loaded model: specs with the same key can share it."""
        return (self.files, self.precision, self.engine)

    @property
    def for_users(self) -> "ModelSpec":
        """The same model for texts of users."""
        return replace(self, role="user")

    @property
    def role_prompt(self) -> str:
        """The prompt put before a text of this role."""
        return self.user_prompt if self.role == "user" else self.prompt

    def prepared(self, text: str) -> str:
        """The input of the tokenizer: prompt and text, in lower case if the model requires it."""
        whole = self.role_prompt + text
        return whole.lower() if self.lower_case else whole


def user_fingerprint(fingerprint: str) -> str:
    """The fingerprint of users' texts, given that of items' texts."""
    return fingerprint.replace(".passage", ".query")


def read_model(
    folder: str,
    pooling: str | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
    user_prompt: str | None = None,
    **options: Any,
) -> ModelSpec:
    """Read a folder written by transformers or sentence-transformers.

    Arguments that are not None override the folder's settings. Without any setting the pooling is the mean and prompts
    are empty. ``options`` are further fields of ``ModelSpec``.

    Raises:
        InputError: the folder or its config.json is missing, or a file is not JSON.
        UsageError: there are no complete safetensors weights (pickles are never read), the model comes with its own
            code or with an adapter, or a setting is not supported.
    """
    root = Path(folder)
    check_model(root)
    read_head(root)  # refuses unsupported layers
    setting, include_prompt = read_pooling(root) if pooling is None else (pooling, _include_prompt(root))
    chosen = setting or "mean"
    if unknown := [part for part in chosen.split("+") if part not in POOLINGS]:
        raise UsageError(f"model folder {folder}: pooling '{unknown[0]}' is not one of {', '.join(POOLINGS)}")
    item_prompt, query_prompt = read_prompts(root) if prompt is None or user_prompt is None else ("", "")
    prompts = item_prompt if prompt is None else prompt, query_prompt if user_prompt is None else user_prompt
    weights = digest(root)
    return ModelSpec(
        str(root),
        weights,
        weights,
        chosen,
        max_length_of(root, max_length),
        *prompts,
        include_prompt=include_prompt or not any(prompts),
        lower_case=bool(sentence_settings(root).get("do_lower_case")),
        **options,
    )


def _include_prompt(root: Path) -> bool:
    """Whether prompt tokens are pooled, for a folder whose pooling is overridden and may be unsupported."""
    folder = pooling_folder(root)
    return folder is None or read_json(folder / "config.json").get("include_prompt", True) is not False


def check_model(root: Path) -> None:
    """Refuse folders that could run code or are incomplete, before anything is loaded.

    Raises:
        InputError: config.json is missing or not JSON.
        UsageError: everything else.
    """
    inner = transformer_folder(root)
    if adapters := sorted(path.name for path in inner.glob("adapter_*") if path.is_file()):
        raise UsageError(
            f"model folder {inner}: an adapter lies beside the weights ({', '.join(adapters)}), and whether it is used "
            "depends on the installed packages: merge it into the weights (peft: merge_and_unload), or remove it"
        )
    if not (inner / "config.json").is_file():
        raise InputError(f"model folder {inner}: no config.json there; give a folder saved by transformers")
    for name in ("config.json", "tokenizer_config.json"):
        if read_json(inner / name).get("auto_map"):
            raise UsageError(
                f"model folder {inner}: {name} asks to run code that comes with the model (auto_map), which is "
                "refused; use a model whose architecture is part of transformers"
            )
    if not read_json(inner / "config.json").get("model_type"):
        raise UsageError(
            f"model folder {inner}: config.json has no model_type, so its architecture is unknown; save the model "
            "with transformers (save_pretrained)"
        )
    _check_weights(inner)


def _check_weights(inner: Path) -> None:
    """Refuse weights that are pickled, incomplete, or in files that transformers does not read."""
    files = sorted(path for path in inner.glob("*.safetensors") if path.is_file())
    if not files:
        pickles = ", ".join(p.name for ending in ("*.bin", "*.pt", "*.pkl") for p in inner.glob(ending)) or "no weights"
        raise UsageError(
            f"model folder {inner}: needs *.safetensors, found {pickles}; pickled weights can run code and are refused"
        )
    names, index = {path.name for path in files}, "model.safetensors.index.json"
    required = {"model.safetensors"}
    if "model.safetensors" not in names and (inner / index).is_file():
        shards = read_json(inner / index).get("weight_map", {})
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise UsageError(f"model file {inner / index}: weight_map names no file for each weight; download it again")
        required = set(shards.values()) or required
    if missing := sorted(required - names):
        raise UsageError(
            f"model folder {inner}: {', '.join(missing)} is missing, found {', '.join(sorted(names))}; download the "
            "whole model again"
        )
    for name in sorted(required):
        check_file(inner / name)


def digest(root: Path) -> str:
    """sha256 over the files that determine the vectors."""
    total, inner = hashlib.sha256(), transformer_folder(root)
    weights = [path for ending in _WEIGHTS for path in sorted(inner.glob(ending))]
    # A tokenizer.json contains the content of its parts: they must not give the same model another digest.
    parts = () if (inner / "tokenizer.json").is_file() else _TOKENIZER_PARTS
    for path in [*weights, *(inner / name for name in (*_FILES, *parts) if (inner / name).is_file())]:
        with path.open("rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    total.update(head_digest(root))
    return total.hexdigest()
