"""Training loop: AdamW with warm-up, gradient clipping, early stopping and exact resumption from checkpoints.
Imports torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from recsys_spark.errors import QualityError
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.rng_state import random_states, set_random_states

Record = dict[str, float]


class Task(Protocol):
    """A model with its data and loss. ``goal``: the validation metric that selects the weights, and whether higher is
    better."""

    goal: tuple[str, bool]

    @property
    def module(self) -> torch.nn.Module:
        """The module with the weights."""

    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch, a function of its number only."""

    def backward(self, batch: Any, share: float) -> float:
        """Add ``share`` × the gradient of the batch's loss; returns the loss."""

    def validate(self) -> Record:
        """Metrics on validation, the goal among them."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step (AdaLoRA updates its ranks)."""

    def settled(self, step: int) -> bool:
        """Whether the weights may be selected as the best (AdaLoRA: once its ranks are within the budget)."""

    def state(self) -> dict[str, torch.Tensor]:
        """The task's own state for a checkpoint, besides weights and optimizer."""

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Restore what ``state`` returned."""


class WeightsOnly:
    """The part of a ``Task`` whose weights are its whole state."""

    def after_step(self, step: int) -> None:
        """Do nothing: there are no ranks to update."""

    def settled(self, step: int) -> bool:
        """True: the weights of any step may be the best."""
        return True

    def state(self) -> dict[str, torch.Tensor]:
        """Empty: the weights are the whole state."""
        return {}

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Do nothing: ``state`` is empty."""


@dataclass(frozen=True)
class Plan:
    """Length and learning rate of a training. ``warm_up``: share of all steps; ``clip``: maximum global gradient norm;
    ``accumulate``: batches per optimizer step; ``patience``: epochs without improvement before it stops."""

    epochs: int
    learning_rate: float
    weight_decay: float = 0.01
    warm_up: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    patience: int = 2
    checkpoint_steps: int = 200
    seed: int = 0
    stop_after: int | None = None  # epochs; without validation: the last weights are the result


@dataclass(frozen=True)
class Trained:
    """``records``: one per step and per validation; ``best``: the metrics of the selected weights, of ``epoch``."""

    records: list[Record]
    best: Record
    epoch: int


def train(
    task: Task, plan: Plan, checkpoints: Checkpoints, report: Callable[[Record], None] = lambda _: None
) -> Trained:
    """Train until validation stops improving; the module then has its best weights.

    Raises:
        QualityError: the loss is not finite; the module then has its best weights so far, which the newest checkpoint
            holds too.
    """
    loop = _Loop(task, plan, checkpoints, report)
    loop.resume()
    while not loop.finished:
        loop.epoch()
    loop.use_best()
    return Trained(loop.records, loop.best, loop.best_epoch)


class _Loop:
    def __init__(self, task: Task, plan: Plan, checkpoints: Checkpoints, report: Callable[[Record], None]) -> None:
        self._task, self._plan, self._checkpoints, self._report = task, plan, checkpoints, report
        torch.manual_seed(plan.seed)
        self._weights = {n: p for n, p in task.module.named_parameters() if p.requires_grad}
        self._buffers = dict(task.module.named_buffers())
        self._device = next(iter(self._weights.values())).device if self._weights else torch.device("cpu")
        matrices = [p for p in self._weights.values() if p.ndim > 1]
        others = [p for p in self._weights.values() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.learning_rate)
        self._steps = plan.epochs * -(-len(task.batches(0)) // plan.accumulate)
        self.records: list[Record] = []
        self.best: Record = {}
        self.best_epoch, self._epoch, self._step, self._position, self._stale_epochs = -1, 0, 0, 0, 0
        self._best_weights, self._settled = self._weights_copy(), False

    @property
    def finished(self) -> bool:
        if self._plan.stop_after is not None:
            return self._epoch >= self._plan.stop_after
        return self._epoch >= self._plan.epochs or self._stale_epochs > self._plan.patience

    def epoch(self) -> None:
        """Train the rest of the current epoch, validate and save a checkpoint."""
        if not self.records and self._plan.stop_after is None:
            self._select(self._task.validate(), -1)  # the start, which training must improve on
        batches = self._task.batches(self._epoch)
        while self._position < len(batches):
            group = batches[self._position : self._position + self._plan.accumulate]
            self._optimize(group)
            self._position += len(group)
            if self._step % self._plan.checkpoint_steps == 0 and self._position < len(batches):
                self._save()
        if self._plan.stop_after is None:
            self._select(self._task.validate(), self._epoch)
        else:
            self.best_epoch, self._best_weights = self._epoch, self._weights_copy()
        self._epoch, self._position = self._epoch + 1, 0
        self._save()

    def resume(self) -> None:
        """Restore the newest checkpoint, including the states of the random generators."""
        state = self._checkpoints.load()
        if state is None:
            return
        tensors, values = state
        for name, value in [*self._weights.items(), *self._buffers.items()]:
            value.data.copy_(tensors[f"weights/{name}"])
        self._best_weights = {name: tensors[f"best/{name}"] for name in self._best_weights}
        self._restore_optimizer(tensors)
        self.records, self.best, self._settled = values["records"], values["best"], values["settled"]
        self.best_epoch, self._epoch, self._step, self._position, self._stale_epochs = values["places"]
        task_state = {key.partition("/")[2]: part for key, part in tensors.items() if key.startswith("task/")}
        self._task.restore(task_state, self._step)
        set_random_states(tensors, self._device)

    def use_best(self) -> None:
        for name, value in [*self._weights.items(), *self._buffers.items()]:
            value.data.copy_(self._best_weights[name])

    def _optimize(self, group: Sequence[Any]) -> None:
        self._task.module.train()
        rate = self._plan.learning_rate * _learning_rate_factor(self._step, self._steps, self._plan.warm_up)
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = sum(self._task.backward(batch, 1 / len(group)) for batch in group) / len(group)
        if not math.isfinite(loss):
            self.use_best()
            raise QualityError(
                f"the loss is {loss} at step {self._step}, epoch {self._epoch}: lower --learning_rate, or check "
                "the data; the checkpoint holds the last good weights"
            )
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), self._plan.clip))
        self._optimizer.step()
        self._step += 1
        self._task.after_step(self._step)
        self._emit({"step": self._step, "epoch": self._epoch, "loss": loss, "gradient": norm})

    def _select(self, metrics: Record, epoch: int) -> None:
        """Keep the weights if they are the best so far. Settled weights replace any that are not."""
        name, higher_is_better = self._task.goal
        settled = self._task.settled(self._step)
        gain = (metrics[name] - self.best[name]) * (1 if higher_is_better else -1) if self.best else 1.0
        better = gain > 0 if settled == self._settled else settled
        self._stale_epochs = 0 if better or not settled else self._stale_epochs + 1
        if better or not self.best:
            self._settled = settled
            self.best, self.best_epoch, self._best_weights = metrics, epoch, self._weights_copy()
        self._emit({"step": self._step, "epoch": epoch, **metrics})

    def _emit(self, record: Record) -> None:
        self.records.append(record)
        self._report(record)

    def _weights_copy(self) -> dict[str, torch.Tensor]:
        return {n: p.detach().clone() for n, p in [*self._weights.items(), *self._buffers.items()]}

    def _save(self) -> None:
        tensors = {f"weights/{name}": value for name, value in self._weights_copy().items()}
        tensors |= {f"best/{name}": value for name, value in self._best_weights.items()}
        names = {id(value): name for name, value in self._weights.items()}
        for value, state in self._optimizer.state.items():
            tensors |= {f"optimizer/{names[id(value)]}/{key}": part for key, part in state.items()}
        tensors |= {f"task/{name}": value for name, value in self._task.state().items()}
        tensors |= random_states(self._device)
        counters = [self.best_epoch, self._epoch, self._step, self._position, self._stale_epochs]
        values = {"records": self.records, "best": self.best, "settled": self._settled, "places": counters}
        self._checkpoints.save(self._step, tensors, values)

    def _restore_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, value in self._weights.items():
            state = {
                key.rpartition("/")[2]: part for key, part in tensors.items() if key.startswith(f"optimizer/{name}/")
            }
            if state:
                self._optimizer.state[value] = {
                    key: part if key == "step" else part.to(value.device) for key, part in state.items()
                }


def _learning_rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Rise linearly over the first ``warm_up`` share of all steps, then fall linearly to 0 at the last."""
    rise = max(1, round(steps * warm_up))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))
