"""Files of impressions, rewards and outcomes → validated rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.ingest.bad_rows import BadRows, by_reason, most_frequent
from recsys_spark.lake.paths import absolute
from recsys_spark.privacy.pseudonyms import with_pseudonyms
from recsys_spark.privacy.rules import without_forgotten
from recsys_spark.privacy.steps.tombstones import tombstones
from recsys_spark.privacy.steps.user_key import user_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.files import SourceFile, list_source
from recsys_spark.sources.listing import FileListing
from recsys_spark.sources.reader import CORRUPT, SourceReader, malformed, well_formed

Validate = Callable[[DataFrame], DataFrame]

_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class LogFile:
    """The files that a key names, and how they are read."""

    key: str
    path: str
    files: Sequence[SourceFile]
    source: Source
    folder: str

    @property
    def entries(self) -> list[str]:
        """Lines that change whenever a file changes, for run keys."""
        return [file.entry for file in self.files]


@dataclass(frozen=True)
class ValidatedLog:
    """The good rows of a log file, their number, and the bad ones by reason."""

    rows: DataFrame
    good: int
    bad: Sequence[BadRows]

    @property
    def bad_rows(self) -> int:
        """The number of bad rows."""
        return sum(one.rows for one in self.bad)


def find_log(run: Run, key: str, path: str) -> LogFile:
    """The files below ``path``, by the format that its name ends in: CSV, JSON lines, otherwise Parquet.

    Raises:
        UsageError: the path holds a secret.
        InputError: there is no file.
    """
    folder, _, name = absolute(path).rpartition("/")
    words = name.lower().split(".")
    kind = "csv" if "csv" in words else "json" if {"json", "jsonl", "ndjson"} & {*words} else "parquet"
    source = Source(path=name, format=kind, options={"header": True} if kind == "csv" else {}, schema=None)
    return LogFile(key, path, list_source(key, source, folder, lambda: run.spark, f"check --{key}"), source, folder)


def read_log(run: Run, log: LogFile, needed: Sequence[str], key: str | None = None) -> DataFrame:
    """The raw rows, without those of forgotten users and items; malformed records have a value in CORRUPT.

    ``key``: name of the key by which raw user ids become the pseudonyms of the lake; None: the ids are those of the
    lake.

    Raises:
        UsageError: a needed column is missing.
    """
    raw = SourceReader(run.spark, log.folder).read(log.key, log.source, FileListing(log.files))
    columns = [column for column in raw.columns if column != CORRUPT]
    if missing := [name for name in needed if name not in columns]:
        raise UsageError(
            f"--{log.key}={log.path} has no column {', '.join(missing)}; columns there: "
            f"{', '.join(columns[:_SHOWN_COLUMNS])}"
        )
    secret = None if key is None else user_key(run, key)
    raw = with_pseudonyms(raw, None if secret is None else secret.pads(run))
    return without_forgotten(raw, tombstones(run))


def validated_log(log: LogFile, raw: DataFrame, validate: Validate, max_bad_share: float) -> ValidatedLog:
    """The rows of a file that pass ``validate``.

    Raises:
        QualityError: more than ``max_bad_share`` of the rows are bad; it names the most frequent reasons with a sample.
        InputError: there is no good row.
    """
    validated = validate(well_formed(raw))
    reasons = validated.select(F.lit(log.key).alias("table"), "reason", "row")
    if (broken := malformed(raw, log.key)) is not None:
        reasons = reasons.unionByName(broken)
    counted = [BadRows(row["table"], row["reason"], row["rows"], row["sample"]) for row in by_reason(reasons).collect()]
    bad = [one for one in counted if one.reason is not None]
    good = sum(one.rows for one in counted if one.reason is None)
    wrong = sum(one.rows for one in bad)
    if wrong > max_bad_share * (good + wrong):
        raise QualityError(
            f"--{log.key}={log.path}: {wrong:,} of {good + wrong:,} rows are bad, more than max_bad_share "
            f"{max_bad_share:g}: {most_frequent(bad)}. Correct them, or accept more by --max_bad_share",
            {"bad_rows": {one.reason: one.rows for one in bad}},
        )
    if not good:
        raise InputError(f"--{log.key}={log.path} has no rows")
    return ValidatedLog(validated.where(F.col("reason").isNull()).drop("reason", "row"), good, bad)
