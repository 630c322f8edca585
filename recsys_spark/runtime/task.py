"""What a Spark task needs to know of itself: its partition and its device."""

import os

from pyspark import TaskContext


def partition() -> int:
    """The partition that this task works on."""
    context = TaskContext.get()
    return context.partitionId() if context else 0


def task_device(context: TaskContext | None) -> str:
    """The device of this task: the GPU that Spark assigned, else the CPU.

    Spark does not set CUDA_VISIBLE_DEVICES. Where a container did, the assigned address counts within it.
    """
    gpus = context.resources().get("gpu") if context else None
    if not gpus:
        return "cpu"
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    address = gpus.addresses[0]
    return f"cuda:{visible.index(address) if address in visible else int(address)}"
