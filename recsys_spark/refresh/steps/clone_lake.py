"""A lake of its own with the tables of another one: hard links to its data files where the disk has them."""

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pyarrow.fs import FileSelector, FileSystem

from recsys_spark.errors import UsageError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.lake.clones import CloneMark, clone_file, clone_mark, clone_table, register_clone, write_mark
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.lake_key import NAME, lake_key
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.refresh.options import CloneOptions
from recsys_spark.refresh.steps.night_versions import SNAPSHOTS, night_versions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import FORGOTTEN, RECOMMENDATIONS, TABLES, Table


def clone_lake(run: Run, options: CloneOptions) -> Report:
    """Make a new lake with the newest tables of this one, or with those of the night of ``run_date``.

    The clone has the logs up to those versions, and the files of these and of the versions that they were made from: a
    night there is incremental. Tombstones and their key are cloned too, and the source notes the clone, so that
    ``forget_users`` also forgets there. A run that was killed is completed by the same command.

    Raises:
        InputError: there is no such night, or a file is missing.
        UsageError: there is something else at the place of the clone.
    """
    lake, clone = run.lake, Lake(options.to)
    mark = _mark(lake, clone, options)
    report: Report = {"status": "done", "tables": {}, "clone": clone.uri, "versions": dict(mark.versions)}
    if mark.complete or options.dry_run:
        return report | {"status": "unchanged"}
    register_clone(lake.uri, mark.name, clone.uri)
    write_mark(clone.uri, mark)
    if lake_key(lake.uri) is not None:
        clone_file(f"{lake.uri}/{NAME}", f"{clone.uri}/{NAME}")
    ways, pinned = Counter[str](), _pinned(lake, mark.versions)
    tables = [TABLES[name] for name in mark.versions]
    for table in sorted(tables, key=lambda table: (table is RECOMMENDATIONS, table is not FORGOTTEN)):
        failpoint("commit.before", table.name)
        version = mark.versions[table.name]
        files = _files(lake, table, version, pinned.get(table.name, set()))
        ways.update(clone_table(lake.table_uri(table), clone.table_uri(table), version, files))
    write_mark(clone.uri, replace(mark, complete=True))
    report["tables"] = {table.name: clone.rows(table) for table in tables}
    return report | {f"files_{way}": number for way, number in ways.items()}


def _mark(lake: Lake, clone: Lake, options: CloneOptions) -> CloneMark:
    """The mark of an unfinished clone of this lake, or one with the versions of now.

    Raises:
        UsageError: another lake, or anything else, is at the place of the clone.
    """
    if f"{clone.uri}/".startswith(f"{lake.uri}/") or f"{lake.uri}/".startswith(f"{clone.uri}/"):
        raise UsageError(f"--to={clone.uri} and --lake={lake.uri} lie in each other: give the clone its own folder")
    night = None if options.run_date is None else str(options.run_date)
    if (mark := clone_mark(clone.uri)) is not None:
        if (mark.source, mark.run_date) == (lake.uri, night):
            return mark
        made = f"{mark.source}, {'newest versions' if mark.run_date is None else f'night of {mark.run_date}'}"
        raise UsageError(f"--to={clone.uri} is a clone already, of {made}: give another folder")
    filesystem, folder = FileSystem.from_uri(clone.uri)
    if filesystem.get_file_info(FileSelector(folder, allow_not_found=True)):
        raise UsageError(f"--to={clone.uri} is not empty: give a folder that does not exist")
    versions = {name: version for name, table in TABLES.items() if (version := lake.version(table)) is not None}
    if options.run_date is not None:
        commits = night_versions(lake, options.run_date)
        versions = {name: version for name, version in versions.items() if TABLES[name] not in SNAPSHOTS}
        versions |= {table.name: commit.version for table, commit in commits.items()}
    if not versions:
        raise UsageError(f"lake {lake.uri} has no tables to clone")
    return CloneMark(uuid.uuid4().hex, lake.uri, versions, night)


def _pinned(lake: Lake, versions: Mapping[str, int]) -> dict[str, set[int]]:
    """By table, the versions that the tables at these ``versions`` were made from."""
    pinned: dict[str, set[int]] = {}
    for name, version in versions.items():
        commit = next((commit for commit in lake.history(TABLES[name]) if commit.version <= version), None)
        provenance = Provenance() if commit is None else commit.provenance
        for other, number in (provenance.versions or {}).items():
            pinned.setdefault(other, set()).add(number)
    return pinned


def _files(lake: Lake, table: Table, version: int, pinned: set[int]) -> list[str]:
    """Names of the files of a version, and of the ``pinned`` ones before it that can be read."""
    readable = {number for number in pinned if number < version and lake.can_read(table, number)}
    return sorted({uri.rpartition("/")[2] for number in {version, *readable} for uri in lake.file_uris(table, number)})
