"""What is exported, and the record of an export that its target keeps."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace

from pyspark.sql import DataFrame

from recsys_spark.export.documents import list_documents, neighbor_documents, vector_documents
from recsys_spark.lake.lake import Commit
from recsys_spark.tables.schemas import ITEM_NEIGHBORS, ITEM_VECTORS, RECOMMENDATIONS, Table

FORMAT = 1
"""Raise it when documents of the same rows change: targets of earlier releases are then compared list by list."""


@dataclass(frozen=True)
class Collection:
    """Documents of one table."""

    name: str
    """Its keys in Redis: ``name:id``."""
    table: Table
    id_column: str
    documents: Callable[[DataFrame], DataFrame]
    made_by: str
    """The job that makes the table."""


LISTS = Collection("recs", RECOMMENDATIONS, "user_id", list_documents, "recommend_items")

NEIGHBORS = Collection("neighbors", ITEM_NEIGHBORS, "item_id", neighbor_documents, "find_neighbors")

VECTORS = Collection("vectors", ITEM_VECTORS, "item_id", vector_documents, "build_item_vectors")


@dataclass(frozen=True)
class Exported:
    """A version of a table, as a target records it."""

    table_id: str
    """Delta id: the version numbers of a recreated table count from 0 again."""
    version: int
    content_id: str
    run_date: str | None = None
    format: int = FORMAT
    live: int | None = None
    """The version of ``live_recommendations`` whose lists replace others; None: of no stream."""

    @classmethod
    def of(cls, commit: Commit, live: Commit | None = None) -> "Exported":
        """The record of a commit, with the lists of a stream."""
        day, content = commit.provenance.run_date, commit.content_id
        version = cls(commit.identity, commit.version, content, None if day is None else str(day))
        if live is None or day is None:
            return version
        return replace(version, content_id=f"{content} {live.identity}@{live.version}", live=live.version)

    @property
    def live_table(self) -> str | None:
        """The Delta id of ``live_recommendations``; None: of no stream."""
        return None if self.live is None else self.content_id.rpartition(" ")[2].partition("@")[0]

    @property
    def night(self) -> str:
        """The content id of the lists of the night."""
        return self.content_id if self.live is None else self.content_id.rpartition(" ")[0]

    def to_json(self) -> str:
        """The form that targets store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Exported":
        """Read a stored record. Fields of later releases are ignored."""
        content, names = json.loads(text), {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in names})


@dataclass(frozen=True)
class VectorShape:
    """What all vectors of a version share."""

    dimension: int
    model: str
