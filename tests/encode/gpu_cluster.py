"""The driver of test_gpu_scheduling: print the device of each task of a stage as JSON.

python -m tests.encode.gpu_cluster MASTER APPLICATION|STAGE GPUS-OF-AN-EXECUTOR GPUS-OF-A-TASK FOLDER
"""

import json
import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from recsys_spark.encode.embedding import gpu_profile
from recsys_spark.runtime.task import task_device

TASKS = 6


def wait_for_pair(folder: Path) -> int:
    """Wait for a second task and return the number of the pair. A named pipe opens once both ends are open."""
    for ticket in count():
        try:
            os.close(os.open(folder / f"ticket-{ticket}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os.close(os.open(folder / f"pair-{ticket // 2}", os.O_RDONLY if ticket % 2 else os.O_WRONLY))
        return ticket // 2
    raise AssertionError


def main(master: str, way: str, executor: str, share: str, folder: str) -> None:
    for pair in range(TASKS // 2):
        os.mkfifo(Path(folder) / f"pair-{pair}")
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executor.memory": "1g",
        "spark.executor.cores": "2",
        "spark.executor.resource.gpu.amount": executor,
        "spark.executorEnv.PYTHONPATH": os.environ["PYTHONPATH"],
    }
    if way == "application":
        settings["spark.task.resource.gpu.amount"] = share
    session = SparkSession.builder.master(master).config(map=settings).getOrCreate()

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        device, pair = task_device(TaskContext.get()), wait_for_pair(Path(folder))
        for _ in batches:
            pass
        yield pa.RecordBatch.from_pydict({"pair": [pair], "executor": [os.getppid()], "device": [device]})

    try:
        profile = gpu_profile(float(share)) if way == "stage" else None
        frame = session.range(TASKS).repartition(TASKS, "id")
        rows = frame.mapInArrow(look, "pair bigint, executor bigint, device string", profile=profile).collect()
        print(json.dumps([row.asDict() for row in rows]))
    finally:
        session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
