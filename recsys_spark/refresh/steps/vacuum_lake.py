"""Remove files that no version of the last ``keep_hours`` refers to, and item blocks that no run has used since."""

from recsys_spark.blocks.steps.block_files import drop_unused_blocks
from recsys_spark.errors import InputError
from recsys_spark.lake.plain_files import COMPARISONS
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.refresh.options import VacuumOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import TABLES


def vacuum_lake(run: Run, options: VacuumOptions) -> Report:
    """Remove replaced versions and files of killed runs from every table, and unused item blocks.

    Raises:
        InputError: the lake has no tables.
    """
    tables = [table for table in TABLES.values() if run.lake.version(table) is not None]
    if not tables:
        raise InputError(f"lake {run.lake.uri} has no tables")
    removed = {t.name: len(run.lake.vacuum(t, options.keep_hours, dry_run=options.dry_run)) for t in tables}
    removed = {name: number for name, number in removed.items() if number}
    blocks = sum(
        drop_unused_blocks(folder, options.keep_hours, run.lake.plain.clock(), dry_run=options.dry_run)
        for folder in [*run.lake.plain.folders("_blocks"), f"{run.lake.uri}/{COMPARISONS}"]
    )
    status = "done" if removed or blocks else "unchanged"
    return {"status": status, "tables": {}, "files_removed": removed, "blocks_removed": blocks}
