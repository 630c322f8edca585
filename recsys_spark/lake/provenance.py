"""What the commit of a table's version says: what the version was made from, and what came of the run.

The only file that knows the keys under which commits keep this. Keys are data: a lake of an earlier release has them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any

_OUTCOME = "about"
_NAMES = {"feature_blocks": "blocks", "event_log": "log", "reviewed": "judged", "tombstone_key": "key"}
"""Keys of provenance that are not the name of their field."""


@dataclass(frozen=True)
class EventLogRecord:
    """The source files of ``events``: what the next night needs to read the new files only."""

    files: Sequence[Any]
    """An entry per file: its path, size and time."""
    run_date: str
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How the files are read: the source and the query."""
    table_files: int = 0
    """Data files of the table after the last reading of all source files."""
    late: float | None = None
    """Seconds since 1970 of the earliest event in the future; its day makes a reading of all files necessary."""

    def to_json(self) -> dict[str, Any]:
        own = {"files": list(self.files), "run_date": self.run_date, "table_files": self.table_files, "late": self.late}
        return {**self.reading, **own}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EventLogRecord":
        own = {one.name for one in fields(cls)} - {"reading"}
        reading = {name: value for name, value in content.items() if name not in own}
        return cls(reading=reading, **{name: value for name, value in content.items() if name in own})


@dataclass(frozen=True)
class Provenance:
    """What a version was made from. The same provenance means the same rows, whatever the partitions and retries."""

    inputs: Mapping[str, str] | None = None
    """Content ids of the tables that were read, by table."""
    run_date: date | None = None
    versions: Mapping[str, int] | None = None
    """Versions of these tables, by table."""
    identities: Mapping[str, str] | None = None
    """Delta ids of these tables: version numbers start over when a table is dropped and made again."""
    weights: Mapping[str, Any] | None = None
    """The fields of ``EventWeights``."""
    history: Mapping[str, Any] | None = None
    """The fields of ``History``."""
    ignored: Mapping[str, Any] | None = None
    """The fields of ``Ignored``, if ignored impressions count."""
    user_text_weight: float | None = None
    segment_weight: float | None = None
    feature_blocks: Mapping[str, Any] | None = None
    """The fields of ``FeatureBlocks``."""
    scorer: str | None = None
    interests: int | None = None
    diversity: float | None = None
    event_log: EventLogRecord | None = None
    reviewed: Mapping[str, Any] | None = None
    """Rows that were validated, by table: the next night's gate judges what has come since."""
    forgotten: str | None = None
    """Content id of the tombstones under which the rows were read."""
    tombstone_key: str | None = None
    """Name of the secret key of the tombstones' hashes, not the key."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the rows depend on, by the name of its configuration key."""

    @classmethod
    def of(cls, **named: Any) -> "Provenance":
        """Provenance by name; names without a field of their own are settings."""
        own = {one.name for one in fields(cls)} - {"settings"}
        settings = {name: value for name, value in named.items() if name not in own}
        return cls(**{name: value for name, value in named.items() if name in own}, settings=settings)

    def to_json(self) -> dict[str, Any]:
        """As a commit keeps it. Fields without a value are left out, settings without one are null."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "settings"}
        if self.event_log is not None:
            named["event_log"] = self.event_log.to_json()
        if self.run_date is not None:
            named["run_date"] = str(self.run_date)
        return {**self.settings, **{_NAMES.get(name, name): one for name, one in named.items() if one is not None}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Provenance":
        back = {stored: name for name, stored in _NAMES.items()}
        named = {back.get(name, name): value for name, value in content.items() if name != _OUTCOME}
        if named.get("run_date") is not None:
            named["run_date"] = date.fromisoformat(str(named["run_date"]))
        if named.get("event_log") is not None:
            named["event_log"] = EventLogRecord.from_json(named["event_log"])
        return cls.of(**named)

    def other_settings(self, last: "Provenance") -> str | None:
        """In words the first setting that ``last`` had otherwise; None if only inputs and the run date differ."""
        pinned = {"inputs", "versions", "identities", "run_date"}
        now, was = (json.loads(json.dumps(one.to_json(), default=str)) for one in (self, last))
        for name in sorted((set(now) | set(was)) - pinned):
            if was.get(name) != now.get(name):
                return f"{name} was {was.get(name)}, is {now.get(name)}"
        return None


@dataclass(frozen=True)
class ChangeRecord:
    """Rows of a version that are not as they were, for the table ``changes``."""

    made: str
    """In words which rows were made, and why."""
    rows: int
    kinds: Mapping[str, int]
    """Rows added, changed and removed."""
    run_date: str | None = None


@dataclass(frozen=True)
class RewriteRecord:
    """A version that was made from the one before it."""

    of: int
    """That version."""
    files: Sequence[str]
    """Names of the data files with new rows."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run, beside the rows."""

    figures: Mapping[str, Any] | None = None
    accepted_drift: Sequence[str] | None = None
    changes: ChangeRecord | None = None
    rewrite: RewriteRecord | None = None
    fitted: Mapping[str, int] | None = None
    """Sizes of the inputs when all rows were fitted."""
    losses: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Outcome") -> "Outcome":
        """Both; where both say something the other one counts."""
        said = {one.name: value for one in fields(self) if (value := getattr(other, one.name)) is not None}
        return replace(self, **(said | {"more": {**self.more, **other.more}}))

    def to_json(self) -> dict[str, Any]:
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("more", "rewrite")}
        if self.changes is not None:
            named["changes"] = {one.name: getattr(self.changes, one.name) for one in fields(self.changes)}
        if self.rewrite is not None:
            named["renewed"] = {"of": self.rewrite.of, "files": list(self.rewrite.files)}
        return {**self.more, **{name: value for name, value in named.items() if value is not None}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Outcome":
        own = {one.name for one in fields(cls)} - {"more", "rewrite"}
        named: dict[str, Any] = {name: value for name, value in content.items() if name in own}
        if named.get("changes") is not None:
            named["changes"] = ChangeRecord(**named["changes"])
        if (renewed := content.get("renewed")) is not None:
            named["rewrite"] = RewriteRecord(**renewed)
        return cls(**named, more={name: v for name, v in content.items() if name not in own | {"renewed"}})


def to_json(provenance: Provenance | None, outcome: Outcome | None) -> dict[str, Any]:
    """Both, as a commit keeps them; empty if there is nothing to keep."""
    content = {} if provenance is None else provenance.to_json()
    return content if outcome is None else content | {_OUTCOME: outcome.to_json()}


def from_json(content: Mapping[str, Any]) -> tuple[Provenance, Outcome]:
    """What a commit keeps. Evaluations of earlier releases have their figures beside their provenance."""
    beside = {name: content[name] for name in ("figures",) if name in content}
    rest = {name: value for name, value in content.items() if name not in beside}
    return Provenance.from_json(rest), Outcome.from_json({**beside, **content.get(_OUTCOME, {})})
