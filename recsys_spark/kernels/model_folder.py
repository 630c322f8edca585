"""What a model folder says of itself: weights, pooling, length. Read without torch, on the driver and on executors."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recsys_spark.errors import InputError, UsageError

POOLINGS = ("mean", "cls", "last_token")
_POOLING_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last_token",
}


@dataclass(frozen=True)
class ModelSpec:
    """An encoder, completely: whoever holds it can encode, and ``fingerprint`` names the vectors it makes."""

    folder: str
    pooling: str
    max_length: int
    prompt: str
    weights: str  # sha256 over weights, configuration and tokenizer files

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything that changes a vector, and nothing else: the same folder elsewhere is the
        same model."""
        facts = {key: value for key, value in asdict(self).items() if key != "folder"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_model(folder: str, pooling: str | None = None, max_length: int | None = None, prompt: str = "") -> ModelSpec:
    """Understand a folder written by transformers or sentence-transformers.

    ``pooling`` and ``max_length`` override what the folder says; a folder that says nothing pools by mean.

    Raises:
        InputError: the folder or its config.json is missing.
        UsageError: there are no safetensors weights (pickles are never read), or the pooling is not supported.
    """
    root = Path(folder)
    if not (root / "config.json").is_file():
        raise InputError(f"model folder {folder}: no config.json there; give a folder saved by transformers")
    if not list(root.glob("*.safetensors")):
        pickles = ", ".join(p.name for ending in ("*.bin", "*.pt", "*.pkl") for p in root.glob(ending)) or "no weights"
        raise UsageError(
            f"model folder {folder}: needs *.safetensors, found {pickles}; pickled weights can run code and are refused"
        )
    chosen = pooling or _pooling_of(root) or "mean"
    if chosen not in POOLINGS:
        raise UsageError(f"model folder {folder}: pooling '{chosen}' is not one of {', '.join(POOLINGS)}")
    return ModelSpec(str(root), chosen, max_length or _max_length_of(root), prompt, _digest(root))


def _pooling_of(root: Path) -> str | None:
    found = _json(root / "1_Pooling" / "config.json")
    named = [name for mode, name in _POOLING_MODES.items() if found.get(mode)]
    known = sum(bool(value) for key, value in found.items() if key.startswith("pooling_mode"))
    if known > len(named) or len(named) > 1:
        raise UsageError(f"model folder {root}: its 1_Pooling asks for a pooling that is not supported; set --pooling")
    return named[0] if named else None


def _max_length_of(root: Path) -> int:
    asked = _json(root / "sentence_bert_config.json").get("max_seq_length")
    config = _json(root / "config.json")
    positions = config.get("max_position_embeddings") or config.get("n_positions")  # the latter: GPT-2
    return int(asked or min(int(positions or 512), 512))


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")
    for path in [*sorted(root.glob("*.safetensors")), *(root / name for name in names if (root / name).is_file())]:
        with path.open("rb") as stream:
            total.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"model file {path} is not JSON: {error}") from error
