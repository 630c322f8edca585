"""Training checkpoints: tensors as safetensors, other values as JSON, never executable code. Imports torch."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys_spark.errors import UsageError

MAX_CHECKPOINTS = 2
"""The newest checkpoint and the one before it, a fallback if the newest is damaged."""

State = tuple[dict[str, torch.Tensor], dict[str, Any]]
"""Tensors by name, and all other values, JSON-serialisable."""


class Checkpoints:
    """The checkpoints of one training run in a folder; ``run_id`` names the run, and only that run may resume them."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self.folder, self.run_id = folder, run_id

    def save(self, step: int, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Write a checkpoint atomically: a kill at any moment leaves the earlier ones intact."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft, target = self.folder / ".draft", self.folder / f"{step:09d}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, draft / "tensors")
        content = {"facts": self.run_id, "step": step, "sha256": _digest(draft / "tensors"), "values": values}
        (draft / "values.json").write_text(json.dumps(content), encoding="utf-8")
        for path in draft.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        for old in self._newest_first()[MAX_CHECKPOINTS:]:
            shutil.rmtree(old)

    def load(self) -> State | None:
        """The newest undamaged checkpoint; None if there is none.

        Raises:
            UsageError: the checkpoints belong to a run with other data or settings, or the folder holds a pickle.
        """
        if self.folder.is_dir() and (pickles := [p for e in ("pt", "bin", "pkl") for p in self.folder.rglob(f"*.{e}")]):
            raise UsageError(f"checkpoint {pickles[0]} is a pickle, which can run code; checkpoints are safetensors")
        for folder in self._newest_first():
            if (state := self._read(folder)) is not None:
                return state
        return None

    def _newest_first(self) -> list[Path]:
        return sorted((p for p in self.folder.glob("[0-9]*") if p.is_dir()), reverse=True)

    def _read(self, folder: Path) -> State | None:
        try:
            content = json.loads((folder / "values.json").read_text(encoding="utf-8"))
            if content["sha256"] != _digest(folder / "tensors"):
                return None
            tensors, values = load_file(folder / "tensors"), content["values"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None
        if content.get("facts") != self.run_id:
            raise UsageError(
                f"{self.folder} holds checkpoints of a training with other data or settings: remove it, or "
                "give another --output"
            )
        return tensors, values


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
