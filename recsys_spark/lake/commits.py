"""One atomic commit, or none: what a table shows is looked at and replaced on the same version of its log."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow.fs import FileSystem, FileType

from recsys_spark.errors import ConflictError, InputError, RetryError
from recsys_spark.errors.failpoints import failpoint
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.paths import absolute, delta_uri
from recsys_spark.lake.provenance import Outcome, Provenance, from_json
from recsys_spark.tables.schemas import Table
from recsys_spark.tables.task_stream import TaskStats

_KEY, _CONTENT, _SAID = "recsys_run_key", "recsys_content", "recsys_inputs"

_UPKEEP = {"VACUUM START", "VACUUM END", "OPTIMIZE", "ADD COLUMN"}

_ATTEMPTS = 20  # each is overtaken by upkeep alone: vacuum makes two commits


@dataclass(frozen=True)
class Commit:
    """The newest commit that may have changed what a table shows; what it says of itself where it is one of ours."""

    version: int
    identity: str
    key: str | None
    content: str | None
    provenance: Provenance
    outcome: Outcome

    @property
    def content_id(self) -> str:
        """Names what the table shows: by its content where that is known, so that the same rows published again change
        nothing for those who read them; version numbers start over where a table is dropped and made again."""
        return f"content:{self.content}" if self.content else f"{self.identity}@{self.version}"


@dataclass(frozen=True)
class Staged:
    """Files that executors wrote and no commit names yet."""

    table: Table
    actions: list[AddAction]
    rows: int
    notes: list[TaskStats]
    content: str | None = None
    base: int | None = None
    """``Commit.version`` of what was shown when the work began; a commit onto another would lose somebody's update."""
    added: int | None = None
    """Rows of the files, where they come beside those of ``base``; None where they come in their place."""


def content_of(rows: int, digest: int) -> str:
    """Names what a table shows by the number of its rows and the sum of their digests."""
    return f"{rows}-{digest % 2**64:016x}"


def as_append(staged: Staged, head: Commit) -> Staged:
    """Staged files as an addition to what ``head`` shows, which must say what that is."""
    assert head.content is not None
    assert staged.content is not None
    (rows, digest), (added, more) = (content.split("-") for content in (head.content, staged.content))
    content = content_of(int(rows) + int(added), int(digest, 16) + int(more, 16))
    return replace(staged, rows=int(rows) + int(added), added=int(added), content=content, base=head.version)


def open_table(uri: str, version: int | None = None) -> DeltaTable | None:
    """A version of the table at ``uri``, by default the newest; None where there is no table.

    Raises:
        InputError: the log is damaged, or there is no such version.
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


def last_commit_of(delta: DeltaTable) -> Commit:
    """The newest commit up to the opened version that is more than upkeep."""
    return next(commits_of(delta))


def commits_of(delta: DeltaTable) -> Iterator[Commit]:
    """The commits up to the opened version that are more than upkeep, the newest first; at least one. The log itself is
    read: ``history`` also tells of commits that came after the version was opened, under wrong numbers."""
    filesystem, folder = FileSystem.from_uri(absolute(delta.table_uri))
    identity, version, found = str(delta.metadata().id), delta.version(), False
    for number in range(version, -1, -1):
        entry = _commit_info(filesystem, f"{folder.rstrip('/')}/_delta_log/{number:020}.json")
        if entry is None:  # cleaned up behind a checkpoint: only upkeep has come since
            break
        version = number
        if entry.get("operation") not in _UPKEEP:
            found, said = True, from_json(json.loads(entry.get(_SAID, "{}")))
            yield Commit(version, identity, entry.get(_KEY), entry.get(_CONTENT), *said)
    if not found:
        yield Commit(version, identity, None, None, Provenance(), Outcome())


def _commit_info(filesystem: FileSystem, path: str) -> dict[str, Any] | None:
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    with filesystem.open_input_file(path) as file:
        lines = map(json.loads, file.read().splitlines())
        return dict(next((line["commitInfo"] for line in lines if "commitInfo" in line), {}))


def publish(
    uri: str,
    staged: Staged,
    key: str,
    said: Mapping[str, Any],
    *,
    append: bool,
    alone: bool = False,
    first: int | None = None,
) -> int:
    """Make the commit that names the staged files. Returns a version that shows them.

    ``alone``: append only to what was shown when the work began. ``first``: how often the run ``key`` had appended when
    it was last asked; by default, until now.

    The version that is looked at is the one that is replaced: whoever comes in between is seen on the next attempt.
    Vacuum may come in between, since it changes nothing that a table shows.

    Raises:
        ConflictError: another writer changed what the table shows since the work on these files began.
    """
    name = staged.table.name
    for _ in range(_ATTEMPTS):
        delta = open_table(uri)
        head = None if delta is None else last_commit_of(delta)
        done = 0 if delta is None else (delta.transaction_version(key) or 0)
        first = done if first is None else first
        again = head is not None and head.key == key and head.version != staged.base
        if delta is not None and head is not None and (done > first if append else again):
            _discard_unless_named(delta, staged)  # the same run, done by somebody else meanwhile
            return head.version
        if (alone or not append) and (None if head is None else head.version) != staged.base:
            raise ConflictError(f"table '{name}' was published by another run meanwhile; run again")
        same = head is not None and not append and staged.content is not None and staged.content == head.content
        metadata = {_KEY: key} | ({_SAID: json.dumps(said, sort_keys=True, default=str)} if said else {})
        if staged.content is not None and not append:
            metadata[_CONTENT] = staged.content
        failpoint("commit.before", name)
        _check_files(uri, staged)
        try:
            adds = append or staged.added is not None
            version = _transact(uri, delta, staged, key, done, metadata, append=adds, same=same)
        except (CommitFailedError, DeltaError, OSError) as error:
            _check_overtaken(uri, delta, name, error)
            continue
        failpoint("commit.after", name)
        if same:
            remove(uri, staged.actions)
        return version
    raise ConflictError(f"table '{name}': {_ATTEMPTS} commits were refused, others were faster; run again")


def _transact(
    uri: str,
    delta: DeltaTable | None,
    staged: Staged,
    key: str,
    done: int,
    metadata: dict[str, str],
    *,
    append: bool,
    same: bool,
) -> int:
    properties = CommitProperties(
        custom_metadata=metadata,
        app_transactions=[Transaction(key, done + 1)],
        # Not again by itself: where only the answer was lost, a second try would add the same rows once more.
        max_commit_retries=0,
    )
    schema = Schema.from_arrow(staged.table.arrow_schema)
    actions: list[AddAction] = [] if same else list(staged.actions)
    if delta is None:
        create_table_with_add_actions(
            delta_uri(uri), schema, actions, name=staged.table.name, commit_properties=properties
        )
        return 0
    mode = "append" if append or same else "overwrite"
    if append:  # only an overwrite brings new columns along
        _add_columns(delta, schema)
    delta.create_write_transaction([*actions], mode, schema, commit_properties=properties)
    return delta.version() + 1


def _add_columns(delta: DeltaTable, schema: Schema) -> None:
    """Columns that the table got since it was made: rows of before hold null there."""
    known = {field.name for field in delta.schema().fields}
    later = [field for field in schema.fields if field.name not in known]
    if later:
        delta.alter.add_columns(later, commit_properties=CommitProperties(max_commit_retries=0))


def _check_overtaken(uri: str, delta: DeltaTable | None, name: str, error: Exception) -> None:
    """A refused commit is a conflict where somebody else's has come first, whatever the words of the error."""
    if is_transient(error):
        raise RetryError(f"table '{name}': the store failed at the commit: {one_line(error)}") from error
    now = open_table(uri)
    if (now and now.version()) == (delta and delta.version()):
        raise error


def _check_files(uri: str, staged: Staged) -> None:
    filesystem, folder = FileSystem.from_uri(uri)
    found = filesystem.get_file_info([f"{folder}/{action.path}" for action in staged.actions])
    if any(info.type != FileType.File for info in found):
        raise ConflictError(
            f"table '{staged.table.name}': vacuum_lake or forget_users removed staged files meanwhile; run again"
        )


def _discard_unless_named(delta: DeltaTable, staged: Staged) -> None:
    """The answer to a commit that was made may have been lost: then the files are the table's."""
    named = {uri.rpartition("/")[2] for uri in delta.file_uris()}
    remove(absolute(delta.table_uri), [action for action in staged.actions if action.path not in named])


def remove(uri: str, actions: list[AddAction]) -> None:
    """Remove files that no commit will name."""
    filesystem, folder = FileSystem.from_uri(uri)
    for action in actions:
        filesystem.delete_file(f"{folder.rstrip('/')}/{action.path}")
