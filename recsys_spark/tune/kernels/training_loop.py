"""The training loop: AdamW with warm-up, clipping, early stopping; continued after a kill as if nothing had happened.
Imports torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from recsys_spark.errors import QualityError
from recsys_spark.tune.kernels.checkpoints import Checkpoints
from recsys_spark.tune.kernels.rng_state import random_states, set_random_states

Record = dict[str, float]


class Task(Protocol):
    """What is trained. ``goal`` names the validation figure that decides, and whether more of it is better."""

    goal: tuple[str, bool]

    @property
    def module(self) -> torch.nn.Module:
        """What has the weights."""

    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch, a function of its number alone."""

    def backward(self, batch: Any, share: float) -> float:
        """Add ``share`` × the gradient of a batch's loss; returns the loss."""

    def validate(self) -> Record:
        """Figures on validation, the goal among them."""

    def after_step(self, step: int) -> None:
        """What a method does once the weights have moved (AdaLoRA moves its ranks)."""

    def settled(self, step: int) -> bool:
        """Whether weights may be kept as the best ones (AdaLoRA's not before its ranks meet the budget)."""

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs beside weights and optimizer."""

    def restore(self, state: dict[str, torch.Tensor], step: int) -> None:
        """Take ``state`` back."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast. ``warm_up`` is a share of all steps; ``patience`` counts epochs without a better one."""

    epochs: int
    learning_rate: float
    weight_decay: float = 0.01
    warm_up: float = 0.1
    clip: float = 1.0
    accumulate: int = 1
    patience: int = 2
    checkpoint_steps: int = 200
    seed: int = 0
    stop_after: int | None = None  # epochs; validation then decides nothing, the last weights are kept


@dataclass(frozen=True)
class Trained:
    """``records``: one for each step and each validation; ``best`` the figures of the weights that were kept."""

    records: list[Record]
    best: Record
    epoch: int


def train(
    task: Task, plan: Plan, checkpoints: Checkpoints, report: Callable[[Record], None] = lambda _: None
) -> Trained:
    """Train until validation stops getting better; the module then has its best weights.

    Raises:
        QualityError: a loss that is no number; the module then has its best weights so far, and so has the newest
            checkpoint.
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
        decayed = [p for p in self._weights.values() if p.ndim > 1]
        plain = [p for p in self._weights.values() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.learning_rate)
        self._steps = plan.epochs * -(-len(task.batches(0)) // plan.accumulate)
        self.records: list[Record] = []
        self.best: Record = {}
        self.best_epoch, self._epoch, self._step, self._place, self._worse = -1, 0, 0, 0, 0
        self._best_weights, self._settled = self._copy(), False

    @property
    def finished(self) -> bool:
        if self._plan.stop_after is not None:
            return self._epoch >= self._plan.stop_after
        return self._epoch >= self._plan.epochs or self._worse > self._plan.patience

    def epoch(self) -> None:
        """From the place where a run before stopped, to the validation."""
        if not self.records and self._plan.stop_after is None:
            self._validated(self._task.validate(), -1)  # what training has to beat
        batches = self._task.batches(self._epoch)
        while self._place < len(batches):
            group = batches[self._place : self._place + self._plan.accumulate]
            self._train(group)
            self._place += len(group)
            if self._step % self._plan.checkpoint_steps == 0 and self._place < len(batches):
                self._save()
        if self._plan.stop_after is None:
            self._validated(self._task.validate(), self._epoch)
        else:
            self.best_epoch, self._best_weights = self._epoch, self._copy()
        self._epoch, self._place = self._epoch + 1, 0
        self._save()

    def resume(self) -> None:
        """Go on from the newest checkpoint, the state of the random numbers included."""
        state = self._checkpoints.load()
        if state is None:
            return
        tensors, values = state
        for name, value in [*self._weights.items(), *self._buffers.items()]:
            value.data.copy_(tensors[f"weights/{name}"])
        self._best_weights = {name: tensors[f"best/{name}"] for name in self._best_weights}
        self._restore_optimizer(tensors)
        self.records, self.best, self._settled = values["records"], values["best"], values["settled"]
        self.best_epoch, self._epoch, self._step, self._place, self._worse = values["places"]
        own = {key.partition("/")[2]: part for key, part in tensors.items() if key.startswith("task/")}
        self._task.restore(own, self._step)
        set_random_states(tensors, self._device)

    def use_best(self) -> None:
        for name, value in [*self._weights.items(), *self._buffers.items()]:
            value.data.copy_(self._best_weights[name])

    def _train(self, group: Sequence[Any]) -> None:
        self._task.module.train()
        for one in self._optimizer.param_groups:
            one["lr"] = self._plan.learning_rate * _pace(self._step, self._steps, self._plan.warm_up)
        self._optimizer.zero_grad(set_to_none=True)
        loss = sum(self._task.backward(batch, 1 / len(group)) for batch in group) / len(group)
        if not math.isfinite(loss):
            self.use_best()
            raise QualityError(
                f"the loss is {loss} at step {self._step}, epoch {self._epoch}: a lower --learning_rate, or look "
                "at the data; the last good weights are kept in the checkpoint"
            )
        norm = float(torch.nn.utils.clip_grad_norm_(self._weights.values(), self._plan.clip))
        self._optimizer.step()
        self._step += 1
        self._task.after_step(self._step)
        self._note({"step": self._step, "epoch": self._epoch, "loss": loss, "gradient": norm})

    def _validated(self, figures: Record, epoch: int) -> None:
        name, more = self._task.goal
        settled = self._task.settled(self._step)
        gain = (figures[name] - self.best[name]) * (1 if more else -1) if self.best else 1.0
        better = gain > 0 if settled == self._settled else settled
        self._worse = 0 if better or not settled else self._worse + 1
        if better or not self.best:
            self._settled = settled
            self.best, self.best_epoch, self._best_weights = figures, epoch, self._copy()
        self._note({"step": self._step, "epoch": epoch, **figures})

    def _note(self, record: Record) -> None:
        self.records.append(record)
        self._report(record)

    def _copy(self) -> dict[str, torch.Tensor]:
        return {n: p.detach().clone() for n, p in [*self._weights.items(), *self._buffers.items()]}

    def _save(self) -> None:
        tensors = {f"weights/{name}": value for name, value in self._copy().items()}
        tensors |= {f"best/{name}": value for name, value in self._best_weights.items()}
        names = {id(value): name for name, value in self._weights.items()}
        for value, state in self._optimizer.state.items():
            tensors |= {f"optimizer/{names[id(value)]}/{key}": part for key, part in state.items()}
        tensors |= {f"task/{name}": value for name, value in self._task.state().items()}
        tensors |= random_states(self._device)
        places = [self.best_epoch, self._epoch, self._step, self._place, self._worse]
        values = {"records": self.records, "best": self.best, "settled": self._settled, "places": places}
        self._checkpoints.save(self._step, tensors, values)

    def _restore_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, value in self._weights.items():
            found = {
                key.rpartition("/")[2]: part for key, part in tensors.items() if key.startswith(f"optimizer/{name}/")
            }
            if found:
                self._optimizer.state[value] = {
                    key: part if key == "step" else part.to(value.device) for key, part in found.items()
                }


def _pace(step: int, steps: int, warm_up: float) -> float:
    """Linear up over the first ``warm_up`` of all steps, linear down to 0 at the end."""
    rise = max(1, round(steps * warm_up))
    return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))
