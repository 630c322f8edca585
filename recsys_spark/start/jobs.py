"""The jobs that there are, read from their scripts without running them."""

import ast
import difflib
from pathlib import Path

from recsys_spark.errors import UsageError
from recsys_spark.runtime.places import home


def job_scripts() -> dict[str, Path]:
    """The scripts by the names of the jobs."""
    return {path.stem: path for path in sorted((home() / "jobs").glob("*.py"))}


def job_script(name: str) -> Path:
    """The script of a job.

    Raises:
        UsageError: there is no such job; the nearest names are suggested.
    """
    scripts = job_scripts()
    if name in scripts:
        return scripts[name]
    near = difflib.get_close_matches(name, scripts)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"there is no job '{name}'.{hint} Jobs: {' '.join(scripts)}")


def first_line(script: Path) -> str:
    """What a job does, in one line."""
    return (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def is_without_spark(script: Path) -> bool:
    """Whether the job needs neither Java nor a cluster: its ``Job`` says so. spark-submit.sh reads it too."""
    return "without_spark=True" in script.read_text(encoding="utf-8")
