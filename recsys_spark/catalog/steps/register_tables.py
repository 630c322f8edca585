"""Write the SQL that shows the tables of a lake in a catalogue."""

from pathlib import Path

from recsys_spark.catalog.options import CatalogOptions
from recsys_spark.catalog.statements import statements
from recsys_spark.errors import InputError, UsageError
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.paths import delta_uri
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import TABLES, Table


def register_tables(run: Run, options: CatalogOptions) -> Report:
    """Print the statements, or write them to a file. Neither the lake nor the catalogue is changed.

    Raises:
        UsageError: an unknown table, or a schema of another form than the dialect takes.
        InputError: the lake has no tables, or not the ones that are named.
    """
    lake = Lake(options.lake)
    tables = _wanted(lake, options.tables)
    location = (options.location or delta_uri(lake.uri)).rstrip("/")
    lines = statements(options.dialect, options.target, {table: f"{location}/{table.name}" for table in tables})
    sql = "\n".join(lines) + "\n"
    if options.output is None:
        print(sql, end="")
    elif not options.dry_run:
        Path(options.output).write_text(sql, encoding="utf-8")
    report: Report = {"lake": lake.uri, "dialect": options.dialect, "statements": len(lines)}
    return report | {"registered": [table.name for table in tables], "output": options.output}


def _wanted(lake: Lake, named: str | None) -> list[Table]:
    names = [name.strip() for name in named.split(",")] if named else list(TABLES)
    if unknown := [name for name in names if name not in TABLES]:
        raise UsageError(f"tables: there is no table '{unknown[0]}'; the tables are {', '.join(TABLES)}")
    missing = [name for name in names if lake.version(TABLES[name]) is None]
    if named and missing:
        raise InputError(f"table '{missing[0]}' is not in lake {lake.uri}")
    present = [TABLES[name] for name in names if name not in missing]
    if not present:
        raise InputError(f"lake {lake.uri} has no tables")
    return present
