"""What a model folder says of itself: weights, pooling, prompts, length. Read without torch, on the driver."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recsys_spark.errors import InputError, UsageError
from recsys_spark.kernels.head import head_digest, read_head

POOLINGS = ("mean", "cls", "last_token", "weighted_mean")
_POOLING_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last_token",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
}
_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")
_WEIGHTS = ("*.safetensors", "model.onnx", "openvino.*")
_ITEM_PROMPTS, _USER_PROMPTS = ("passage", "document"), ("query",)


@dataclass(frozen=True)
class ModelSpec:
    """An encoder, completely: whoever holds it can encode, and ``fingerprint`` names the vectors it makes."""

    folder: str
    weights: str  # digest of the folder with the weights
    files: str  # digest of ``folder``, which holds an engine's file instead where the model was converted
    pooling: str = "mean"
    max_length: int = 512
    prompt: str = ""  # put before every text of an item
    user_prompt: str = ""  # put before every text of a user
    role: str = "item"
    dimension: int | None = None  # the first numbers of a vector that are kept
    long_text: str = "truncate"
    precision: str = "fp32"
    engine: str = "torch"

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that changes a vector, and nothing else: the same folder elsewhere is the
        same model. Roles with different prompts add ``.passage`` and ``.query``: one space, two ways into it."""
        usual = {"user_prompt": self.prompt, "dimension": None, "long_text": "truncate", "precision": "fp32"}
        where = {"folder", "engine", "role"} | ({"files"} if self.precision != "int8" else set())
        facts = {k: v for k, v in asdict(self).items() if k not in where and not (k in usual and v == usual[k])}
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        if self.user_prompt == self.prompt:
            return name
        return f"{name}.query" if self.role == "user" else f"{name}.passage"

    @property
    def model_key(self) -> tuple[str, ...]:
        """What has to be loaded anew when it differs."""
        return (self.files, self.precision, self.engine)

    @property
    def of_users(self) -> "ModelSpec":
        """The same model for texts of users."""
        return replace(self, role="user")

    @property
    def role_prompt(self) -> str:
        """What is put before a text."""
        return self.user_prompt if self.role == "user" else self.prompt


def of_users(fingerprint: str) -> str:
    """The fingerprint under which the texts of users stand, for that of the items."""
    return fingerprint.replace(".passage", ".query")


def read_model(
    folder: str,
    pooling: str | None = None,
    max_length: int | None = None,
    prompt: str | None = None,
    user_prompt: str | None = None,
    **options: Any,
) -> ModelSpec:
    """Understand a folder written by transformers or sentence-transformers.

    Arguments that are not None override what the folder says; a folder that says nothing pools by mean and has no
    prompts. ``options`` are further fields of ``ModelSpec``.

    Raises:
        InputError: the folder or its config.json is missing.
        UsageError: there are no safetensors weights (pickles are never read), the model wants to run code of its own,
            or the pooling is not supported.
    """
    root = Path(folder)
    check_model(root)
    read_head(root)  # refuses what is not supported
    chosen = pooling or _pooling_of(root) or "mean"
    if chosen not in POOLINGS:
        raise UsageError(f"model folder {folder}: pooling '{chosen}' is not one of {', '.join(POOLINGS)}")
    named = _json(root / "config_sentence_transformers.json").get("prompts") or {}
    weights = digest(root)
    return ModelSpec(
        str(root),
        weights,
        weights,
        chosen,
        max_length or max_length_of(root),
        _prompt(named, _ITEM_PROMPTS) if prompt is None else prompt,
        _prompt(named, _USER_PROMPTS) if user_prompt is None else user_prompt,
        **options,
    )


def check_model(root: Path) -> None:
    """Refuse what could run code, before anything is loaded."""
    if not (root / "config.json").is_file():
        raise InputError(f"model folder {root}: no config.json there; give a folder saved by transformers")
    if not list(root.glob("*.safetensors")):
        pickles = ", ".join(p.name for ending in ("*.bin", "*.pt", "*.pkl") for p in root.glob(ending)) or "no weights"
        raise UsageError(
            f"model folder {root}: needs *.safetensors, found {pickles}; pickled weights can run code and are refused"
        )
    for name in ("config.json", "tokenizer_config.json"):
        if _json(root / name).get("auto_map"):
            raise UsageError(
                f"model folder {root}: {name} asks to run code that comes with the model (auto_map), which is refused; "
                "use a model whose architecture transformers knows"
            )


def digest(root: Path) -> str:
    """sha256 over the files that make the vectors."""
    total = hashlib.sha256()
    weights = [path for ending in _WEIGHTS for path in sorted(root.glob(ending))]
    for path in [*weights, *(root / name for name in _FILES if (root / name).is_file())]:
        with path.open("rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    total.update(head_digest(root))
    return total.hexdigest()


def _prompt(named: Mapping[str, str], roles: tuple[str, ...]) -> str:
    return next((named[role] for role in roles if named.get(role)), "")


def _pooling_of(root: Path) -> str | None:
    found = _json(root / "1_Pooling" / "config.json")
    if isinstance(found.get("pooling_mode"), str):  # as newer releases write it
        return str(found["pooling_mode"]).replace("lasttoken", "last_token").replace("weightedmean", "weighted_mean")
    named = [name for mode, name in _POOLING_MODES.items() if found.get(mode)]
    known = sum(bool(value) for key, value in found.items() if key.startswith("pooling_mode"))
    if known > len(named) or len(named) > 1:
        raise UsageError(f"model folder {root}: its 1_Pooling asks for a pooling that is not supported; set --pooling")
    return named[0] if named else None


def max_length_of(root: Path) -> int:
    """Longest text in tokens: what sentence-transformers files say, else the model's positions, 512 at most."""
    asked = _json(root / "sentence_bert_config.json").get("max_seq_length")
    config = _json(root / "config.json")
    positions = config.get("max_position_embeddings") or config.get("n_positions")  # the latter: GPT-2
    return int(asked or min(int(positions or 512), 512))


def _json(path: Path, absent: Any = None) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {} if absent is None else absent
    except ValueError as error:
        raise InputError(f"model file {path} is not JSON: {error}") from error
