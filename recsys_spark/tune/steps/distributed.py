"""A training in several processes, by TorchDistributor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_spark.errors import UsageError
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tune.kernels.training_loop import Plan
from recsys_spark.tune.options import TuningOptions


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

    from recsys_spark.tune.kernels.data_parallel import train_in_parallel
    from recsys_spark.tune.kernels.trainable_encoder import chosen_device

    assert run.spark
    device = "cpu" if options.method == "projector" else chosen_device(options.device)
    if device.startswith("cuda"):
        _check_gpus(run, options)
    plain = TuningOptions(**options.model_dump())  # a job's own class is of its script, which workers do not have
    start = TorchDistributor(options.processes, local_mode=not options.on_executors, use_gpu=device.startswith("cuda"))
    all_given = (make, plain.model_copy(update={"device": device}), *given)
    start.run(train_in_parallel, _on_own_device, all_given, plan, str(folder), name, device)


def _on_own_device(make: Callable[..., Any], options: TuningOptions, *given: Any) -> Any:
    from recsys_spark.tune.kernels.data_parallel import own_device

    return make(options.model_copy(update={"device": own_device(options.device)}), *given)


def _check_gpus(run: Run, options: TuningOptions) -> None:
    """TorchDistributor takes GPUs from Spark only; without them it ends with a stack trace."""
    context = run.spark.sparkContext
    if options.on_executors and not context.getConf().get("spark.task.resource.gpu.amount"):
        raise UsageError(
            "--processes on the executors' GPUs: set spark.task.resource.gpu.amount, as SPARK_PROFILE=gpu does"
        )
    if not options.on_executors and "gpu" not in context.resources:
        raise UsageError(
            "--processes on the driver's GPUs: Spark has to know them; add -- --conf "
            f"spark.driver.resource.gpu.amount={options.processes} --conf "
            "spark.driver.resource.gpu.discoveryScript=conf/deploy/gpu_discovery.sh, or take --device=cpu"
        )
