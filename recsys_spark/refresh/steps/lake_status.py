"""Tables of a lake: versions, sizes and who published them, from the commit logs alone."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table as View

from recsys_spark.errors import InputError
from recsys_spark.lake.clones import clone_mark, registered_clones
from recsys_spark.lake.lake import Lake
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.refresh.options import StatusOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import STREAMED_EVENTS, TABLES, Table

_JOBS = {"stream": "stream_profiles", "impressions": "recommend_items", "exposures": "recommend_items"}
"""Jobs whose runs have another name in run keys."""

_COLUMNS = ("rows", "bytes", "files", "version", "published", "job", "run_date", "run_key")


def lake_status(run: Run, options: StatusOptions) -> Report:
    """Print the tables of a lake and report them. No data file is read, and nothing is written.

    Raises:
        InputError: the lake has no tables.
    """
    lake = Lake(options.lake)
    tables = {table.name: status for table in TABLES.values() if (status := _table_status(lake, table)) is not None}
    if not tables:
        raise InputError(f"lake {lake.uri} has no tables")
    mark = clone_mark(lake.uri)
    report: Report = {"lake": lake.uri, "tables": {name: status["rows"] for name, status in tables.items()}}
    report |= {"published": tables, "clones": sorted(registered_clones(lake.uri).values())}
    report |= {"clone_of": mark.source} if mark is not None else {}
    _show(lake, tables)
    return report


def _table_status(lake: Lake, table: Table) -> dict[str, Any] | None:
    last = lake.last_commit(table)
    if last is None:
        return None
    files, provenance = lake.data_files(table), last.provenance
    day = provenance.run_date or (last.outcome.changes.run_date if last.outcome.changes is not None else None)
    status = {
        "rows": sum(files["num_records"].to_pylist()),
        "bytes": sum(files["size_bytes"].to_pylist()),
        "files": files.num_rows,
        "version": last.version,
        "published": f"{datetime.fromtimestamp(last.time / 1000, UTC):%Y-%m-%d %H:%M:%S}",
        "job": None if last.key is None else _JOBS.get(prefix := last.key.partition(":")[0], prefix),
        "run_date": None if day is None else str(day),
        "run_key": last.key,
    }
    if table is STREAMED_EVENTS:
        keys = (commit.key for commit in lake.history(table) if (commit.key or "").startswith("stream:"))
        stream = next(keys, None)
        status |= {"stream": stream, "last_batch": 0 if stream is None else lake.last_batch(table, stream)}
    return status


def _show(lake: Lake, tables: Mapping[str, Mapping[str, Any]]) -> None:
    console, view = Console(width=160, highlight=False, markup=False), View()
    for column in ("table", *_COLUMNS):
        view.add_column(column, justify="right" if column in ("rows", "bytes", "files", "version") else "left")
    for name, status in tables.items():
        view.add_row(name, *(_text(status[column]) for column in _COLUMNS))
    console.print(f"Lake {lake.uri}; times in UTC", style="bold")
    console.print(view)
    for name, status in tables.items():
        if "last_batch" in status:
            console.print(f"{name}: last batch {status['last_batch']:,} of {_text(status['stream'])}")


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
