"""One training in several processes: each takes its rows of every batch, gradients are added up. Imports torch."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from recsys_spark.tune.kernels.checkpoints import Checkpoints
from recsys_spark.tune.kernels.training_loop import Plan, Task, train


def train_in_parallel(make: Any, given: tuple[Any, ...], plan: Plan, folder: str, facts: str, device: str) -> int:
    """What each process runs, as TorchDistributor (or torchrun) starts it; returns the steps that were made.

    ``make(*given)`` is the task. The first process keeps the checkpoints in ``folder``, which all must see; whoever
    then trains with them finds the training finished. The same loss and gradients as one process with the same
    batches, if there is no dropout, whose draws differ.

    ``device`` is ``cpu``, or ``cuda`` where each has a GPU (``own_device``): NCCL then adds up what lies there.
    """
    if device.startswith("cuda"):
        torch.cuda.set_device(own_device(device))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    try:
        task: Task = Sharded(make(*given), distributed.get_rank(), distributed.get_world_size())
        kept: Checkpoints = Checkpoints(Path(folder), facts)
        if distributed.get_rank():
            kept.save = lambda *_: None  # type: ignore[method-assign]  # the first process writes for all
        return len([one for one in train(task, plan, kept).records if "loss" in one])
    finally:
        distributed.destroy_process_group()


def own_device(device: str) -> str:
    """``cuda``: the GPU of this process among those of its machine, as who started it has numbered them."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device.startswith("cuda") else device


class Sharded:
    """A task of which this process does its part; everything else is the task's own."""

    def __init__(self, task: Any, rank: int, world: int) -> None:
        self._task, self._rank, self._world = task, rank, world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def backward(self, batch: Any, share: float) -> float:
        """Gradients of the whole batch in every process; returns its loss."""
        number, rows = batch if isinstance(batch, tuple) else (None, batch)
        mine = rows[self._rank :: self._world]
        part = len(mine) / len(rows)
        before = {id(p): p.grad.clone() for p in self._weights() if p.grad is not None}
        for weight in self._weights():
            weight.grad = None
        loss = torch.zeros(1, device=next(iter(self._weights())).device)  # NCCL knows nothing of the CPU's memory
        if len(mine):
            loss += part * self._task.backward(mine if number is None else (number, mine), share * part)
        distributed.all_reduce(loss)
        for weight in self._weights():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            distributed.all_reduce(weight.grad)
            weight.grad += before.get(id(weight), 0)
        return float(loss)

    def _weights(self) -> Iterable[torch.nn.Parameter]:
        return (p for p in self._task.module.parameters() if p.requires_grad)
