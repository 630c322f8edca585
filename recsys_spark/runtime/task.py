"""The partition and the device of a running Spark task."""

import os

from pyspark import TaskContext
from pyspark.sql import DataFrame

PYTHON_BYTES = 210_000_000
"""About the memory of a task's Python process with PySpark, pyarrow and NumPy, before it has any data."""


def task_slots(frame: DataFrame) -> int:
    """The number of tasks that run at a time; over Spark Connect, which does not say it, of partitions of a shuffle.

    Results do not depend on it.
    """
    session = frame.sparkSession
    if over_connect(session):
        return int(session.conf.get("spark.sql.shuffle.partitions") or 1)
    return session.sparkContext.defaultParallelism


def over_connect(session: object) -> bool:
    """Whether a session is a remote one, of Spark Connect."""
    return type(session).__module__.startswith("pyspark.sql.connect")


def partition() -> int:
    """The partition of this task; 0 outside a task."""
    context = TaskContext.get()
    return context.partitionId() if context else 0


def task_device(context: TaskContext | None) -> str:
    """The device of this task: the GPU that Spark assigned, else the CPU.

    Spark does not set CUDA_VISIBLE_DEVICES. If a container sets it, the device is the index of the assigned address in
    it.
    """
    gpus = context.resources().get("gpu") if context else None
    if not gpus:
        return "cpu"
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    address = gpus.addresses[0]
    return f"cuda:{visible.index(address) if address in visible else int(address)}"
