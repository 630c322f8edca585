"""What ran: the status files of the jobs and the commits of the tables → sections of a report."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType

from recsys_spark.job import Run
from recsys_spark.report_page import Block, Cell, Note, Section, TableBlock
from recsys_spark.tables import TABLES

Status = Mapping[str, Any]
_COSTS = {
    "texts_encoded": "texts encoded",
    "cache_hits": "texts found in the table",
    "tokens": "tokens",
    "padding_share": "share of padding",
    "tokens_per_second": "tokens a second",
    "task_memory_mb": "MB of Python memory a task, at most",
}
_TUNING = "fine_tune_encoder"


def statuses(run: Run) -> list[Status]:
    """The last JSON of every job and run date that lies beside the lake, by job and date."""
    filesystem, folder = FileSystem.from_uri(f"{run.lake.uri}/_status")
    selector = FileSelector(folder, recursive=True, allow_not_found=True)
    found = []
    for file in sorted(filesystem.get_file_info(selector), key=lambda file: file.path):
        if file.type == FileType.File and file.extension == "json":
            with filesystem.open_input_file(file.path) as stream:
                found.append(json.loads(stream.read()))
    return found


def newest(found: list[Status], *jobs: str) -> Status | None:
    """The status of the newest run date of any of the jobs that was not a failure."""
    done = [status for status in found if status.get("job") in jobs and status.get("status") in ("done", "unchanged")]
    return max(done, key=lambda status: (str(status.get("run_date")), jobs.index(status["job"])), default=None)


def what_ran(run: Run, found: list[Status]) -> Section:
    """Jobs, stages, cost, tables, configuration."""
    blocks: list[Block] = []
    if found:
        jobs = [[s.get("job"), str(s.get("run_date")), s.get("status"), s.get("seconds")] for s in found]
        blocks.append(TableBlock("Jobs that left their status", ("job", "run date", "status", "seconds"), jobs))
    else:
        blocks.append(Note("No job has left its status beside this lake."))
    last = newest(found, "refresh_lake", "demo")
    if last is not None:
        blocks += _of_refresh(last)
    tables: list[list[Cell]] = []
    settings: list[list[Cell]] = []
    for table in TABLES.values():
        head = run.lake.head(table)
        if head is not None:
            tables.append([table.name, head.version, run.lake.rows(table), head.key])
            settings += [
                [f"{table.name}: {name}", str(value)] for name, value in _flat(head.facts) if value is not None
            ]
    blocks.append(TableBlock("Tables", ("table", "version", "rows", "made by"), tables))
    blocks.append(
        TableBlock("Configuration that the tables were made with", ("setting", "value"), settings, folded=True)
    )
    return Section("ran", "What ran", blocks)


def fine_tuning(found: list[Status]) -> Section | None:
    """What the last fine-tuning of an encoder reported; None where there was none."""
    last = newest(found, _TUNING)
    if last is None:
        return None
    rows = [[name, str(value)] for name, value in _flat(last)]
    return Section("tuning", "Fine-tuning", [TableBlock("What the last run reported", ("figure", "value"), rows)])


def _of_refresh(last: Status) -> Iterator[Block]:
    if last.get("software"):
        rows = [[name, version] for name, version in last["software"].items()]
        yield TableBlock(f"Versions that ran for {last['run_date']}", ("software", "version"), rows)
    if last.get("stages"):
        stages = [[name, float(seconds)] for name, seconds in last["stages"].items()]
        yield TableBlock("Duration of each stage", ("stage", "seconds"), stages)
    costs = [[name, last[key]] for key, name in _COSTS.items() if key in last]
    if costs:
        yield TableBlock("Cost", ("what", "how much"), costs)


def _flat(facts: Any, path: str = "") -> Iterator[tuple[str, Cell]]:
    """Settings and figures by their path, without what names inputs."""
    if isinstance(facts, Mapping):
        for name, value in facts.items():
            if path or name not in ("inputs", "versions"):
                yield from _flat(value, f"{path}.{name}" if path else str(name))
    elif isinstance(facts, list):
        yield path, ", ".join(map(str, facts))
    else:
        yield path, facts
