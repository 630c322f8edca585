"""Validate raw rows of impressions, rewards and outcomes in files. Pure DataFrame functions.

Each ``validated_*`` returns the columns of the log, ``reason`` (null for a good row) and ``row`` (the raw row as JSON).
A reason begins with the name of the column at fault. A raw frame has all columns that the log needs; optional columns
may be missing.
"""

from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

ARMS = ("control", "treatment")

TEAMS = ("a", "b")

_SPACE = " \t\n\r\f\v"


def validated_impressions(raw: DataFrame) -> DataFrame:
    """``user_id, item_id, rank, propensity, target_propensity, reward``; ``reward`` is null without such a column, and
    ``item_id`` is needed then."""
    raw = _completed(raw, "item_id", "rank")
    names, reward = ["user_id"], "reward" in raw.columns
    faults = [_no_number("propensity"), _not("propensity", "in (0, 1]", lambda p: (p > 0) & (p <= 1))]
    faults += [_no_number("target_propensity")]
    faults += [_not("target_propensity", "in [0, 1]", lambda p: (p >= 0) & (p <= 1))]
    faults += [_if_given("rank", _not("rank", "a whole number from 1", lambda r: (r >= 1) & (r == F.floor(r))))]
    if reward:
        faults.append(_no_number("reward"))
    else:
        names.append("item_id")
    return _with_row(raw).select(
        _text("user_id").alias("user_id"),
        _text("item_id").alias("item_id"),
        F.least(_number("rank"), F.lit(2.0**31 - 1)).cast("int").alias("rank"),
        _number("propensity").alias("propensity"),
        _number("target_propensity").alias("target_propensity"),
        (_number("reward") if reward else F.lit(None).cast("double")).alias("reward"),
        F.coalesce(*map(_blank, names), *faults).alias("reason"),
        "row",
    )


def validated_rewards(raw: DataFrame) -> DataFrame:
    """``user_id, item_id, reward``."""
    return _with_row(raw).select(
        _text("user_id").alias("user_id"),
        _text("item_id").alias("item_id"),
        _number("reward").alias("reward"),
        F.coalesce(_blank("user_id"), _blank("item_id"), _no_number("reward")).alias("reason"),
        "row",
    )


def validated_teams(raw: DataFrame) -> DataFrame:
    """``user_id, team, reward``."""
    return _with_row(raw).select(
        _text("user_id").alias("user_id"),
        F.lower(_text("team")).alias("team"),
        _number("reward").alias("reward"),
        F.coalesce(_blank("user_id"), _none_of("team", TEAMS), _no_number("reward")).alias("reason"),
        "row",
    )


def validated_outcomes(raw: DataFrame, *, arms: bool) -> DataFrame:
    """``user_id, arm, metric, before``; ``arm`` is null without ``arms``, ``before`` is 0 without such a column."""
    before = [_no_number("before")] if "before" in raw.columns else []
    faults = [_blank("user_id"), *([_none_of("arm", ARMS)] if arms else []), _no_number("metric"), *before]
    return _with_row(raw).select(
        _text("user_id").alias("user_id"),
        (F.lower(_text("arm")) if arms else F.lit(None).cast("string")).alias("arm"),
        _number("metric").alias("metric"),
        (_number("before") if before else F.lit(0.0)).alias("before"),
        F.coalesce(*faults).alias("reason"),
        "row",
    )


def _with_row(raw: DataFrame) -> DataFrame:
    return raw.withColumn("row", F.to_json(F.struct(*(F.col(f"`{column}`") for column in raw.columns))))


def _completed(raw: DataFrame, *names: str) -> DataFrame:
    return raw.withColumns({name: F.lit(None).cast("string") for name in names if name not in raw.columns})


def _text(name: str) -> Column:
    return F.trim(F.col(name).cast("string"), F.lit(_SPACE))


def _number(name: str) -> Column:
    return F.col(name).cast("string").try_cast("double")


def _blank(name: str) -> Column:
    return F.when(F.coalesce(_text(name), F.lit("")) == "", f"{name} is null or blank")


def _if_given(name: str, fault: Column) -> Column:
    return F.when(F.coalesce(_text(name), F.lit("")) != "", fault)


def _no_number(name: str) -> Column:
    finite = F.coalesce(F.abs(_number(name)) < float("inf"), F.lit(False))  # Spark orders NaN above infinity
    return F.when(~finite, f"{name} is not a number")


def _not(name: str, words: str, holds: Callable[[Column], Column]) -> Column:
    return F.when(~F.coalesce(holds(_number(name)), F.lit(False)), f"{name} is not {words}")


def _none_of(name: str, values: Sequence[str]) -> Column:
    is_one = F.coalesce(F.lower(_text(name)).isin(*values), F.lit(False))
    return F.when(~is_one, f"{name} is neither {' nor '.join(values)}")
