"""What a person sees of a training: where it is and the loss on the live line, each validation below."""

from collections.abc import Callable
from dataclasses import dataclass

from recsys_spark.errors.failpoints import failpoint
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tune.kernels.training_loop import Plan
from recsys_spark.tune.options import TuningOptions

Record = dict[str, float]


@dataclass(frozen=True)
class Attempt:
    """Trainings with one and the same data, for a search. ``goal``: the figure of a record that is judged; ``data``
    names the data; ``score``: trains with some options, tells of each record and returns the best figure."""

    goal: str
    data: str
    score: Callable[[TuningOptions, Callable[[Record], None]], float]


def progress(run: Run, plan: Plan, also: Callable[[Record], None]) -> Callable[[Record], None]:
    """A function that shows each record and hands it on to ``also``, a tracker."""

    def show(record: Record) -> None:
        also(record)
        failpoint(f"step.{int(record['step'])}", "training")
        place = f"epoch {int(record['epoch']) + 1} of {plan.stop_after or plan.epochs}, step {int(record['step'])}"
        if "loss" not in record:
            figures = ", ".join(f"{k} {v:.4f}" for k, v in record.items() if k not in ("step", "epoch", "valid_total"))
            run.progress.note(f"{place}: {figures}")
        else:
            run.progress.say(f"{place}, loss {record['loss']:.4f}")

    return show
