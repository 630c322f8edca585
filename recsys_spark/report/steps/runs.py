"""Status files of the jobs and commits of the tables → sections of a report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from recsys_spark.lake.provenance import to_json
from recsys_spark.report.page import Cell, Element, Note, Section, Share, TableElement
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import TABLES

Status = Mapping[str, Any]

_COSTS = {
    "texts_encoded": "texts encoded",
    "cache_hits": "texts already embedded",
    "tokens": "tokens",
    "padding_share": "padding share",
    "unknown_share": "share of tokens unknown to the model",
    "tokens_per_second": "tokens per second",
    "task_memory_mb": "Python memory of a task, at most (MB)",
}

_TUNING = "fine_tune_encoder"


@dataclass(frozen=True)
class Statuses:
    """The status files of a lake, oldest first.

    ``last``: the last run of every job and run date. ``published``: the last of these that published something.
    """

    last: Sequence[Status]
    published: Sequence[Status]

    def newest(self, *jobs: str, run_date: str | None = None) -> Status | None:
        """The last run of any of the jobs that published; without one, the last that had nothing to do.

        With ``run_date``, only runs for that date count.
        """
        last = [status for status in self.last if status.get("status") in ("unchanged", "done")]
        runs = [one for one in (*last, *self.published) if one.get("job") in jobs]
        return next((one for one in reversed(runs) if run_date in (None, str(one.get("run_date")))), None)

    def with_last(self, last: Status) -> "Statuses":
        """Replace the status of a job and run date by the one that the running job will write."""
        key = last["job"], last["run_date"]
        others = [one for one in self.last if (one.get("job"), str(one.get("run_date"))) != key]
        return Statuses([*others, last], [*self.published, last] if last.get("status") == "done" else self.published)


def statuses(run: Run) -> Statuses:
    """Read the status files of the lake."""
    filesystem, folder = FileSystem.from_uri(f"{run.lake.uri}/_status")
    selector = FileSelector(folder, recursive=True, allow_not_found=True)
    files = [f for f in filesystem.get_file_info(selector) if f.type == FileType.File and f.extension == "json"]
    last, published = list[Status](), list[Status]()
    for file in sorted(files, key=lambda file: (file.mtime_ns or 0, file.path)):
        with filesystem.open_input_file(file.path) as stream:
            status = json.loads(stream.read())
        (published if file.path.endswith(".done.json") else last).append(status)
    return Statuses(last, published)


def job_runs(run: Run, status: Statuses, run_date: str) -> Section:
    """Jobs, stages, cost, tables, settings."""
    elements: list[Element] = []
    if status.last:
        jobs = [[s.get("job"), str(s.get("run_date")), s.get("status"), s.get("seconds")] for s in status.last]
        elements.append(TableElement("Last run of each job", ("job", "run date", "status", "seconds"), jobs))
    else:
        elements.append(Note("This lake has no status files of jobs."))
    last = status.newest("refresh_lake", "demo", run_date=run_date)
    if last is not None:
        elements += _of_refresh(last)
    tables: list[list[Cell]] = []
    settings: list[list[Cell]] = []
    for table in TABLES.values():
        commit = run.lake.last_commit(table)
        if commit is not None:
            tables.append([table.name, commit.version, run.lake.rows(table), commit.key])
            settings += [
                [f"{table.name}: {name}", str(value)]
                for name, value in _flat(to_json(commit.provenance, commit.outcome))
                if value is not None
            ]
    elements.append(TableElement("Tables", ("table", "version", "rows", "run key"), tables))
    elements.append(TableElement("Settings of the tables", ("setting", "value"), settings, folded=True))
    return Section("ran", "Runs", elements)


def fine_tuning(status: Statuses) -> Section | None:
    """Figures of the last fine-tuning of an encoder; None without one."""
    last = status.newest(_TUNING)
    if last is None:
        return None
    rows = [[name, str(value)] for name, value in _flat(last)]
    return Section("tuning", "Fine-tuning", [TableElement("Figures of the last run", ("figure", "value"), rows)])


def _of_refresh(last: Status) -> Iterator[Element]:
    if last.get("software"):
        models = {"model": "model_name", "model, fingerprint": "model"}
        rows = [*last["software"].items(), *((name, last[key]) for name, key in models.items() if key in last)]
        yield TableElement(f"Software versions, run date {last['run_date']}", ("software", "version"), rows)
    if last.get("stages"):
        total = sum(last["stages"].values()) or 1.0
        stages = [[name, float(seconds), Share(seconds / total)] for name, seconds in last["stages"].items()]
        yield TableElement("Duration of each stage", ("stage", "seconds", "share"), stages)
    costs = [[name, Share(last[key]) if "share" in key else last[key]] for key, name in _COSTS.items() if key in last]
    if costs:
        yield TableElement("Cost", ("figure", "value"), costs)


def _flat(content: Any, path: str = "") -> Iterator[tuple[str, Cell]]:
    """Settings and figures by their path, without the entries about inputs: versions, files, counts of rows."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            if name != "losses" and (path or name not in ("inputs", "versions", "log", "judged")):
                yield from _flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(content, list):
        yield path, ", ".join(map(str, content))
    else:
        yield path, content
