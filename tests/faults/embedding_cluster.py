"""The driver of test_killed_executor: the step embed_texts on two executors of their own, one of which is killed.

python -m tests.faults.embedding_cluster LAKE MODEL FLAG HOW

HOW is ``kill``, or ``stop``: the executor is silent until the driver has given it up, and then comes back.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps import embed_texts as step
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats

VICTIM = 4
"""The partition of the encoding stage whose executor dies once its texts are encoded: half-way through eight."""


def first_time(flag: str) -> bool:
    """Whether no process has asked before: the file ``flag`` is made by exactly one of them."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def disturb_executor(flag: str, how: str) -> None:
    """SIGKILL or SIGSTOP for the JVM above this Python worker, whose parent is pyspark.daemon; only the first time."""
    jvm = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
    if b"CoarseGrainedExecutorBackend" not in Path(f"/proc/{jvm}/cmdline").read_bytes():
        raise RuntimeError(f"process {jvm} is not an executor")
    if first_time(flag):
        os.kill(jvm, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        if how == "stop":
            subprocess.Popen(["sh", "-c", f"sleep 20; kill -CONT {jvm}"], start_new_session=True)


def main(lake: str, model: str, flag: str, how: str = "kill") -> None:
    encode, ship = step.embedding_rows, step.ship_model

    def encode_and_die(spec: ModelSpec, batch_tokens: int) -> ArrowTransform:
        def make(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
            for batch in encode(spec, batch_tokens)(batches, notes):
                if TaskContext.get().partitionId() == VICTIM:
                    disturb_executor(flag, how)
                yield batch

        return make

    def ship_and_hide(spark: SparkSession, spec: ModelSpec) -> None:
        """From here on no executor finds the model where the driver did."""
        ship(spark, spec)
        Path(spec.folder).rename(f"{spec.folder}-hidden")

    step.embedding_rows, step.ship_model = encode_and_die, ship_and_hide
    session = SparkSession.builder.master("local-cluster[2,1,1024]")
    if how == "stop":  # given up after seconds, not minutes
        patience = {"network.timeout": "8s", "executor.heartbeatInterval": "2s", "network.timeoutInterval": "2s"}
        session = session.config(map={f"spark.{name}": value for name, value in patience.items()})
    session = session.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false").getOrCreate()
    options = EncoderOptions(lake=lake, model=model, tokens_per_task=180)
    try:
        report = step.embed_texts(Run("embed_texts", Lake(lake), Progress()), options)
        report["executors"] = len(list(Path(os.environ["SPARK_HOME"]).glob("work/app-*/*")))  # started so far
        print(json.dumps(report))
    finally:
        session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
