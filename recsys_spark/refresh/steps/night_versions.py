"""The versions of all tables that belong to the lists of one night."""

from datetime import date

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Commit, Lake
from recsys_spark.tables.schemas import (
    EVENTS,
    FORGOTTEN,
    ITEM_NEIGHBORS,
    ITEM_VECTORS,
    ITEM_WEIGHTS,
    ITEMS,
    QUARANTINE,
    RECOMMENDATIONS,
    RULE_AUDIT,
    USER_PROFILES,
    USER_RULES,
    USERS,
    Table,
)

SNAPSHOTS = (
    QUARANTINE, ITEMS, USERS, USER_RULES, EVENTS, ITEM_VECTORS, ITEM_NEIGHBORS, USER_PROFILES, ITEM_WEIGHTS,
    RULE_AUDIT, RECOMMENDATIONS,
)  # fmt: skip
"""Tables that a night replaces, in the order in which it publishes them. All others only grow: vectors are named by
their text and encoder, logs and evaluations by their night, and tombstones must never be taken back."""

_REMEDY = "Make the night again, by refresh_lake with that run_date"


def night_versions(lake: Lake, run_date: date) -> dict[Table, Commit]:
    """The commit of each snapshot that the newest lists of ``run_date`` were made from, and that of the lists.

    A version that the lists name as their input is taken by its number. Of other tables it is the newest that was
    published before the lists: a night publishes its lists last. Tables without a version at that time are left out.

    Raises:
        InputError: there are no lists of that night, users were forgotten since, or files of its versions are missing.
    """
    lists = _lists(lake, run_date)
    commits = {table: _commit_of_night(lake, table, lists, run_date) for table in SNAPSHOTS}
    versions = {table: commit for table, commit in commits.items() if commit is not None}
    _check_forgotten(lake, versions, run_date)
    _check_files(lake, versions, run_date)
    return versions


def _commit_of_night(lake: Lake, table: Table, lists: Commit, run_date: date) -> Commit | None:
    if table is RECOMMENDATIONS:
        return lists
    pinned, identities = (lists.provenance.versions or {}).get(table.name), lists.provenance.identities or {}
    if pinned is None:
        return next((commit for commit in lake.history(table) if commit.time <= lists.time), None)
    for commit in lake.history(table):
        if commit.version == pinned and commit.identity == identities.get(table.name):
            return commit
    raise InputError(
        f"lake {lake.uri} no longer has version {pinned} of table '{table.name}', from which the lists of {run_date} "
        f"were made: the table was made again, or its log was cleaned up. {_REMEDY}"
    )


def _lists(lake: Lake, run_date: date) -> Commit:
    nights = []
    for commit in lake.history(RECOMMENDATIONS):
        if commit.provenance.run_date == run_date:
            return commit
        nights += [str(commit.provenance.run_date)] if commit.provenance.run_date else []
    nights_in_log = ", ".join(sorted(set(nights))[-10:]) or "none"
    raise InputError(f"lake {lake.uri} has no lists of {run_date}; the last nights in its log: {nights_in_log}")


def _check_forgotten(lake: Lake, versions: dict[Table, Commit], run_date: date) -> None:
    stones, events = lake.last_commit(FORGOTTEN), versions.get(EVENTS)
    if stones is not None and (events is None or events.provenance.forgotten != stones.content_id):
        raise InputError(
            f"users or items were forgotten since the night of {run_date}, and its tables may hold them. {_REMEDY}"
        )


def _check_files(lake: Lake, versions: dict[Table, Commit], run_date: date) -> None:
    missing = [table.name for table, commit in versions.items() if not lake.can_read(table, commit.version)]
    if missing:
        raise InputError(
            f"files of the night of {run_date} are missing in table {', '.join(missing)}: vacuum_lake or forget_users "
            f"removed them, or a disk lost them. {_REMEDY}"
        )
