"""Writes conf/JOB.toml of every job from the descriptions of its keys: ``PYTHONPATH=. python tests/write_toml.py``."""

import importlib.util
from pathlib import Path
from typing import Any

from recsys_spark.runtime.help import toml_text

ROOT = Path(__file__).resolve().parent.parent


def job_of(script: Path) -> Any:
    """The ``Job`` of a script in jobs/."""
    spec = importlib.util.spec_from_file_location(f"job_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.JOB


def outdated() -> dict[Path, str]:
    """The TOML files that are not what they should be, with what they should be."""
    wanted = {}
    for script in sorted((ROOT / "jobs").glob("*.py")):
        job, path = job_of(script), ROOT / "conf" / f"{script.stem}.toml"
        wanted[path] = toml_text(job.options, job.description)
    return {path: text for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text}


if __name__ == "__main__":
    for path, text in outdated().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
