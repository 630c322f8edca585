"""Tables without a record of what was added: those of the session's catalogue, and those read through JDBC."""

import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.errors.messages import one_line
from recsys_spark.errors.redaction import is_secret_name, redacted, remember_secrets
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.listing import Part, Wanted

_REFUSED = re.compile(r"authentication failed|[Aa]ccess denied|[Ll]ogin failed|does not exist|pg_hba|Unknown database")
"""What servers say about connections that will fail again."""


def unique_mark() -> str:
    """Differs in every run: for a source that says nothing about whether its rows have changed."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class WholeTable:
    """A table that is read whole every time."""

    name: str
    source: Source
    bytes: None = None
    schema: None = None
    mark: str = field(default_factory=unique_mark)

    @property
    def entries(self) -> list[str]:
        """Another line in every run: nothing says whether the rows have changed."""
        return [f"{self.source.format} {self.source.table} {self.mark}"]

    def added(self, before: Sequence[str]) -> Part | str:
        """No part: there is no record."""
        kind = "a table of the session's catalogue" if self.source.format == "table" else "JDBC"
        return f"{kind} has no record of what was added"

    def frame(self, spark: SparkSession, part: Part | None = None, wanted: Wanted = list) -> DataFrame:
        """All rows."""
        if self.source.format != "jdbc":
            return spark.table(str(self.source.table))
        options = {"dbtable": str(self.source.table)} | _from_environment(self.name, self.source)
        try:
            return spark.read.format("jdbc").options(**options).load()
        except PySparkException as error:
            cause = getattr(error, "_cause", None)  # Spark's own words leave out the server and what it said
            if cause is None or "FAILED_JDBC.CONNECTION" not in str(error):
                raise
            words = redacted(one_line(cause))
            kind = InputError if _REFUSED.search(words) else RetryError
            raise kind(f"source '{self.name}' ({self.source.place('')}): {words}") from None


def jdbc_listing(name: str, source: Source, data: str) -> WholeTable:
    """A table that Spark reads through a JDBC driver.

    Raises:
        UsageError: an option holds a secret, or names an environment variable that is not set.
    """
    for option, value in source.options.items():
        is_plain = not str(value).startswith("$")
        if is_plain and (is_secret_name(option) or redacted(str(value)) != str(value)):
            raise UsageError(
                f"[sources.{name}]: option {option} holds a secret. Give the name of an environment variable: "
                f'{option} = "$NAME"'
            )
    if absent := [option for option in ("url", "driver") if option not in source.options]:
        raise UsageError(
            f'[sources.{name}]: format = "jdbc" needs options {", ".join(absent)}, such as url = "jdbc:postgresql://'
            'HOST/DATABASE", driver = "org.postgresql.Driver", user = "$NAME", password = "$NAME"'
        )
    _from_environment(name, source)
    return WholeTable(name, source)


def _from_environment(name: str, source: Source) -> dict[str, str]:
    """The options, those of the form ``$NAME`` from the environment: no stored byte holds their values."""
    options = {option: str(value) for option, value in source.options.items()}
    named = {option: value[1:] for option, value in options.items() if re.fullmatch(r"\$\w+", value)}
    if absent := [variable for variable in named.values() if variable not in os.environ]:
        raise UsageError(f"[sources.{name}]: the environment variable {', '.join(absent)} is not set")
    values = {option: os.environ[variable] for option, variable in named.items()}
    remember_secrets(values)
    return options | values
