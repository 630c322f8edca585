"""The wheel of this project, and an environment that has it: outside the checkout, with the libraries of the tests."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def build_wheel(folder: Path) -> Path:
    """Build the wheel below ``folder``; the checkout stays as it is."""
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)]
    command += ["build", "--build-base", str(folder / "build"), "bdist_wheel", "-d", str(folder / "dist")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def environment_with(wheel: Path, folder: Path) -> Path:
    """An environment of Python with the wheel; its libraries are those that run the tests. Returns its ``bin``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    libraries = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (packages / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    install = [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    done = subprocess.run([*install, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def run_outside(command: list[str], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, as a user without a checkout: none of this project's variables."""
    dropped = ("PYTHONPATH", "JAVA_HOME", "LOG4J_CONFIGURATION_FILE")
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith(("RECSYS_", "PYSPARK_", "SPARK_"))
    }
    if "RECSYS_JAVA" in os.environ:  # the Java of .venv is on no PATH
        clean["PATH"] = f"{Path(os.environ['RECSYS_JAVA']).parent}{os.pathsep}{clean['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=clean | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
