"""The package as a zip file, for drivers and executors: both run the very same code."""

import hashlib
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from py_compile import PycInvalidationMode, compile

from recsys_spark.errors import UsageError
from recsys_spark.runtime import places

_PACKAGE = Path(__file__).resolve().parents[1]

_KEPT_SECONDS = 30 * 86400
"""After this time an unused zip is deleted: no run takes a month."""

_BESIDE = {"jobs", "conf"}
"""Folders of an installed package that travel by themselves: the job as a script, its files by --files."""


def package_zip() -> Path:
    """Build the zip if this state of the code has none, and return its path.

    The name holds the hash of the contents: runs at the same time, of different states of the code, do not meet.
    Python cannot keep compiled modules beside a zip, so they are in it; another release of Python takes the sources.
    """
    members = [(name, (_PACKAGE.parent / name).read_bytes()) for name in _names()]
    digest = hashlib.sha256(repr([sys.implementation.cache_tag, members]).encode()).hexdigest()[:16]
    cache = _cache_folder()
    target = cache / f"recsys_spark-{digest}.zip"
    if target.exists():
        os.utime(target)
    else:
        draft = cache / f"recsys_spark-{digest}.{os.getpid()}"
        sources = [name for name, _ in members if name.endswith(".py")]
        _write(draft, [*members, *_compiled(sources)])
        draft.rename(target)
    for old in cache.glob("recsys_spark-*"):
        if old.stat().st_mtime < time.time() - _KEPT_SECONDS:
            old.unlink(missing_ok=True)
    return target


def _names() -> list[str]:
    """Members of the zip: modules and package data, without pages and hidden files."""
    paths = (path.relative_to(_PACKAGE) for path in _PACKAGE.rglob("*") if path.suffix not in (".pyc", ".md"))
    visible = (path for path in paths if not any(part.startswith(".") for part in path.parts))
    wanted = (path for path in visible if path.parts[0] not in _BESIDE and (_PACKAGE / path).is_file())
    return sorted(f"recsys_spark/{path.as_posix()}" for path in wanted)


def _compiled(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "module.pyc")
        for name in names:
            mode = PycInvalidationMode.UNCHECKED_HASH
            compile(str(_PACKAGE.parent / name), str(target), name, True, invalidation_mode=mode)
            yield f"{name}c", target.read_bytes()


def _write(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in members:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            package.writestr(info, content, zipfile.ZIP_DEFLATED)


def _cache_folder() -> Path:
    """``.venv`` of a checkout, if this user may write there; else a folder of the user's own."""
    venv = places.home() / ".venv"
    if not places.is_installed() and os.access(venv, os.W_OK):
        return venv
    folder = Path(tempfile.gettempdir(), f"recsys-spark-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    # Another user of the machine could have made it first and put code of theirs into it.
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UsageError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    return folder
