"""Where jobs and configuration files lie: beside the package in a checkout, inside it in an installed wheel."""

import difflib
from pathlib import Path

from recsys_spark.errors import InputError, UsageError

_PACKAGE = Path(__file__).resolve().parents[1]


def home() -> Path:
    """The folder that holds ``jobs/`` and ``conf/``.

    Found from the job's script where one runs: the package itself may be in a zip then.
    """
    import __main__

    script = Path(getattr(__main__, "__file__", None) or __file__).resolve()
    if script.parent.name == "jobs" and (script.parent.parent / "conf").is_dir():
        return script.parent.parent
    return _PACKAGE if (_PACKAGE / "jobs").is_dir() else _PACKAGE.parent


def is_installed() -> bool:
    """Whether jobs and configuration come from an installed package and not from a checkout."""
    return (home() / "__init__.py").is_file()


def command() -> str:
    """The command that starts a job, for help and messages."""
    return "recsys-spark" if is_installed() else "./spark-submit.sh"


def shipped(path: Path) -> Path:
    """The path of a file that the user named. On a driver within a cluster it is the copy in the working folder, where
    spark-submit puts shipped files."""
    copy = Path(path.name)
    return copy if not path.is_file() and copy.is_file() else path


def configuration_file(kind: str, name: str, *more: Path) -> Path:
    """``conf/<kind>s/<name>.toml``, or ``<name>.toml`` in a folder of ``more``; the file itself where ``name`` ends in
    .toml.

    Raises:
        UsageError: there is no file of this name; the nearest is suggested.
        InputError: the file itself does not exist.
    """
    if name.endswith(".toml"):
        path = shipped(Path(name))
        if not path.is_file():
            raise InputError(f"{kind} file {name} does not exist")
        return path
    own = home() / "conf" / f"{kind}s"
    for folder in (own, *more):
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    names = sorted(path.stem for path in own.glob("*.toml"))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"unknown {kind} '{name}'{hint} (known: {', '.join(names)}; or a path that ends in .toml)")
