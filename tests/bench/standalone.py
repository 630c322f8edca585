"""A standalone cluster of two workers on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pyspark

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"


def start(scratch: Path, wait_for: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a daemon and return once it has said ``wait_for``. Its log goes on being drained by the process itself."""
    environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    environment.pop("LOG4J_CONFIGURATION_FILE", None)  # its INFO lines say when it is ready
    log = (scratch / f"{arguments[0].rpartition('.')[2]}-{len(list(scratch.iterdir()))}.log").open("w+")
    daemon = subprocess.Popen([str(SPARK_CLASS), *arguments], stderr=log, stdout=log, text=True, env=environment)
    with Path(log.name).open() as reader:
        while wait_for not in (line := reader.readline()):
            if not line and daemon.poll() is not None:
                raise RuntimeError(f"{arguments[0]} ended: {Path(log.name).read_text()[-2000:]}")
    return daemon
