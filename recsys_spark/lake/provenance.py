"""Metadata of commits: the provenance of a table's version, and the outcome of the run that published it.

Only this file knows the keys under which commits store them. Keys are data: lakes of earlier releases have them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from typing import Any, TypeVar

RecordT = TypeVar("RecordT")

_OUTCOME = "about"
_NAMES = {"feature_blocks": "blocks", "event_log": "log", "reviewed": "judged", "tombstone_key": "key"}
"""Keys of provenance by field, where the two differ."""


@dataclass(frozen=True)
class EventLogRecord:
    """The source files of ``events``, so that the next run reads only new files."""

    files: Sequence[Any]
    """Path, size and time of each file."""
    run_date: str
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How the files are read: the source and the query."""
    table_files: int = 0
    """Number of data files of the table after all source files were last read."""
    late: float | None = None
    """Time of the earliest event in the future, seconds since 1970. All files are read again once its day has come."""

    def to_json(self) -> dict[str, Any]:
        record = {
            "files": list(self.files),
            "run_date": self.run_date,
            "table_files": self.table_files,
            "late": self.late,
        }
        return {**self.reading, **record}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "EventLogRecord":
        names = {field.name for field in fields(cls)} - {"reading"}
        reading = {name: value for name, value in content.items() if name not in names}
        return cls(reading=reading, **{name: value for name, value in content.items() if name in names})


@dataclass(frozen=True)
class Provenance:
    """All that the rows of a version depend on. The same provenance gives the same rows, for any partitions and
    retries."""

    inputs: Mapping[str, str] | None = None
    """Content id of each input table."""
    run_date: date | None = None
    versions: Mapping[str, int] | None = None
    """Version of each input table."""
    identities: Mapping[str, str] | None = None
    """Delta id of each input table: the version numbers of a recreated table count from 0 again."""
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
    """Of lists; cosine lists name none."""
    interests: int | None = None
    diversity: float | None = None
    event_log: EventLogRecord | None = None
    reviewed: Mapping[str, Any] | None = None
    """Rows that were validated, by table: the gate of the next run validates the rows added since."""
    streamed: int | None = None
    """Of ``events``: the last commit of ``streamed_events`` that they include."""
    forgotten: str | None = None
    """Content id of the tombstones that were applied."""
    tombstone_key: str | None = None
    """Name of the secret key of the tombstones' hashes, not the key."""
    user_key: str | None = None
    """Of ``events``: fingerprint of the key of its pseudonyms; None: the user ids are those of the sources."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that the rows depend on, by configuration key."""

    @classmethod
    def of(cls, **named: Any) -> "Provenance":
        """Provenance by name; names that are no field are settings."""
        names = {field.name for field in fields(cls)} - {"settings"}
        settings = {name: value for name, value in named.items() if name not in names}
        return cls(**{name: value for name, value in named.items() if name in names}, settings=settings)

    def to_json(self) -> dict[str, Any]:
        """The form that commits store. Fields without a value are left out, settings without one are null."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "settings"}
        if self.event_log is not None:
            named["event_log"] = self.event_log.to_json()
        if self.run_date is not None:
            named["run_date"] = str(self.run_date)
        stored = {_NAMES.get(name, name): value for name, value in named.items() if value is not None}
        return {**self.settings, **stored}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Provenance":
        field_names = {stored: name for name, stored in _NAMES.items()}
        named = {field_names.get(name, name): value for name, value in content.items() if name != _OUTCOME}
        if named.get("run_date") is not None:
            named["run_date"] = date.fromisoformat(str(named["run_date"]))
        if named.get("event_log") is not None:
            named["event_log"] = EventLogRecord.from_json(named["event_log"])
        return cls.of(**named)

    def other_settings(self, last: "Provenance") -> str | None:
        """Describe the first setting that differs from ``last``; None if only inputs and the run date differ."""
        pinned = {"inputs", "versions", "identities", "run_date"}
        now, was = (json.loads(json.dumps(provenance.to_json(), default=str)) for provenance in (self, last))
        for name in sorted((set(now) | set(was)) - pinned):
            if was.get(name) != now.get(name):
                return f"{name} was {was.get(name)}, is {now.get(name)}"
        return None


@dataclass(frozen=True)
class ChangeRecord:
    """What a version changed, for the table ``changes``."""

    made: str
    """In words which rows were computed, and why."""
    rows: int
    kinds: Mapping[str, int]
    """Number of rows added, changed and removed."""
    run_date: str | None = None


@dataclass(frozen=True)
class RewriteRecord:
    """A version that is a partial rewrite of the one before it."""

    of: int
    """The version before it."""
    files: Sequence[str]
    """Names of the data files with new rows."""


@dataclass(frozen=True)
class Outcome:
    """Results of a run other than rows."""

    figures: Mapping[str, Any] | None = None
    accepted_drift: Sequence[str] | None = None
    changes: ChangeRecord | None = None
    rewrite: RewriteRecord | None = None
    fitted: Mapping[str, int] | None = None
    """Sizes of the inputs at the last fit of all rows."""
    losses: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def __or__(self, other: "Outcome") -> "Outcome":
        """Merge two outcomes; the values of ``other`` take precedence."""
        values = {field.name: value for field in fields(self) if (value := getattr(other, field.name)) is not None}
        return replace(self, **(values | {"more": {**self.more, **other.more}}))

    def to_json(self) -> dict[str, Any]:
        names = [field.name for field in fields(self) if field.name not in ("more", "rewrite")]
        named = {name: getattr(self, name) for name in names}
        if self.changes is not None:
            named["changes"] = {field.name: getattr(self.changes, field.name) for field in fields(self.changes)}
        if self.rewrite is not None:
            named["renewed"] = {"of": self.rewrite.of, "files": list(self.rewrite.files)}
        return {**self.more, **{name: value for name, value in named.items() if value is not None}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Outcome":
        names = {field.name for field in fields(cls)} - {"more", "rewrite"}
        named: dict[str, Any] = {name: value for name, value in content.items() if name in names}
        if named.get("changes") is not None:
            named["changes"] = _record(ChangeRecord, named["changes"])
        if (rewrite := content.get("renewed")) is not None:
            named["rewrite"] = _record(RewriteRecord, rewrite)
        return cls(**named, more={name: v for name, v in content.items() if name not in names | {"renewed"}})


def to_json(provenance: Provenance | None, outcome: Outcome | None) -> dict[str, Any]:
    """The form that commits store; empty if there is nothing to store."""
    content = {} if provenance is None else provenance.to_json()
    return content if outcome is None else content | {_OUTCOME: outcome.to_json()}


def from_json(content: Mapping[str, Any]) -> tuple[Provenance, Outcome]:
    """Provenance and outcome from the form that commits store. Evaluations of earlier releases have their figures
    next to the provenance."""
    figures = {name: content[name] for name in ("figures",) if name in content}
    provenance = {name: value for name, value in content.items() if name not in figures}
    return Provenance.from_json(provenance), Outcome.from_json({**figures, **content.get(_OUTCOME, {})})


def _record(kind: type[RecordT], content: Mapping[str, Any]) -> RecordT:
    """The record without fields that only a later release has."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in content.items() if name in names})
