"""Show the tables of an earlier night again: new commits name their files, and no file is written or removed."""

from recsys_spark.lake.lake import Commit, Lake
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.refresh.options import RestoreOptions
from recsys_spark.refresh.steps.night_versions import SNAPSHOTS, night_versions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import RECOMMENDATIONS, Table


def restore_lake(run: Run, options: RestoreOptions) -> Report:
    """Restore every table that a night replaces to its version of the night of ``run_date``, the lists last.

    All versions are checked before the first commit. Each table changes in one commit; a run that was killed between
    two of them is completed by the same command, since tables that show the night already are left alone. The commits
    repeat run key and provenance of the old ones, so the next refresh starts from the restored night.

    Raises:
        InputError: the lake has no lists of that night, or not all of their tables can be restored.
        ConflictError: another run published a table meanwhile.
    """
    lake = run.lake
    versions = night_versions(lake, options.run_date)
    later = {table: commit for table, commit in versions.items() if not _shows(lake, table, commit)}
    report: Report = {
        "status": "done" if later else "unchanged",
        "tables": {},
        "restored": {table.name: _difference(lake, table, commit) for table, commit in later.items()},
        "left": [t.name for t in SNAPSHOTS if t not in versions and lake.version(t) is not None],
    }
    if not options.dry_run:
        for table, commit in sorted(later.items(), key=lambda pair: pair[0] is RECOMMENDATIONS):
            lake.restore(table, commit)
            run.progress.note(f"table '{table.name}' shows version {commit.version} again")
        report["tables"] = {table.name: lake.rows(table) for table in versions}
    return report


def _shows(lake: Lake, table: Table, commit: Commit) -> bool:
    """Whether the newest version has the files of ``commit``."""
    last = lake.last_commit(table)
    assert last is not None
    return {*lake.file_uris(table, last.version)} == {*lake.file_uris(table, commit.version)} and last.key == commit.key


def _difference(lake: Lake, table: Table, commit: Commit) -> dict[str, int]:
    """The version before and the version that is shown again, and how many were published in between."""
    newer = [later.version for later in lake.history(table) if later.version > commit.version]
    return {"from_version": newer[0], "to_version": commit.version, "later_versions": len(newer)}
