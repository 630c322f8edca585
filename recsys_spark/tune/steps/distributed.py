"""Training in several processes, started by TorchDistributor."""

from collections.abc import Callable
from typing import Any

from recsys_spark.errors import UsageError
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan
from recsys_spark.tune.options import TuningOptions


def train_in_processes(
    run: Run,
    options: TuningOptions,
    build_task: Callable[..., Any],
    arguments: tuple[Any, ...],
    plan: Plan,
    checkpoints: Checkpoints,
) -> None:
    """Train ``build_task(options, *arguments)`` in ``options.processes`` processes; do nothing if that is 1.

    After that, ``train`` on the driver finds the training finished in ``checkpoints``.
    """
    if options.processes == 1 or plan.stop_after == 0:
        return
    from pyspark.ml.torch.distributor import TorchDistributor

    from recsys_spark.tune.kernels.data_parallel import train_in_parallel
    from recsys_spark.tune.kernels.trainable_encoder import chosen_device

    assert run.spark
    device = "cpu" if options.method == "projector" else chosen_device(options.device)
    if device.startswith("cuda"):
        _check_gpus(run, options)
    launcher = TorchDistributor(
        options.processes, local_mode=not options.on_executors, use_gpu=device.startswith("cuda")
    )
    task_arguments = (build_task, options.model_copy(update={"device": device}), *arguments)
    folder, run_id = str(checkpoints.folder), checkpoints.run_id
    launcher.run(train_in_parallel, _task_on_local_device, task_arguments, plan, folder, run_id, device)


def _task_on_local_device(build_task: Callable[..., Any], options: TuningOptions, *arguments: Any) -> Any:
    from recsys_spark.tune.kernels.data_parallel import local_device

    return build_task(options.model_copy(update={"device": local_device(options.device)}), *arguments)


def _check_gpus(run: Run, options: TuningOptions) -> None:
    """TorchDistributor uses only GPUs that Spark manages; without them it fails with a stack trace."""
    context = run.spark.sparkContext
    if options.on_executors and not context.getConf().get("spark.task.resource.gpu.amount"):
        raise UsageError(
            "to run --processes on the GPUs of the executors, set spark.task.resource.gpu.amount, as "
            "SPARK_PROFILE=gpu does"
        )
    if not options.on_executors and "gpu" not in context.resources:
        raise UsageError(
            "to run --processes on the GPUs of the driver, configure Spark with them: add -- --conf "
            f"spark.driver.resource.gpu.amount={options.processes} --conf "
            "spark.driver.resource.gpu.discoveryScript=conf/deploy/gpu_discovery.sh, or use --device=cpu"
        )
