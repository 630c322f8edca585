"""Progress of a training: position and loss on the live line, one line below per validation."""

from collections.abc import Callable
from dataclasses import dataclass

from recsys_spark.errors.failpoints import failpoint
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.training.kernels.training_loop import Plan, Record
from recsys_spark.tune.options import TuningOptions


@dataclass(frozen=True)
class TrialObjective:
    """The objective of a hyperparameter search: trainings on the same data with different options.

    ``goal``: the validation metric; ``data``: digest of the data; ``score``: trains with the given options, reports
    each record and returns the best value of the metric.
    """

    goal: str
    data: str
    score: Callable[[TuningOptions, Callable[[Record], None]], float]


def progress(run: Run, plan: Plan, tracker: Callable[[Record], None]) -> Callable[[Record], None]:
    """A function that shows each record and passes it to ``tracker``."""

    def show(record: Record) -> None:
        tracker(record)
        failpoint(f"step.{int(record['step'])}", "training")
        position = f"epoch {int(record['epoch']) + 1} of {plan.stop_after or plan.epochs}, step {int(record['step'])}"
        if "loss" not in record:
            metrics = ", ".join(f"{k} {v:.4f}" for k, v in record.items() if k not in ("step", "epoch", "valid_total"))
            run.progress.note(f"{position}: {metrics}")
        else:
            run.progress.say(f"{position}, loss {record['loss']:.4f}")

    return show
