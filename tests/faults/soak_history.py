"""What a soak run must never show: judges the commits of two tables by the notes that writers and readers took.

The snapshot table holds one row per writer, ``item_id`` its name and ``neighbor_id`` "1": ``weight`` is the number of
its updates. Each update replaces the whole table, as a refresh does. The log table only grows: one row per update.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileSystem

Counts = dict[str, int]


@dataclass
class History:
    """What happened to the two tables."""

    snapshots: list[Counts]
    """Of each version, the number of updates by writer."""
    log: Counter[tuple[str, int]]
    """How often the newest version of the log holds each (writer, number)."""
    acknowledged: list[tuple[str, str, int]] = field(default_factory=list)
    """(table, writer, number) of the commits that a writer was told had been made."""
    tried: list[tuple[str, str, int]] = field(default_factory=list)
    reads: dict[str, list[tuple[int, Counts]]] = field(default_factory=dict)
    """By reader: (version, what it showed) of the snapshot table, in the order of the reads."""


def faults_of(history: History) -> list[str]:
    """In words, everything that contradicts one order of whole commits, each made once."""
    return [*_updates(history), *_lost(history), *_log(history), *_reads(history)]


def _updates(history: History) -> list[str]:
    """Every version is the one before it, with one update of one writer more."""
    found, before = [], Counts()
    for version, now in enumerate(history.snapshots):
        moved = {name: now.get(name, 0) - before.get(name, 0) for name in now | before}
        if sorted(step for step in moved.values() if step) not in ([1], []):
            found.append(f"snapshot version {version}: {before} became {now}")
        before = now
    return found


def _lost(history: History) -> list[str]:
    final = history.snapshots[-1] if history.snapshots else {}
    told = [(writer, number) for table, writer, number in history.acknowledged if table == "snapshot"]
    return [f"update {number} of {writer} is lost" for writer, number in told if final.get(writer, 0) < number]


def _log(history: History) -> list[str]:
    told = {(writer, number) for table, writer, number in history.acknowledged if table == "log"}
    tried = {(writer, number) for table, writer, number in history.tried if table == "log"}
    return [
        *(f"row {row} of the log is lost" for row in sorted(told - set(history.log))),
        *(f"row {row} stands {number} times in the log" for row, number in sorted(history.log.items()) if number > 1),
        *(f"row {row} of the log was never written" for row in sorted(set(history.log) - tried)),
    ]


def _reads(history: History) -> list[str]:
    found = []
    for reader, reads in history.reads.items():
        last = -1
        for version, shown in reads:
            if version < last:
                found.append(f"{reader} read version {version} after {last}")
            if version >= len(history.snapshots) or shown != history.snapshots[version]:
                found.append(f"{reader} read {shown} as version {version}")
            last = version
    return found


def commits_of(uri: str) -> list[list[str]]:
    """The files that each version of a table shows, from the commit log as it lies there."""
    filesystem, folder = FileSystem.from_uri(uri)
    names = [info.path for info in filesystem.get_file_info(FileSelector(f"{folder}/_delta_log"))]
    shown, versions = dict[str, bool](), []
    for path in sorted(path for path in names if path.endswith(".json") and path.rpartition("/")[2][:20].isdigit()):
        with filesystem.open_input_file(path) as stream:
            actions = [json.loads(line) for line in stream.read().decode().splitlines() if line]
        for action in actions:
            if "remove" in action:
                shown.pop(action["remove"]["path"], None)
        shown |= {action["add"]["path"]: True for action in actions if "add" in action}
        versions.append([f"{folder}/{path}" for path in shown])
    return versions


def counts_of(rows: Sequence[dict]) -> Counts:
    """Rows of the snapshot table as counts."""
    return {row["item_id"]: int(row["weight"]) for row in rows}


def history_of(snapshot_uri: str, log_uri: str, notes: Sequence[Path]) -> History:
    """The history that two tables and the notes of all processes tell."""
    filesystem, _ = FileSystem.from_uri(snapshot_uri)
    snapshots = [
        counts_of([row for path in files for row in pq.read_table(path, filesystem=filesystem).to_pylist()])
        for files in commits_of(snapshot_uri)
    ]
    rows = [
        (row["item_id"], int(row["neighbor_id"]))
        for path in commits_of(log_uri)[-1]
        for row in pq.read_table(path, filesystem=filesystem).to_pylist()
    ]
    history = History(snapshots, Counter(rows))
    for path in notes:
        for line in path.read_text(encoding="utf-8").splitlines():
            what, *told = json.loads(line)
            if what == "read":
                history.reads.setdefault(path.stem, []).append((told[0], told[1]))
            else:
                (history.acknowledged if what == "made" else history.tried).append(tuple(told))
    return history
