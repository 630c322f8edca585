"""A training in several processes, by TorchDistributor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_spark.job import Run
from recsys_spark.kernels.training import Plan
from recsys_spark.steps.tuning_options import TuningOptions


def in_processes(
    run: Run,
    options: TuningOptions,
    make: Callable[..., Any],
    given: tuple[Any, ...],
    plan: Plan,
    folder: Path,
    name: str,
) -> None:
    """Train ``make(options, *given)`` in ``options.processes``, where that is more than one, to its last checkpoint in
    ``folder``: the driver's own training then finds everything done."""
    if options.processes == 1 or plan.stop_after == 0:
        return
    from pyspark.ml.torch.distributor import TorchDistributor

    from recsys_spark.kernels.parallel import train_in_parallel

    assert run.spark
    plain = TuningOptions(**options.model_dump())  # a job's own class is of its script, which workers do not have
    use_gpu = options.device.startswith("cuda")
    start = TorchDistributor(options.processes, local_mode=not options.on_executors, use_gpu=use_gpu)
    start.run(train_in_parallel, make, (plain, *given), plan, str(folder), name)
