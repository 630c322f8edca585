"""Dataset files: how a raw source becomes items, users and events (``conf/datasets/*.toml``)."""

import difflib
import tomllib
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys_spark.errors import InputError, UsageError
from recsys_spark.runtime.config import shipped


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """One raw input. CSV columns are read as strings; other formats take ``schema`` or what the format knows."""

    path: str = Field(description="relative to --data")
    format: str = "csv"
    options: dict[str, str | bool | int] = {}
    schema_: str | None = Field(None, alias="schema")


class TableQuery(_Strict):
    """``SELECT select FROM from WHERE where`` over the sources, in Spark SQL; ``text`` is a template over selected
    fields."""

    from_: str = Field(alias="from")
    select: dict[str, str]
    where: str | None = None
    text: list[str] = []

    @property
    def source(self) -> str:
        """The one source that is read, where ``from`` names just that."""
        return self.from_.strip().removeprefix("`").removesuffix("`").replace("``", "`")

    @property
    def sql(self) -> str:
        """All SQL of the query."""
        return " ".join([self.from_, self.where or "", *self.select.values()])

    @property
    def names_run_date(self) -> bool:
        """Whether the rows depend on the day of the run, by ``:run_date``."""
        return ":run_date" in self.sql


class EventQuery(TableQuery):
    """Events also say which timestamps are believable (UTC days, both inclusive)."""

    earliest: date = date(1990, 1, 1)
    latest: date | Literal["run_date"] = "run_date"


class Dataset(_Strict):
    """A dataset file, checked."""

    title: str
    sources: dict[str, Source]
    items: TableQuery
    events: EventQuery
    users: TableQuery | None = None
    user_rules: TableQuery | None = None
    # What fine_tune_encoder learns scores from. No table is made of it: excluded from what names an ingestion.
    reviews: TableQuery | None = Field(None, exclude=True)

    @property
    def names_run_date(self) -> bool:
        """Whether a table depends on the day of the run."""
        queries = [self.items, self.events, self.users, self.user_rules]
        return self.events.latest == "run_date" or any(query.names_run_date for query in queries if query)


def load_dataset(name: str) -> Dataset:
    """Read ``conf/datasets/<name>.toml``, or the file itself when ``name`` ends in .toml.

    Raises:
        UsageError: unknown name (with the nearest), broken TOML, unknown or missing keys: all at once.
    """
    path = _find(name)
    try:
        return Dataset.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"dataset file {path} is not TOML: {error}") from error
    except ValidationError as error:
        faults = "\n".join(f"  - {'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors())
        raise UsageError(f"dataset file {path} has {error.error_count()} fault(s)\n{faults}") from error


def _find(name: str) -> Path:
    if name.endswith(".toml"):
        path = shipped(Path(name))
        if not path.is_file():
            raise InputError(f"dataset file {name} does not exist")
        return path
    root = Path(__file__).resolve().parents[2]
    folders = [_conf_folder(), root / "conf" / "datasets", Path()]
    for folder in folders:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in folders[:2] if folder.is_dir() for path in folder.glob("*.toml")})
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"unknown dataset '{name}'{hint} (known: {', '.join(known)}; or a path that ends in .toml)")


def _conf_folder() -> Path:
    """The checkout's dataset files, seen from the job's script: the package itself may run from a zip."""
    import __main__

    script = Path(getattr(__main__, "__file__", __file__)).resolve()
    return script.parent.parent / "conf" / "datasets"
