"""Raw rows to items, users and events: clean, build the text, judge every row. Pure DataFrame functions.

Each ``judge_*`` returns the table's columns plus ``reason`` (null for a good row) and ``row`` (the raw row as JSON),
so that ``accepted`` and ``rejected`` split one and the same plan. Events, of which there are most, are judged one by
one: ``unique_events`` and ``repeated_events`` then tell those that were delivered twice apart.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.ingest.losses import item_losses, user_losses
from recsys_spark.ingest.text_columns import as_text, cleaned, from_template, leaves, text_hash
from recsys_spark.ingest.times import day, moment
from recsys_spark.sources.queries import fields_of
from recsys_spark.tables.schemas import EVENTS, ITEMS, USER_RULES, USERS, Table

DUPLICATE = "duplicate key"
"""Resolved, not bad: the best of the rows stays, the others are kept in quarantine and do not count at the gate."""

LATE = "timestamp after"
"""Begins the reason of an event that is not believed before its day has come."""

_SPACE = " \t\n\r\f\v"


def validate_items(raw: DataFrame, template: Sequence[str], max_chars: int) -> DataFrame:
    """Items: cleaned title, text by template, category path, brand, price; null, blank and duplicate ids judged.

    Of several rows with one ``item_id`` the newest ``updated_at`` stays, then the greatest by content.
    """
    pictured = "image_vec" in raw.columns
    raw = _completed(raw, "locale", "available_from", "available_until", "boost", "image_vec")
    frame = _with_text(_with_row(raw), template, max_chars, extra=["title", "brand"], table=ITEMS)
    updated = moment(raw, "updated_at")
    judged = frame.select(
        _id("item_id"),
        "title",
        "text",
        text_hash(F.col("text")).alias("text_hash"),
        _category(raw).alias("category"),
        "brand",
        _finite(F.col("price").cast("string").try_cast("double")).alias("price"),
        _trimmed(F.col("locale")).alias("locale"),
        day("available_from").alias("available_from"),
        day("available_until").alias("available_until"),
        F.expr("try_cast(boost AS float)").alias("boost"),
        _image(raw).alias("image_vec"),
        F.coalesce(
            _blank("item_id"), *map(_not_a_date, ("available_from", "available_until")), _boost(), _not_a_vector(raw)
        ).alias("reason"),
        "row",
        updated.alias("updated_at"),
        item_losses(dict(raw.dtypes)["category"], updated, has_template=bool(template)),
    )
    judged = _of_one_length(judged) if pictured else judged
    return _one_per_key(judged, ITEMS, [F.col("updated_at").desc_nulls_last()])


def validate_users(raw: DataFrame, template: Sequence[str], max_chars: int) -> DataFrame:
    """Users: the text that describes them, by template; null, blank and duplicate ids judged."""
    frame = _with_text(_with_row(_completed(raw, "locale")), template, max_chars, extra=[], table=USERS)
    groups = _groups(dict(raw.dtypes)["groups"]) if "groups" in raw.columns else F.lit(None).cast("array<string>")
    judged = frame.select(
        _id("user_id"),
        "text",
        text_hash(F.col("text")).alias("text_hash"),
        _trimmed(F.col("locale")).alias("locale"),
        groups.alias("groups"),
        _blank("user_id").alias("reason"),
        "row",
        user_losses(has_template=bool(template)),
    )
    return _one_per_key(judged, USERS, [])


def validate_rules(raw: DataFrame) -> DataFrame:
    """Allow and deny rules: both ids and a known rule."""
    rule = F.lower(_trimmed(F.col("rule")))
    known = F.when(~F.coalesce(rule.isin("allow", "deny"), F.lit(False)), "rule is neither allow nor deny")
    reasons = F.coalesce(_blank("user_id"), _blank("item_id"), known)
    judged = _with_row(raw).select(_id("user_id"), _id("item_id"), rule.alias("rule"), reasons.alias("reason"), "row")
    return _one_per_key(judged, USER_RULES, [])


def validate_events(raw: DataFrame, earliest: date, latest: date) -> DataFrame:
    """Events: ids, type, a believable UTC timestamp (both days inclusive), an optional finite value."""
    first, after = (
        F.lit(str(earliest)).cast("timestamp"),
        F.date_add(F.lit(str(latest)).cast("date"), 1).cast("timestamp"),
    )
    time = moment(raw, "timestamp")
    value = F.expr("try_cast(value AS double)")
    reasons = F.coalesce(
        _blank("user_id"),
        _blank("item_id"),
        _blank("event_type"),
        F.when(time.isNull(), "timestamp is null or not a time"),
        F.when(time < first, f"timestamp before {earliest}"),
        F.when(time >= after, f"{LATE} {latest}"),
        F.when(F.col("value").isNotNull() & ~_is_finite(value), "value is not a number"),
    )
    return _with_row(raw).select(
        _id("user_id"),
        _id("item_id"),
        _id("event_type"),
        time.alias("timestamp"),
        value.alias("value"),
        reasons.alias("reason"),
        "row",
    )


def unique_events(good: DataFrame, stored: DataFrame | None = None) -> DataFrame:
    """Rows of ``events``, and in ``rows`` how many of ``good`` each stands for: logs deliver at least once, and of
    several rows with one key the greatest value stays. Without those that are ``stored`` already."""
    key = list(EVENTS.key)
    unique = good.groupBy(*key).agg(F.max("value").alias("value"), F.count("*").alias("rows"))
    return unique if stored is None else without_known(unique, stored, key)


def without_known(new: DataFrame, stored: DataFrame, key: list[str]) -> DataFrame:
    """``new`` without the keys that are ``stored``. Where new rows are few, no stored one is shuffled to meet them."""
    known = stored.select(*key).join(new.select(*key), on=key, how="left_semi")
    return new.join(known, on=key, how="left_anti")


def repeated_events(good: DataFrame, stored: DataFrame | None = None) -> DataFrame:
    """The judged rows that another one with their key makes needless, those that are ``stored`` before others, with
    their reason."""
    key, columns = list(EVENTS.key), [*EVENTS.columns, "row", "place"]
    several = good.groupBy(*key).agg(F.count("*").alias("rows")).where("rows > 1").select(*key)
    rows = good.withColumn("place", F.lit(1))
    if stored is not None:
        several = several.union(good.select(*key).join(stored, on=key, how="left_semi")).distinct()
        first = stored.withColumns({"row": F.lit(None).cast("string"), "place": F.lit(0)})
        rows = rows.select(*columns).unionByName(first.select(*columns))
    group = Window.partitionBy(*key).orderBy("place", F.col("value").desc_nulls_last(), F.col("row").desc())
    ranked = rows.join(several, on=key, how="left_semi").withColumn("number", F.row_number().over(group))
    return ranked.where("number > 1 AND place = 1").withColumn("reason", F.lit(DUPLICATE))


def superseded_events(good: DataFrame, stored: DataFrame) -> DataFrame:
    """The ``stored`` rows in whose place one of ``good`` with a greater value belongs."""
    key = list(EVENTS.key)
    greatest = good.groupBy(*key).agg(F.max("value").alias("greatest"))
    both = stored.join(greatest, on=key, how="inner")
    return both.where((F.col("greatest") > F.col("value")) | (F.col("value").isNull() & F.col("greatest").isNotNull()))


def users_of(events: DataFrame) -> DataFrame:
    """Where a dataset describes no users: everybody who has an event, without a text."""
    kinds = {name: kind for name, kind in USERS.columns.items() if name != "user_id"}
    return events.select("user_id").distinct().withColumns({n: F.lit(None).cast(kind) for n, kind in kinds.items()})


def accepted(judged: DataFrame, table: Table) -> DataFrame:
    """The rows that become the table."""
    return judged.where(F.col("reason").isNull()).select(*table.columns)


def accepted_with_losses(judged: DataFrame, table: Table) -> DataFrame:
    """As ``accepted``, with what each row has lost: for ``losses.counting``."""
    return judged.where(F.col("reason").isNull()).select(*table.columns, "losses")


def rejected(judged: DataFrame, table: Table) -> DataFrame:
    """The rows that go to quarantine, with their reason."""
    return judged.where(F.col("reason").isNotNull()).select(F.lit(table.name).alias("table"), "reason", "row")


def _with_row(raw: DataFrame) -> DataFrame:
    return raw.withColumn("row", F.to_json(F.struct(*(F.col(f"`{column}`") for column in raw.columns))))


def _completed(raw: DataFrame, *names: str) -> DataFrame:
    """With columns that a source need not have."""
    return raw.withColumns({name: F.lit(None).cast("string") for name in names if name not in raw.columns})


def _with_text(frame: DataFrame, template: Sequence[str], max_chars: int, extra: list[str], table: Table) -> DataFrame:
    kinds = dict(frame.dtypes)
    fields = {name: as_text(name, kinds[name], table.name) for name in [*fields_of(template), *extra]}
    clean = frame.withColumns({name: cleaned(text, max_chars) for name, text in fields.items()})
    return clean.withColumn(
        "text", F.substring(from_template(template), 1, max_chars) if template else F.lit(None).cast("string")
    )


def _groups(kind: str) -> Column:
    """Names of groups; a plain string is a group of one."""
    given = F.col("groups")
    return F.array_compact((given if kind.startswith("array") else F.array(given)).cast("array<string>"))


def _of_one_length(judged: DataFrame) -> DataFrame:
    """Judged items whose ``image_vec`` has the length of most of them, of the longer ones where two are as many: one
    vector of another model must not stop all others."""
    size = F.size("image_vec")
    sizes = judged.where(F.col("reason").isNull() & (size > 0)).groupBy(size.alias("size")).agg(F.count("*").alias("n"))
    usual = sizes.agg(F.max_by("size", F.struct("n", "size")).alias("usual"))
    other = F.col("reason").isNull() & (size > 0) & (size != F.col("usual"))
    reason = F.concat(F.lit("image_vec has another length than most: "), F.col("usual").cast("string"))
    rows = judged.crossJoin(F.broadcast(usual))
    return rows.withColumn("reason", F.when(other, reason).otherwise(F.col("reason"))).drop("usual")


def _id(name: str) -> Column:
    return _trimmed(F.col(name)).alias(name)


def _blank(name: str) -> Column:
    return F.when(F.coalesce(_trimmed(F.col(name)), F.lit("")) == "", f"{name} is null or blank")


def _trimmed(text: Column) -> Column:
    return F.trim(text.cast("string"), F.lit(_SPACE))


def _not_a_date(name: str) -> Column:
    there = F.coalesce(_trimmed(F.col(name)), F.lit("")) != ""
    return F.when(there & day(name).isNull(), f"{name} is not a date")


def _boost() -> Column:
    there = F.coalesce(_trimmed(F.col("boost")), F.lit("")) != ""
    return F.when(there & ~_is_finite(F.expr("try_cast(boost AS float)")), "boost is not a number")


def _image(raw: DataFrame) -> Column:
    return F.when(F.size(_numbers(raw)) > 0, _numbers(raw))


def _numbers(raw: DataFrame) -> Column:
    """An array of numbers; a string, as of a CSV file, is read as one in JSON."""
    kind = dict(raw.dtypes)["image_vec"]
    given = F.col("image_vec")
    return (given if kind.startswith("array") else F.from_json(given.cast("string"), "array<float>")).try_cast(
        "array<float>"
    )


def _not_a_vector(raw: DataFrame) -> Column:
    there = F.coalesce(_trimmed(F.col("image_vec")), F.lit("")) != ""
    usable = F.coalesce(F.forall(_numbers(raw), _is_finite), F.lit(False))
    return F.when(there & ~usable, "image_vec is not a vector of numbers")


def _finite(value: Column) -> Column:
    return F.when(_is_finite(value), value)


def _is_finite(value: Column) -> Column:
    return F.coalesce(F.abs(value) < float("inf"), F.lit(False))  # Spark orders NaN above infinity


def _category(raw: DataFrame) -> Column:
    """A path or set of names; a plain string is a path of one, and arrays within arrays are read one after another."""
    kind = dict(raw.dtypes)["category"]
    names = leaves("category", kind, ITEMS.name)
    names = F.filter(F.transform(names if kind.startswith("array<") else F.array(names), _trimmed), _is_not_empty)
    return F.when(F.size(names) > 0, names)


def _is_not_empty(text: Column) -> Column:
    return F.length(text) > 0


def _one_per_key(judged: DataFrame, table: Table, preference: list[Column]) -> DataFrame:
    # Bad rows are groups of their own by content: all null ids together would make one huge window.
    apart = F.when(F.col("reason").isNotNull(), F.xxhash64("row"))
    group = Window.partitionBy(apart, *table.key).orderBy(*preference, F.col("row").desc())
    ranked = judged.withColumn("place", F.row_number().over(group))
    return ranked.withColumn("reason", F.coalesce("reason", F.when(F.col("place") > 1, DUPLICATE)))
