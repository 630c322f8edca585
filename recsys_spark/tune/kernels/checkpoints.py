"""Checkpoints of a training: tensors as safetensors, the rest as JSON; nothing in them is code. Imports torch."""

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

KEPT = 2
"""Checkpoints that stay: where the newest is damaged there is one before it."""

State = tuple[dict[str, torch.Tensor], dict[str, Any]]
"""Tensors by name, and everything else as JSON can say it."""


class Checkpoints:
    """The checkpoints below one folder. ``facts`` name the run: those of another one are not continued."""

    def __init__(self, folder: Path, facts: str) -> None:
        self._folder, self._facts = folder, facts

    def save(self, step: int, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Whole or not at all: a kill at any moment leaves the ones before as they were."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft, target = self._folder / ".draft", self._folder / f"{step:09d}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, draft / "tensors")
        about = {"facts": self._facts, "step": step, "sha256": _digest(draft / "tensors"), "values": values}
        (draft / "values.json").write_text(json.dumps(about), encoding="utf-8")
        for path in draft.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        for old in self._found()[KEPT:]:
            shutil.rmtree(old)

    def load(self) -> State | None:
        """The newest one that is whole; None where there is none.

        Raises:
            UsageError: the checkpoints are of a run with other data or settings, or hold a pickle.
        """
        if self._folder.is_dir() and (
            pickles := [p for e in ("pt", "bin", "pkl") for p in self._folder.rglob(f"*.{e}")]
        ):
            raise UsageError(f"checkpoint {pickles[0]} is a pickle, which can run code; checkpoints are safetensors")
        for folder in self._found():
            if (state := self._read(folder)) is not None:
                return state
        return None

    def _found(self) -> list[Path]:
        return sorted((p for p in self._folder.glob("[0-9]*") if p.is_dir()), reverse=True)

    def _read(self, folder: Path) -> State | None:
        try:
            about = json.loads((folder / "values.json").read_text(encoding="utf-8"))
            if about["sha256"] != _digest(folder / "tensors"):
                return None
            tensors, values = load_file(folder / "tensors"), about["values"]
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None
        if about.get("facts") != self._facts:
            raise UsageError(
                f"{self._folder} holds checkpoints of a training with other data or settings: remove it, or "
                "give another --output"
            )
        return tensors, values


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
