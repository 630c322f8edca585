"""Data-parallel training: each process takes its rows of every batch, gradients are summed. Imports torch."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, Task, train


def train_in_parallel(
    build_task: Any, arguments: tuple[Any, ...], plan: Plan, folder: str, run_id: str, device: str
) -> int:
    """The entry point of each process that TorchDistributor or torchrun starts; returns the number of steps.

    The first process writes the checkpoints to ``folder``, which all must see; a later ``train`` with them finds the
    training finished. Loss and gradients are those of one process with the same batches, except for dropout, which
    draws differently in each process.

    Args:
        build_task: ``build_task(*arguments)`` is the task.
        run_id: names the run in its checkpoints.
        device: ``cpu``, or ``cuda`` for one GPU per process (``local_device``), whose gradients NCCL sums.
    """
    if device.startswith("cuda"):
        torch.cuda.set_device(local_device(device))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        task: Task = Sharded(build_task(*arguments), distributed.get_rank(), distributed.get_world_size())
        checkpoints: Checkpoints = Checkpoints(Path(folder), run_id)
        if distributed.get_rank():
            checkpoints.save = lambda *_: None  # type: ignore[method-assign]  # the first process writes for all
        return len([record for record in train(task, plan, checkpoints).records if "loss" in record])
    finally:
        distributed.destroy_process_group()


def local_device(device: str) -> str:
    """``cuda``: this process's GPU on its machine, by the LOCAL_RANK that the launcher sets; else ``device``."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device


class Sharded:
    """A task whose ``backward`` computes this process's share; all else is delegated to the task."""

    def __init__(self, task: Any, rank: int, world: int) -> None:
        self._task, self._rank, self._world = task, rank, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def backward(self, batch: Any, share: float) -> float:
        """Add the gradient of the whole batch in every process; returns the loss of the whole batch."""
        number, rows = batch if isinstance(batch, tuple) else (None, batch)
        shard = rows[self._rank :: self._world]
        part = len(shard) / len(rows)
        before = {id(p): p.grad.clone() for p in self._weights() if p.grad is not None}
        for weight in self._weights():
            weight.grad = None
        loss = torch.zeros(1, device=next(iter(self._weights())).device)  # NCCL cannot sum CPU memory
        if len(shard):
            loss += part * self._task.backward(shard if number is None else (number, shard), share * part)
        distributed.all_reduce(loss)
        for weight in self._weights():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            distributed.all_reduce(weight.grad)
            weight.grad += before.get(id(weight), 0)
        return float(loss)

    def _weights(self) -> Iterable[torch.nn.Parameter]:
        return (p for p in self._task.module.parameters() if p.requires_grad)
