"""Experiment tracking of a training: TensorBoard, MLflow or Weights & Biases. Imports torch for TensorBoard."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recsys_spark.errors import UsageError

Reporter = Callable[[dict[str, float]], None]

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
"""Package by tracker; the extras of setup.py are named like the trackers."""


def check_tracker(kind: str) -> None:
    """Fail before training if the tracker is not installed.

    Raises:
        UsageError: naming the package and the extra to install.
    """
    if kind != "none" and find_spec(PACKAGES[kind]) is None:
        raise UsageError(f"tracker '{kind}' needs the package {PACKAGES[kind]} (extra '{kind}' of setup.py)")


@contextmanager
def tracked(kind: str, folder: Path, name: str, settings: Mapping[str, Any]) -> Iterator[Reporter]:
    """A function that sends training records to the tracker ``kind``; ``name`` is the run.

    The tracker writes its files to ``folder``. MLflow writes to SQLite there, unless MLFLOW_TRACKING_URI names another
    store. Weights & Biases is offline, unless WANDB_MODE sets another mode.
    """
    if kind == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / "tensorboard" / name)) as writer:
            yield partial(_to_tensorboard, writer)
    elif kind == "mlflow":
        import mlflow

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            folder.mkdir(parents=True, exist_ok=True)
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        mlflow.set_experiment("fine_tune_encoder")
        with mlflow.start_run(run_name=name):
            mlflow.log_params({key: str(value)[:500] for key, value in settings.items()})
            yield lambda record: mlflow.log_metrics(
                {_mlflow_name(k): v for k, v in _numbers(record)}, int(record["step"])
            )
    elif kind == "wandb":
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        folder.mkdir(parents=True, exist_ok=True)
        with wandb.init(project="fine_tune_encoder", name=name, dir=folder, config=dict(settings), mode=mode) as run:
            yield lambda record: run.log(record)
    else:
        yield lambda record: None


def _numbers(record: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(key, value) for key, value in record.items() if key != "step" and math.isfinite(value)]


def _to_tensorboard(writer: Any, record: Mapping[str, float]) -> None:
    for name, value in _numbers(record):
        writer.add_scalar(name, value, int(record["step"]))


def _mlflow_name(name: str) -> str:
    return name.replace("@", "_at_")
