"""Configuration keys of exports."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from recsys_spark.runtime.config import JobConfig

TargetName = Literal["redis", "postgres", "folder", "pgvector"]

FileFormat = Literal["parquet", "jsonl", "arrow"]


def _seconds(value: object) -> object:
    """A number of seconds such as 5s.

    Raises:
        ValueError: it is none.
    """
    text = str(value).strip()
    if text.endswith("s") and text[:-1].isdecimal() and int(text[:-1]):
        return text
    raise ValueError("give seconds, such as 5s")


class ExportOptions(JobConfig):
    """Export."""

    to: TargetName = Field(
        description="the target: redis (address in the environment, RECSYS_REDIS_URL), postgres (RECSYS_POSTGRES_URL), "
        "folder, or pgvector: item vectors instead of lists, in PostgreSQL"
    )
    full: bool = Field(
        False, description="compare all lists with those in the target, also if it says which version it holds"
    )
    live: bool = Field(
        False, description="redis, postgres, folder: lists as they count now, with those that stream_profiles has made"
    )
    every: Annotated[str, BeforeValidator(_seconds)] | None = Field(
        None,
        description="a number of seconds, such as 5s: export, then this often what has changed, until SIGTERM",
    )
    connections: int = Field(
        8, ge=1, le=1000, description="redis, postgres, pgvector: most tasks that write at once, each with a connection"
    )
    redis_prefix: str = Field(
        "", pattern=r"^[\w.:-]*$", description="redis: put before every key, such as shop: for shop:recs:USER"
    )
    postgres_schema: str = Field(
        "recsys", pattern=r"^[a-z_][a-z0-9_]{0,40}$", description="postgres, pgvector: schema of the tables"
    )
    folder: str = Field("", description="folder: path or URI, outside the lake")
    folder_format: FileFormat = Field(
        "parquet", description="folder: parquet, jsonl (JSON Lines), or arrow for serve_recommendations"
    )
    buckets: int = Field(
        64, ge=1, le=4096, description="folder: number of files of a table; the hash of an id decides on its file"
    )

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> "ExportOptions":
        """Refuse keys of other targets, and a folder without a path.

        Raises:
            ValueError: it names each key with its remedy.
        """
        if idle := [name for name in self._keys_of_other_targets() if self._is_changed(name)]:
            raise ValueError(f"keys without an effect with to={self.to}, leave them out: {', '.join(idle)}")
        if self.to == "folder" and not self.folder:
            raise ValueError("to=folder needs a folder: --folder=PATH")
        return self

    def _is_changed(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def _keys_of_other_targets(self) -> Iterator[str]:
        if self.to != "folder":
            yield from ("folder", "folder_format", "buckets")
        else:
            yield "connections"
        if self.to == "pgvector":
            yield "live"
        if self.to != "redis":
            yield "redis_prefix"
        if self.to not in ("postgres", "pgvector"):
            yield "postgres_schema"
