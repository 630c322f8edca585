"""Executors whose Python lacks the requirements: one message, no stack trace."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.refreshes import refresh
from tests.bench.spark_submit import last_json, submit


@pytest.mark.slow
def test_executors_whose_python_has_no_pandas_are_told_in_one_message(shop, tiny_bert, tmp_path: Path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    pythons = {"RECSYS_PYTHON": sys.executable, "PYSPARK_PYTHON": str(tmp_path / "bare" / "bin" / "python")}
    done = submit(*refresh(shop, tmp_path / "lake", tiny_bert), **pythons)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "the executors' Python lacks a module: set RECSYS_PYTHON" in last_json(done)["error"]
    assert "Traceback" not in last_json(done)["error"]
    assert not list((tmp_path / "lake").glob("*/_delta_log"))
