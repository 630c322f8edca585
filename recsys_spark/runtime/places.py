"""Where jobs and configuration files lie: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

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
