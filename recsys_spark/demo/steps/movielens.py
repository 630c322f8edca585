"""Download MovieLens 100K for the demo. Its licence forbids redistribution, so the user's own pip downloads it into a
cache."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from recsys_spark.errors import RetryError

WHEEL = "recbole==1.2.1"

_INSIDE = "recbole/dataset_example/ml-100k/"

_FILES = ("ml-100k.item", "ml-100k.user", "ml-100k.inter")


def cache_folder() -> Path:
    """The folder of downloaded files, which later runs use again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys-spark"


def fetch_movielens_100k() -> Path:
    """The folder with the three files, downloaded on first use. The wheel is unpacked, never installed.

    Raises:
        RetryError: pip cannot download the wheel, or the wheel lacks a file.
    """
    target = cache_folder() / "ml-100k"
    if all((target / name).is_file() for name in _FILES):
        return target
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            scratch,
            WHEEL,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise RetryError(
                f"MovieLens 100K could not be downloaded (pip download {WHEEL}): {done.stderr.strip()[-500:]}"
            )
        _unpack(wheels[0], Path(scratch), target)
    return target


def _unpack(wheel: Path, scratch: Path, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in _FILES:
            try:
                content = archive.read(_INSIDE + name)
            except KeyError as error:
                raise RetryError(
                    f"{WHEEL} holds no {_INSIDE}{name}; give the folder of ml-100k with --data=PATH"
                ) from error
            (scratch / name).write_bytes(content)
            (scratch / name).replace(target / name)
