"""What ran: the status files of the jobs and the commits of the tables → sections of a report."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from recsys_spark.lake.provenance import to_json
from recsys_spark.report.page import Block, Cell, Note, Section, Share, TableBlock
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import TABLES

Status = Mapping[str, Any]

_COSTS = {
    "texts_encoded": "texts encoded",
    "cache_hits": "texts found in the table",
    "tokens": "tokens",
    "padding_share": "share of padding",
    "unknown_share": "share of tokens that the model does not know",
    "tokens_per_second": "tokens a second",
    "task_memory_mb": "MB of Python memory a task, at most",
}

_TUNING = "fine_tune_encoder"


@dataclass(frozen=True)
class Statuses:
    """What jobs have left beside a lake, oldest first: the ``last`` run of every job and run date, and of those the
    last that published (``made``)."""

    last: Sequence[Status]
    made: Sequence[Status]

    def newest(self, *jobs: str, run_date: str | None = None) -> Status | None:
        """The last run of any of the jobs that published, or where none is known found nothing to do; of ``run_date``,
        where that is given."""
        last = [status for status in self.last if status.get("status") in ("unchanged", "done")]
        own = [one for one in (*last, *self.made) if one.get("job") in jobs]
        return next((one for one in reversed(own) if run_date in (None, str(one.get("run_date")))), None)

    def with_last(self, last: Status) -> "Statuses":
        """With the status that a job is about to leave, in the place of the one that it has left before."""
        about = [(one.get("job"), str(one.get("run_date"))) != (last["job"], last["run_date"]) for one in self.last]
        others = [one for one, other in zip(self.last, about, strict=True) if other]
        return Statuses([*others, last], [*self.made, last] if last.get("status") == "done" else self.made)


def statuses(run: Run) -> Statuses:
    """The status files of the lake."""
    filesystem, folder = FileSystem.from_uri(f"{run.lake.uri}/_status")
    selector = FileSelector(folder, recursive=True, allow_not_found=True)
    files = [f for f in filesystem.get_file_info(selector) if f.type == FileType.File and f.extension == "json"]
    last, made = list[Status](), list[Status]()
    for file in sorted(files, key=lambda file: (file.mtime_ns or 0, file.path)):
        with filesystem.open_input_file(file.path) as stream:
            status = json.loads(stream.read())
        (made if file.path.endswith(".done.json") else last).append(status)
    return Statuses(last, made)


def what_ran(run: Run, found: Statuses, run_date: str) -> Section:
    """Jobs, stages, cost, tables, configuration."""
    blocks: list[Block] = []
    if found.last:
        jobs = [[s.get("job"), str(s.get("run_date")), s.get("status"), s.get("seconds")] for s in found.last]
        blocks.append(TableBlock("Jobs that left their status", ("job", "run date", "status", "seconds"), jobs))
    else:
        blocks.append(Note("No job has left its status beside this lake."))
    last = found.newest("refresh_lake", "demo", run_date=run_date)
    if last is not None:
        blocks += _of_refresh(last)
    tables: list[list[Cell]] = []
    settings: list[list[Cell]] = []
    for table in TABLES.values():
        head = run.lake.last_commit(table)
        if head is not None:
            tables.append([table.name, head.version, run.lake.rows(table), head.key])
            settings += [
                [f"{table.name}: {name}", str(value)]
                for name, value in _flat(to_json(head.provenance, head.outcome))
                if value is not None
            ]
    blocks.append(TableBlock("Tables", ("table", "version", "rows", "made by"), tables))
    blocks.append(
        TableBlock("Configuration that the tables were made with", ("setting", "value"), settings, folded=True)
    )
    return Section("ran", "What ran", blocks)


def fine_tuning(found: Statuses) -> Section | None:
    """What the last fine-tuning of an encoder reported; None where there was none."""
    last = found.newest(_TUNING)
    if last is None:
        return None
    rows = [[name, str(value)] for name, value in _flat(last)]
    return Section("tuning", "Fine-tuning", [TableBlock("What the last run reported", ("figure", "value"), rows)])


def _of_refresh(last: Status) -> Iterator[Block]:
    if last.get("software"):
        models = {"model": "model_name", "model, fingerprint": "model"}
        rows = [*last["software"].items(), *((name, last[key]) for name, key in models.items() if key in last)]
        yield TableBlock(f"Versions that ran for {last['run_date']}", ("software", "version"), rows)
    if last.get("stages"):
        whole = sum(last["stages"].values()) or 1.0
        stages = [[name, float(seconds), Share(seconds / whole)] for name, seconds in last["stages"].items()]
        yield TableBlock("Duration of each stage", ("stage", "seconds", "share"), stages)
    costs = [[name, Share(last[key]) if "share" in key else last[key]] for key, name in _COSTS.items() if key in last]
    if costs:
        yield TableBlock("Cost", ("what", "how much"), costs)


def _flat(facts: Any, path: str = "") -> Iterator[tuple[str, Cell]]:
    """Settings and figures by their path, without what names inputs: versions, files, counts of rows."""
    if isinstance(facts, Mapping):
        for name, value in facts.items():
            if name != "losses" and (path or name not in ("inputs", "versions", "log", "judged")):
                yield from _flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(facts, list):
        yield path, ", ".join(map(str, facts))
    else:
        yield path, facts
