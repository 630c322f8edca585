"""Runs the tests on several releases of PySpark and Python, each in an environment of its own, and prints a table.

    PYTHONPATH=. .venv/bin/python tests/matrix.py --pyspark=4.0,4.1 --python=python3.11,python3.12 [PYTEST OPTIONS]

An environment is made once, below ~/.cache/recsys-spark/matrix. With the Python that runs this script it shares the
libraries and installs PySpark alone; with another one it installs everything. --only_set_up=true runs no test.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

from tests.conftest import ROOT

RELEASES = "4.0,4.1,4.2,4.3"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys-spark" / "matrix"
INDEX = "https://download.pytorch.org/whl/cpu"


def main(words: Sequence[str]) -> int:
    """The number of combinations with a failure."""
    options = {"pyspark": RELEASES, "python": sys.executable, "only_set_up": "false"}
    pytest_options = []
    for word in words:
        key, separator, value = word.removeprefix("--").partition("=")
        if separator and key in options:
            options[key] = value
        else:
            pytest_options.append(word)
    failed = 0
    print("| Python | PySpark | passed | failed | skipped | minutes |\n|---|---|---|---|---|---|", flush=True)
    for python in options["python"].split(","):
        for release in options["pyspark"].split(","):
            found = set_up(python, release)
            versions = version_of(found, "platform", "python_version()"), version_of(found, "pyspark", "__version__")
            figures = ["–"] * 4 if options["only_set_up"] == "true" else run(found, pytest_options)
            failed += figures[1] not in ("0", "–")
            print(f"| {' | '.join([*versions, *figures])} |", flush=True)
    return failed


def set_up(python: str, release: str) -> Path:
    """The Python of an environment with this release of PySpark."""
    number = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True)
    folder = CACHE / f"python{number.strip()}-pyspark{release}"
    inside = folder / "bin" / "python"
    done = folder / "set-up-done"
    if done.is_file():
        return inside
    subprocess.run([python, "-m", "venv", "--clear", *bare(number), str(folder)], check=True)
    pip = [str(inside), "-I", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    if bare(number):
        (packages,) = folder.glob("lib/python3*/site-packages")
        shared = [entry for entry in sys.path if entry.endswith("site-packages")]
        (packages / "shared.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    else:
        setup = import_module("setup")
        subprocess.run([*pip, "--extra-index-url", INDEX, "torch"], check=True)
        extras = [line for name in ("test", "report", "train", "onnx", "redis", "serve") for line in setup.EXTRAS[name]]
        subprocess.run([*pip, *setup.REQUIREMENTS, *extras], check=True)
        subprocess.run([*pip, "--no-deps", *setup.WITHOUT_DEPENDENCIES["base"]], check=True)
    # A folder of the same name in another environment stays: this one comes first on the path.
    subprocess.run([*pip, "--ignore-installed", "--no-deps", f"pyspark=={release}.*"], check=True)
    done.touch()
    return inside


def bare(number: str) -> list[str]:
    """Without pip, if the libraries of this Python serve the other environment too."""
    return ["--without-pip"] if number.strip() == f"{sys.version_info[0]}.{sys.version_info[1]}" else []


def version_of(python: Path, module: str, expression: str) -> str:
    return subprocess.check_output(
        [str(python), "-c", f"import {module}; print({module}.{expression})"], text=True
    ).strip()


def run(python: Path, options: Sequence[str]) -> list[str]:
    """Passed, failed and skipped tests, and minutes."""
    report = python.parent.parent / "report.xml"
    report.unlink(missing_ok=True)
    where = os.environ | {"RECSYS_PYTHON": str(python)}
    for name in ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_HOME"):
        where.pop(name, None)
    command = [str(ROOT / "tests" / "run"), f"--junitxml={report}", "-q", *options]
    with (python.parent.parent / "output.txt").open("w", encoding="utf-8") as output:
        subprocess.run(command, cwd=ROOT, env=where, stdout=output, stderr=subprocess.STDOUT, check=False)
    if not report.is_file():
        return ["0", f"all: see {output.name}", "0", "0"]
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None
    total, bad = int(suite.get("tests", 0)), int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped, minutes = int(suite.get("skipped", 0)), float(suite.get("time", 0)) / 60
    return [str(total - bad - skipped), str(bad), str(skipped), f"{minutes:.1f}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
