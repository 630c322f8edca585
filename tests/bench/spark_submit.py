"""Run jobs by spark-submit.sh, as a user does."""

import json
import os
import subprocess

from tests.conftest import ROOT


def submit(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")}
    command = [str(ROOT / "spark-submit.sh"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=clean | environment, stdin=subprocess.DEVNULL, check=False
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    return json.loads(done.stdout.splitlines()[-1])
