"""kill -9 of an executor or of a Python worker amid encoding: Spark repeats what was lost, and the table has the same
bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyspark
import pytest

from recsys_spark.encode.embedding import embedded_texts
from recsys_spark.encode.kernels.model_folder import read_model
from tests.bench.encoded_texts import HASHES, TEXTS, bits, published, write_texts
from tests.conftest import ROOT
from tests.faults.embedding_cluster import first_time


def encode_on_two_executors(folder: Path, model: Path, flag: Path, how: str) -> dict:
    """The report of a driver of its own that encodes into ``folder / "lake"``."""
    write_texts(folder / "lake", len(TEXTS))
    shutil.copytree(model, folder / "model")
    home = folder / "spark"  # a SPARK_HOME of our own: executors work in its folder work
    (home / "work").mkdir(parents=True)
    for part in Path(pyspark.__file__).parent.iterdir():
        if part.name != "work":
            (home / part.name).symlink_to(part)
    environment = {"SPARK_HOME": str(home), "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "tests.faults.embedding_cluster", f"{folder}/lake", f"{folder}/model"]
    command += [str(flag), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_lost_executor_is_replaced_and_the_table_has_the_same_bits(how: str, tiny_bert: Path, tmp_path: Path):
    reports = {}
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        flag = tmp_path / name / "flag"
        if name == "calm":
            flag.touch()
        reports[name] = encode_on_two_executors(tmp_path / name, tiny_bert, flag, how)
        assert flag.exists(), "the executor has not been disturbed"
    calm, killed = reports["calm"], reports["killed"]
    assert (calm["executors"], killed["executors"]) == (2, 3)
    for fact in ("status", "model", "texts_encoded", "texts_failed", "tokens", "texts_truncated", "tables"):
        assert killed[fact] == calm[fact], fact
    assert calm["texts_encoded"] == len(TEXTS)
    assert published(tmp_path / "killed" / "lake") == published(tmp_path / "calm" / "lake")
    assert [row[0] for row in published(tmp_path / "calm" / "lake")] == sorted(HASHES)


def dying(flag: Path) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Hands batches on. The first worker that comes to a second batch is killed there, with the first one sent."""

    def through(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches):
            if number == 1 and first_time(str(flag)):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    return through


@pytest.mark.parametrize("place", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_a_killed_python_worker_changes_no_bit(spark, tiny_bert: Path, tmp_path: Path, place: str):
    model, flag = read_model(str(tiny_bert), max_length=32), tmp_path / "flag"
    texts = spark.createDataFrame(list(zip(HASHES, TEXTS, strict=True))[:60], "text_hash string, text string")
    texts = texts.coalesce(2)
    calm = embedded_texts(texts, model, tasks=3).toArrow()
    if place == "before":
        killed = embedded_texts(texts.mapInArrow(dying(flag), texts.schema), model, tasks=3)
    else:
        killed = embedded_texts(texts, model, tasks=3)
        killed = killed.mapInArrow(dying(flag), killed.schema)
    again = killed.toArrow()
    assert flag.exists(), "no worker has been killed"
    assert bits(again) == bits(calm)
    assert sorted(again["text_hash"].to_pylist()) == sorted(HASHES[:60])
    assert again["tokens"].to_numpy().sum() == calm["tokens"].to_numpy().sum()
