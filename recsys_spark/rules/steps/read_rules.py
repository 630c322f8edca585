"""A rules file → its rules, checked before anything is computed."""

import re
from contextlib import suppress
from datetime import date
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.errors.messages import sql_mistake
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.jvm import analyzed_plan
from recsys_spark.rules.conditions import item_values, user_values
from recsys_spark.rules.rule_file import RuleBook, item_columns_of, parse_rules
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.places import shipped
from recsys_spark.sources.queries import clocks_of_plan
from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS

_CLOCKS = re.compile(r"\b(now|cur\w*(date|time\w*)|local\w*time\w*|unix_timestamp)\b", re.IGNORECASE)
"""Words that may read the clock. To look at every node of every condition would take the driver seconds."""


def read_rules(file: str | None, day: date) -> RuleBook | None:
    """The rules of a day; None without a file, or if no rule holds on the day. It reads no table.

    Raises:
        InputError: the file does not exist.
        UsageError: it has faults; all are listed.
    """
    if file is None:
        return None
    path = shipped(Path(file))
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"rules file {file} is not TOML: it is not text in UTF-8") from error
    except OSError as error:
        raise InputError(f"rules file {file}: {error.strerror}") from error
    book = parse_rules(text, file).active(day)
    return book if book.rules else None


def check_conditions(run: Run, book: RuleBook, day: date) -> None:
    """Analyze every condition on tables without rows.

    Raises:
        UsageError: one that does not parse, names a column that is missing, is not true or false, or gives another
            answer at another time; it names file, rule and condition.
    """
    tables = [no_rows(run.spark, table) for table in (ITEMS, USERS, EVENTS)]
    named = [("items", book.items), ("users", book.users)]
    for name, types in named:
        for attribute, kind in types.items():
            _check_type(run, book, name, attribute, kind)
    for name, text in book.histories.items():
        _check(book, f"history '{name}'", tables[2].withColumn("run_date", F.lit(day)), text)
    items = item_values(tables[0], book, day)
    users = user_values(tables[1], tables[1], tables[2], book, day)
    pairs = _as_pairs(items, users)
    frames = {"items": items, "by": items, "users": users, "pairs": pairs}
    for name, frame in frames.items():
        texts = list(dict.fromkeys(rule.texts[name] for rule in book.rules if name in rule.texts))
        with suppress(PySparkException):  # all at once, which is faster
            if _are_right(frame.select("run_date", *map(F.expr, texts)), name, texts):
                continue
        for rule in book.rules:
            if name in rule.texts:
                _check(book, f"rule '{rule.id}', {name}", frame, rule.texts[name], is_value=name == "by")


def _as_pairs(items: DataFrame, users: DataFrame) -> DataFrame:
    structs: list[Column] = [F.struct(*rows.columns).alias(n) for n, rows in (("item", items), ("user", users))]
    return items.select(structs[0], "run_date").crossJoin(users.select(structs[1]))


def _are_right(frame: DataFrame, name: str, texts: list[str]) -> bool:
    kinds = {kind for _, kind in frame.dtypes[1:]}
    if name == "pairs" and not all(map(item_columns_of, texts)):
        return False
    is_safe = not any(map(_CLOCKS.search, texts)) and bool(analyzed_plan(frame).deterministic())
    return is_safe and (name == "by" or kinds <= {"boolean"})


def _check(book: RuleBook, place: str, frame: DataFrame, text: str, *, is_value: bool = False) -> None:
    where = f"rules file {book.file}, {place}"
    try:
        result = frame.select("run_date", F.expr(text).alias("result"))  # one value a row: no aggregate
        plan = analyzed_plan(result)
    except PySparkException as error:
        mistake = sql_mistake(error)
        if mistake is None:
            raise
        raise UsageError(f"{where}: {mistake}") from error
    if not is_value and (kind := result.dtypes[1][1]) != "boolean":
        raise UsageError(f"{where}: {text} is {kind}, but must be true or false")
    if clocks := sorted(clocks_of_plan(plan)):
        names = ", ".join(clocks)
        raise UsageError(f"{where}: {names} reads the clock of the machine: write run_date, the day of the run")
    if not plan.deterministic():
        raise UsageError(f"{where}: {text} gives another answer every time, so lists could not be made again")
    if "pairs" in place and not item_columns_of(text):
        raise UsageError(f"{where}: {text} names no column of item: write it as a condition on users")


def _check_type(run: Run, book: RuleBook, table: str, attribute: str, kind: str) -> None:
    try:
        run.spark.range(0).select(F.from_json(F.lit("{}"), f"`{attribute}` {kind}")).schema  # noqa: B018
    except PySparkException as error:
        raise UsageError(
            f"rules file {book.file}, [{table}]: '{kind}' of {attribute} is no type of Spark, such as int, string or "
            "array<string>"
        ) from error
