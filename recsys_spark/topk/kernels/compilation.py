"""Load the compiled loops, from disk where they were compiled before; None where numba is missing or fails.

numba keeps compiled code beside the source file. This package travels as a zip, below another folder for every
application, so the source is copied to a folder of the user: one for each state of the source, version of numba and
Python, and processor. All processes write the same bytes there, and numba replaces files as a whole, so that workers
may compile at the same time. numba's files are pickles: the folder has to belong to the user.
"""

import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata, resources, util
from pathlib import Path
from types import ModuleType

_SOURCE = "compiled_loops.py"

_READY = "ready"  # this file is written once all loops are compiled

_WORTH_LOADING, _WORTH_COMPILING = 3e11, 7e11  # floating-point operations whose selection then takes less time, too


_WORK = [0.0]  # floating-point operations that this process was given: a worker takes one batch after the other


def loops_for(flops: float) -> ModuleType | None:
    """The loops, if they are loaded or if it pays to load them, or to compile them for the first time.

    Args:
        flops: work of the batch at hand. What the process has been given before counts too.
    """
    _WORK[0] += flops
    if _numba_version() is None:
        return None
    if not compiled_loops.cache_info().currsize:
        compiled = any((folder / _READY).exists() for folder in _folders())
        if _WORK[0] < (_WORTH_LOADING if compiled else _WORTH_COMPILING):
            return None
    return compiled_loops()


@cache
def compiled_loops() -> ModuleType | None:
    """The module ``compiled_loops``, compiled; None if there is no numba or it cannot compile here."""
    if _numba_version() is None:
        return None
    for folder in _folders():
        with suppress(OSError):
            source = _copied(folder)
            try:
                loops = _loaded(source, cached=True)
                if not (folder / _READY).exists():
                    (folder / _READY).touch()
                return loops
            except Exception:  # a damaged file, or a full disk: compile again, and the next process finds no trace
                shutil.rmtree(folder, ignore_errors=True)
                break
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _loaded(_copied(Path(scratch) / "loops"), cached=False)
    except Exception as error:  # whatever a version of numba that we do not know may raise
        logging.getLogger(__name__).warning("numba cannot compile the selection (%s): NumPy selects instead", error)
        return None


@cache
def _numba_version() -> str | None:
    try:
        return metadata.version("numba")
    except metadata.PackageNotFoundError:
        return None


def _folders() -> Iterator[Path]:
    """Folders that may hold the compiled loops, the best first."""
    name = _state()
    with suppress(RuntimeError):  # a user without a home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys-spark" / name
    yield Path(tempfile.gettempdir()) / f"recsys-spark-{os.getuid() if hasattr(os, 'getuid') else 'loops'}" / name


@cache
def _state() -> str:
    """Name of all that compiled code depends on."""
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_"))
    parts = [_source(), sys.version, str(_numba_version()), platform.machine(), _processor(), *settings]
    return "loops-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = "vendor_id", "cpu family", "model", "flags", "Features", "CPU part"
    return "\n".join(sorted({line for line in lines if line.partition(":")[0].strip() in names}))


def _source() -> str:
    return resources.files(__package__).joinpath(_SOURCE).read_text(encoding="utf-8")


def _copied(folder: Path) -> Path:
    """Copy the source into the folder. Raises OSError if that is impossible, or if others could have written there."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    owners = {folder.parent.lstat().st_uid, folder.lstat().st_uid}
    if hasattr(os, "getuid") and (owners != {os.getuid()} or folder.lstat().st_mode & 0o022 or folder.is_symlink()):
        raise PermissionError(f"others may write to {folder}")
    target = folder / _SOURCE
    if not target.exists():
        draft = folder / f"{_SOURCE}.{os.getpid()}"
        draft.write_text(_source(), encoding="utf-8")
        os.utime(draft, (0, 0))  # older versions of numba compare it
        draft.replace(target)
    return target


def _loaded(source: Path, *, cached: bool) -> ModuleType:
    name = f"{__package__}.compiled_loops"
    spec = util.spec_from_file_location(name, source)
    assert spec is not None
    assert spec.loader is not None
    loops = util.module_from_spec(spec)
    loops.CACHED = cached  # type: ignore[attr-defined]
    sys.modules[name] = loops  # code from the disk finds its module by name; it would import it from the package
    try:
        spec.loader.exec_module(loops)
    except BaseException:
        del sys.modules[name]
        raise
    return loops
