"""Files that no version younger than ``keep_hours`` names: old versions, and what killed runs left behind."""

from recsys_spark.errors import InputError
from recsys_spark.job import Run
from recsys_spark.refresh_options import VacuumOptions
from recsys_spark.steps.publishing import Report
from recsys_spark.tables import TABLES


def vacuum(run: Run, options: VacuumOptions) -> Report:
    """Remove them from every table."""
    tables = [table for table in TABLES.values() if run.lake.version(table) is not None]
    if not tables:
        raise InputError(f"lake {run.lake.uri} has no tables")
    gone = {t.name: len(run.lake.vacuum(t, options.keep_hours, dry_run=options.dry_run)) for t in tables}
    found = {name: number for name, number in gone.items() if number}
    return {"status": "done" if found else "unchanged", "tables": {}, "files_removed": found}
