"""What a person sees of a training: a progress bar on a terminal, elsewhere a line for each validation."""

import sys
from collections.abc import Callable

from recsys_spark.job import Run
from recsys_spark.kernels.training import Plan

Record = dict[str, float]


def progress(run: Run, plan: Plan, also: Callable[[Record], None]) -> Callable[[Record], None]:
    """A function that shows each record and hands it on to ``also``, a tracker."""

    def show(record: Record) -> None:
        also(record)
        place = f"epoch {int(record['epoch']) + 1} of {plan.stop_after or plan.epochs}, step {int(record['step'])}"
        if "loss" not in record:
            figures = ", ".join(f"{k} {v:.4f}" for k, v in record.items() if k not in ("step", "epoch", "valid_total"))
            run.progress.note(f"{place}: {figures}")
        elif sys.stderr.isatty():
            run.progress.say(f"train {place}, loss {record['loss']:.4f}")

    return show
