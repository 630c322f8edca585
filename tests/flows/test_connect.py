"""Spark Connect, with a local server: what works through a remote session, and what is refused by name."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_pages import blocks

CELLS = """
import json
from pyspark.sql import SparkSession
SparkSession.builder.remote("local[2]").config("spark.sql.shuffle.partitions", "2").getOrCreate()
{lists}
from recsys_spark.errors import UsageError
from recsys_spark.start import run_job
try:
    run_job("recommend_items", lake="lake", run_date="2024-03-01")
    refused = ""
except UsageError as error:
    refused = str(error)
rows = top_k_join(profiles, items, k=2, seen=seen).orderBy("user_id", "rank").collect()
print(json.dumps([type(spark).__module__, refused, [(row.user_id, row.item_id, row.rank) for row in rows]]))
"""


@pytest.mark.slow
def test_the_join_works_over_connect_and_jobs_are_refused_by_name(tmp_path):
    if importlib.util.find_spec("grpc") is None:
        pytest.skip("Spark Connect needs grpcio, grpcio-status, googleapis-common-protos and zstandard")
    lists = blocks(ROOT / "recsys_spark" / "start" / "README.md", "python")[1]
    (tmp_path / "cells.py").write_text(CELLS.format(lists=lists), encoding="utf-8")
    where = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_REMOTE", "PYSPARK_"))}
    where |= {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, "cells.py"]
    done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    module, refused, rows = json.loads(done.stdout.splitlines()[-1])
    assert module.startswith("pyspark.sql.connect")
    assert "this session is one of Spark Connect" in refused
    assert rows == [["u1", "a2", 1], ["u1", "a3", 2], ["u2", "a3", 1], ["u2", "a2", 2]]
