"""Commit staged files atomically: the version of the log that is checked is the version that is replaced."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow.fs import FileSystem, FileType

from recsys_spark.errors import ConflictError, InputError, RetryError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.paths import absolute, delta_uri
from recsys_spark.lake.provenance import Outcome, Provenance, from_json, to_json
from recsys_spark.tables.descriptions import described_schema, description
from recsys_spark.tables.schemas import Table
from recsys_spark.tables.task_stream import TaskStats

_KEY, _CONTENT, _RECORD, _RESTORED = "recsys_run_key", "recsys_content", "recsys_inputs", "recsys_restored"

_UPKEEP = {"VACUUM START", "VACUUM END", "OPTIMIZE", "ADD COLUMN"}

_ATTEMPTS = 20  # only upkeep can refuse one: a vacuum makes two commits


@dataclass(frozen=True)
class Commit:
    """A commit that may have changed the rows of a table. Commits of other writers have no key, content or metadata."""

    version: int
    identity: str
    key: str | None
    content: str | None
    provenance: Provenance
    outcome: Outcome
    time: int = 0
    """By the clock of the writer, ms since 1970. No row depends on it."""

    @property
    def content_id(self) -> str:
        """The identity of the rows. It is the content where the commit records it, so that the same rows published
        again are no change for readers; else table id and version, since a recreated table counts from 0 again."""
        return f"content:{self.content}" if self.content else f"{self.identity}@{self.version}"


@dataclass(frozen=True)
class Staged:
    """Files that executors wrote and no commit names yet."""

    table: Table
    actions: list[AddAction]
    rows: int
    stats: list[TaskStats]
    content: str | None = None
    base: int | None = None
    """``Commit.version`` when the work began. A commit onto another version would lose an update."""
    added: int | None = None
    """Rows of the files if they are appended to ``base``; None if they replace it."""


def content_of(rows: int, digest: int) -> str:
    """Identify rows by their number and the sum of their digests."""
    return f"{rows}-{digest % 2**64:016x}"


def as_append(staged: Staged, last: Commit) -> Staged:
    """Turn staged files into an append to the rows of ``last``, which must record its content."""
    assert last.content is not None
    assert staged.content is not None
    (rows, digest), (added, added_digest) = (content.split("-") for content in (last.content, staged.content))
    content = content_of(int(rows) + int(added), int(digest, 16) + int(added_digest, 16))
    return replace(staged, rows=int(rows) + int(added), added=int(added), content=content, base=last.version)


def open_table(uri: str, version: int | None = None) -> DeltaTable | None:
    """Open a version of the table at ``uri``, by default the newest; None if there is no table.

    Raises:
        InputError: the log is damaged, or the version does not exist.
        RetryError: the store does not answer.
    """
    try:
        return DeltaTable(delta_uri(uri), version=version)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        lake, _, name = uri.rpartition("/")
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"table '{name}' in lake {lake} cannot be read: {one_line(error)}") from error


def data_files_of(delta: DeltaTable, *, flatten: bool = True) -> pa.Table:
    """The data files of the opened version: ``path``, ``size_bytes``, ``modification_time``, ``num_records`` and more.

    ``flatten``: columns such as ``partition.day`` in place of a struct ``partition``.

    ``pa.table`` would give the same and load pandas, for half of the time that a run with nothing to do takes.
    """
    actions = delta.get_add_actions(flatten=flatten)
    if hasattr(actions, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(actions).read_all()
    return pa.Table.from_batches([pa.record_batch(actions)])  # a record batch in earlier releases of deltalake


def last_commit_of(delta: DeltaTable) -> Commit:
    """The newest commit up to the opened version, upkeep left out."""
    return next(commits_of(delta))


def commits_of(delta: DeltaTable) -> Iterator[Commit]:
    """The commits up to the opened version, newest first, upkeep left out; at least one.

    They are read from the log itself: ``history`` includes commits after the opened version, under wrong numbers.
    """
    filesystem, folder = FileSystem.from_uri(absolute(delta.table_uri))
    identity, version, only_upkeep = str(delta.metadata().id), delta.version(), True
    for number in range(version, -1, -1):
        entry = _commit_info(filesystem, f"{folder.rstrip('/')}/_delta_log/{number:020}.json")
        if entry is None:  # cleaned up behind a checkpoint
            break
        version = number
        if entry.get("operation") not in _UPKEEP:
            only_upkeep, record = False, from_json(json.loads(entry.get(_RECORD, "{}")))
            yield Commit(
                version, identity, entry.get(_KEY), entry.get(_CONTENT), *record, int(entry.get("timestamp", 0))
            )
    if only_upkeep:
        yield Commit(version, identity, None, None, Provenance(), Outcome())


def _commit_info(filesystem: FileSystem, path: str) -> dict[str, Any] | None:
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    with filesystem.open_input_file(path) as file:
        lines = map(json.loads, file.read().splitlines())
        return dict(next((line["commitInfo"] for line in lines if "commitInfo" in line), {}))


def commit_files(
    uri: str,
    staged: Staged,
    key: str,
    record: Mapping[str, Any],
    *,
    append: bool,
    exclusive: bool = False,
    appends_before: int | None = None,
    batch: int | None = None,
) -> int:
    """Commit the staged files. Returns a version that shows them.

    The version that is checked is the version that is replaced: the next attempt sees a commit in between. A vacuum in
    between is no conflict, since it changes no rows.

    Args:
        uri: of the table.
        staged: the files.
        key: of the run.
        record: provenance and outcome, as JSON.
        append: add to the rows of the table; else replace them.
        exclusive: append only to the version that was shown when the work began.
        appends_before: number of appends of the run ``key`` before the work began; by default, until now.
        batch: of a stream ``key``: number of this append, counted from 1. An append of this number or a later one is
            published already.

    Raises:
        ConflictError: another writer changed the rows of the table since the work on these files began.
    """
    name = staged.table.name
    metadata = {_KEY: key} | ({_RECORD: json.dumps(record, sort_keys=True, default=str)} if record else {})
    if staged.content is not None and not append:
        metadata[_CONTENT] = staged.content
    for _ in range(_ATTEMPTS):
        delta = open_table(uri)
        last = None if delta is None else last_commit_of(delta)
        appends = 0 if delta is None else (delta.transaction_version(key) or 0)
        if batch is not None:
            appends_before = batch - 1
        appends_before = appends if appends_before is None else appends_before
        is_published = last is not None and last.key == key and last.version != staged.base
        if delta is not None and last is not None and (appends > appends_before if append else is_published):
            _discard_unless_named(delta, staged)  # another process has committed the same run
            return last.version
        if (exclusive or not append) and (None if last is None else last.version) != staged.base:
            raise ConflictError(f"table '{name}' was published by another run since this one started; run again")
        same = last is not None and not append and staged.content is not None and staged.content == last.content
        failpoint("commit.before", name)
        _check_files(uri, staged)
        try:
            adds = append or staged.added is not None
            version = _transact(uri, delta, staged, key, batch or appends + 1, metadata, append=adds, same=same)
        except (CommitFailedError, DeltaError, OSError) as error:
            _check_overtaken(uri, delta, name, error)
            continue
        failpoint("commit.after", name)
        if same:
            remove(uri, staged.actions)
        return version
    raise ConflictError(f"table '{name}': {_ATTEMPTS} commits were refused because other writers came first; run again")


def _transact(
    uri: str,
    delta: DeltaTable | None,
    staged: Staged,
    key: str,
    number: int,
    metadata: dict[str, str],
    *,
    append: bool,
    same: bool,
) -> int:
    properties = CommitProperties(
        custom_metadata=metadata,
        app_transactions=[Transaction(key, number)],
        # deltalake must not retry: if only the reply was lost, a retry would add the same rows twice.
        max_commit_retries=0,
    )
    schema = Schema.from_arrow(described_schema(staged.table))
    actions: list[AddAction] = [] if same else list(staged.actions)
    if delta is None:
        name, about = staged.table.name, description(staged.table)
        create_table_with_add_actions(
            delta_uri(uri), schema, actions, name=name, description=about, commit_properties=properties
        )
        return 0
    mode = "append" if append or same else "overwrite"
    if append:  # only an overwrite adds new columns by itself
        _add_columns(delta, schema)
    delta.create_write_transaction([*actions], mode, schema, commit_properties=properties)
    return delta.version() + 1


def _add_columns(delta: DeltaTable, schema: Schema) -> None:
    """Add the columns that the contract gained since the table was created; older rows hold null there."""
    stored = {field.name for field in delta.schema().fields}
    missing = [field for field in schema.fields if field.name not in stored]
    if missing:
        delta.alter.add_columns(missing, commit_properties=CommitProperties(max_commit_retries=0))


def _check_overtaken(uri: str, delta: DeltaTable | None, name: str, error: Exception) -> None:
    """Raise the error unless another commit came first: then the refusal is a conflict, even if the error names another
    cause."""
    if is_transient(error):
        raise RetryError(f"table '{name}': the store failed at the commit: {one_line(error)}") from error
    newest = open_table(uri)
    if (newest and newest.version()) == (delta and delta.version()):
        raise error


def _check_files(uri: str, staged: Staged) -> None:
    filesystem, folder = FileSystem.from_uri(uri)
    infos = filesystem.get_file_info([f"{folder}/{action.path}" for action in staged.actions])
    if any(info.type != FileType.File for info in infos):
        raise ConflictError(
            f"table '{staged.table.name}': vacuum_lake or forget_users removed staged files of this run; run again"
        )


def _discard_unless_named(delta: DeltaTable, staged: Staged) -> None:
    """Remove the staged files unless a commit names them: the reply to that commit may have been lost."""
    named = {uri.rpartition("/")[2] for uri in delta.file_uris()}
    remove(absolute(delta.table_uri), [action for action in staged.actions if action.path not in named])


def restore_version(uri: str, name: str, commit: Commit) -> int:
    """Show the rows of an older ``commit`` again: a new commit names its files. Returns the new version.

    The new commit has the run key, content, provenance and outcome of the old one: they describe its rows.

    Raises:
        ConflictError: another writer committed meanwhile.
    """
    delta = open_table(uri)
    assert delta is not None
    record = json.dumps(to_json(commit.provenance, commit.outcome), sort_keys=True, default=str)
    metadata = {_RESTORED: str(commit.version), _RECORD: record}
    metadata |= {field: value for field, value in ((_KEY, commit.key), (_CONTENT, commit.content)) if value is not None}
    failpoint("commit.before", name)
    try:
        delta.restore(commit.version, commit_properties=CommitProperties(metadata, max_commit_retries=0))
    except (CommitFailedError, DeltaError, OSError) as error:
        _check_overtaken(uri, delta, name, error)
        raise ConflictError(f"table '{name}' was published by another run meanwhile; run again") from error
    failpoint("commit.after", name)
    return delta.version()


def remove(uri: str, actions: list[AddAction]) -> None:
    """Remove files that no commit will name."""
    filesystem, folder = FileSystem.from_uri(uri)
    for action in actions:
        filesystem.delete_file(f"{folder.rstrip('/')}/{action.path}")
