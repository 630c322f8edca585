"""Dataset files (``conf/datasets/*.toml``): the queries that turn raw sources into items, users and events."""

import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from recsys_spark.errors import UsageError
from recsys_spark.runtime.places import configuration_file


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SESSION_TABLE = "table"
"""The format of a source that is a table of the session's catalogue."""

_TAKES = {
    "delta": (("path",), ("version", "partitions")),
    "iceberg": (("path", "table"), ("catalog", "version", "partitions")),
    "postgres": (("table",), ()),
    "jdbc": (("table",), ()),
    SESSION_TABLE: (("table",), ()),
}
"""By format: the keys of which a source needs exactly one, and those it may have besides. Others need a path."""


class Source(_Strict):
    """One raw input: files, a Delta or Iceberg table, or a table of a server or of the session's catalogue.

    CSV columns are read as strings; other formats take ``schema``, or the types in their files.
    """

    path: str = Field(default="", description="relative to --data")
    format: str = "csv"
    options: dict[str, str | bool | int] = {}
    schema_: str | None = Field(None, alias="schema")
    table: str | None = Field(default=None, description="name of a table in place of a path")
    catalog: str | None = Field(default=None, description="of an Iceberg table, as pyiceberg is configured")
    version: int | None = Field(default=None, description="of a Delta table; the snapshot of an Iceberg table")
    partitions: list[str] = Field(default=[], description="conditions on partition columns, which must all hold")

    @model_validator(mode="before")
    @classmethod
    def _default_format(cls, values: Any) -> Any:
        if isinstance(values, dict) and "table" in values and "format" not in values:
            return values | {"format": SESSION_TABLE}
        return values

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        one_of, more = _TAKES.get(self.format, (("path",), ()))
        given = self.model_fields_set & {"path", "table", "catalog", "version", "partitions"}
        needs = f'format = "{self.format}" needs {" or ".join(one_of)}'
        if len(given & {*one_of}) != 1:
            raise ValueError(f"{needs}, and has {'both' if len(given & {*one_of}) > 1 else 'none'}")
        if other := sorted(given - {*one_of, *more}):
            raise ValueError(f"{needs}, and does not take {', '.join(other)}")
        if {"catalog", "path"} <= given:
            raise ValueError("catalog needs the name of a table in place of a path")
        return self

    @model_serializer(mode="wrap")
    def _without_unset_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The run keys of lakes of earlier releases have the first four keys only.
        unset: dict[str, Any] = {"table": None, "catalog": None, "version": None, "partitions": []}
        return {name: value for name, value in handler(self).items() if name not in unset or value != unset[name]}

    def place(self, data: str) -> str:
        """Where the rows are, for messages: below ``data``, or the name of the table."""
        if self.table is None:
            return f"{data}/{self.path}"
        if "url" in self.options:
            return f"{self.table} of {self.options['url']}"
        return f"{self.catalog}.{self.table}" if self.catalog else self.table


class Stream(Source):
    """Events as they arrive, with the columns of the source that ``[events]`` reads, whose place they take.

    ``path``: the folder in which files arrive, a Delta table (``format = "delta"``), or the topics of
    ``format = "kafka"``, separated by commas, whose messages are JSON.
    """

    format: str = "json"


class TableQuery(_Strict):
    """``SELECT select FROM from WHERE where`` over the sources, in Spark SQL. ``text`` is a template over the selected
    fields."""

    from_: str = Field(alias="from")
    select: dict[str, str]
    where: str | None = None
    text: list[str] = []

    @property
    def source(self) -> str:
        """The name in ``from``, unquoted: a source if ``from`` is nothing but its name."""
        return self.from_.strip().removeprefix("`").removesuffix("`").replace("``", "`")

    @property
    def sql(self) -> str:
        """The whole SQL of the query."""
        return " ".join([self.from_, self.where or "", *self.select.values()])

    @property
    def names_run_date(self) -> bool:
        """Whether the rows depend on the day of the run: whether the SQL holds ``:run_date``."""
        return ":run_date" in self.sql


class EventQuery(TableQuery):
    """A query for events, with the range of believable timestamps (UTC days, both inclusive)."""

    earliest: date = date(1990, 1, 1)
    latest: date | Literal["run_date"] = "run_date"


class Dataset(_Strict):
    """A validated dataset file."""

    title: str
    # Defaults of a domain for the jobs that read the file.
    preset: str | None = Field(None, exclude=True)
    sources: dict[str, Source]
    items: TableQuery
    events: EventQuery
    users: TableQuery | None = None
    user_rules: TableQuery | None = None
    # Texts with scores for fine_tune_encoder. Ingest makes no table of them, so they are no part of its run key.
    reviews: TableQuery | None = Field(None, exclude=True)
    # Whether personal values in texts are replaced by their kind. Part of run keys only if set.
    scrub: bool = Field(False, exclude=True)
    # Events as they arrive, for stream_profiles.
    stream: Stream | None = Field(None, exclude=True)

    @property
    def names_run_date(self) -> bool:
        """Whether a table depends on the day of the run."""
        queries = [self.items, self.events, self.users, self.user_rules]
        return self.events.latest == "run_date" or any(query.names_run_date for query in queries if query)


def load_dataset(name: str) -> Dataset:
    """Read ``conf/datasets/<name>.toml``, or the file itself when ``name`` ends in .toml.

    Raises:
        UsageError: unknown name (the nearest is suggested), broken TOML, unknown or missing keys (all are listed).
        InputError: the file does not exist.
    """
    path = configuration_file("dataset", name, Path())
    try:
        return Dataset.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"dataset file {path} is not TOML: {error}") from error
    except ValidationError as error:
        words = [(".".join(map(str, f["loc"])), f["msg"].removeprefix("Value error, ")) for f in error.errors()]
        faults = "\n".join(f"  - {where}: {fault}" for where, fault in words)
        raise UsageError(f"dataset file {path} has {error.error_count()} fault(s)\n{faults}") from error
