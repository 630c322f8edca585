"""Validate raw rows of items, users, rules and events: clean, build the text, find faults. Pure DataFrame functions.

Each ``validate_*`` returns the columns of the table, ``reason`` (null for a good row) and ``row`` (the raw row as
JSON), so that ``accepted`` and ``rejected`` split the same plan. Events are the largest table and are validated row by
row; ``unique_events`` and ``repeated_events`` then separate events that were delivered twice.
"""

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.ingest.attributes import attributes, no_attributes
from recsys_spark.ingest.losses import item_losses, scrubbed_kinds, user_losses
from recsys_spark.ingest.text_columns import as_text, cleaned, flattened, from_template, text_hash
from recsys_spark.ingest.times import day, moment
from recsys_spark.sources.queries import fields_of
from recsys_spark.tables.schemas import EVENTS, ITEMS, USER_RULES, USERS, Table

DUPLICATE = "duplicate key"
"""Reason of a duplicate. The best row of a key is kept; the others go to quarantine and do not count as bad rows."""

LATE = "timestamp after"
"""Prefix of the reason of an event in the future, which is rejected until its day."""

_SPACE = " \t\n\r\f\v"


def validate_items(raw: DataFrame, template: Sequence[str], max_chars: int, *, scrub: bool = False) -> DataFrame:
    """Items: cleaned title, text from the template, category path, brand, price. Null, blank and duplicate ids are
    faults.

    Of several rows with one ``item_id`` the one with the newest ``updated_at`` is kept, then the greatest by content.
    ``scrub``: personal values in texts are replaced by their kind.
    """
    has_vectors = "image_vec" in raw.columns
    raw = _completed(raw, "locale", "available_from", "available_until", "boost", "image_vec", "attributes")
    frame = _with_text(_with_row(raw), template, max_chars, extra=["title", "brand"], table=ITEMS, scrub=scrub)
    updated = moment(raw, "updated_at")
    validated = frame.select(
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
        attributes(raw).alias("attributes"),
        F.coalesce(
            _blank("item_id"),
            *map(_not_a_date, ("available_from", "available_until")),
            _boost(),
            _not_a_vector(raw),
            no_attributes(raw),
        ).alias("reason"),
        "row",
        updated.alias("updated_at"),
        item_losses(dict(raw.dtypes)["category"], updated, has_template=bool(template), scrub=scrub),
    )
    validated = _with_one_length(validated) if has_vectors else validated
    return _one_per_key(validated, ITEMS, [F.col("updated_at").desc_nulls_last()])


def validate_users(raw: DataFrame, template: Sequence[str], max_chars: int, *, scrub: bool = False) -> DataFrame:
    """Users: the text from the template, locale and groups. Null, blank and duplicate ids are faults. ``scrub`` as for
    items."""
    raw = _completed(raw, "locale", "attributes")
    frame = _with_text(_with_row(raw), template, max_chars, extra=[], table=USERS, scrub=scrub)
    groups = _groups(dict(raw.dtypes)["groups"]) if "groups" in raw.columns else F.lit(None).cast("array<string>")
    validated = frame.select(
        _id("user_id"),
        "text",
        text_hash(F.col("text")).alias("text_hash"),
        _trimmed(F.col("locale")).alias("locale"),
        groups.alias("groups"),
        attributes(raw).alias("attributes"),
        F.coalesce(_blank("user_id"), no_attributes(raw)).alias("reason"),
        "row",
        user_losses(has_template=bool(template), scrub=scrub),
    )
    return _one_per_key(validated, USERS, [])


def validate_rules(raw: DataFrame) -> DataFrame:
    """Allow and deny rules: faults are null and blank ids, duplicates, and rules that are neither."""
    rule = F.lower(_trimmed(F.col("rule")))
    bad_rule = F.when(~F.coalesce(rule.isin("allow", "deny"), F.lit(False)), "rule is neither allow nor deny")
    reasons = F.coalesce(_blank("user_id"), _blank("item_id"), bad_rule)
    validated = _with_row(raw).select(
        _id("user_id"), _id("item_id"), rule.alias("rule"), reasons.alias("reason"), "row"
    )
    return _one_per_key(validated, USER_RULES, [])


def validate_events(raw: DataFrame, earliest: date, latest: date) -> DataFrame:
    """Events: ids, type, UTC timestamp from ``earliest`` to ``latest`` (days, inclusive), optional finite value."""
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
    """Merge ``good`` rows with the same key into one row of ``events``; ``rows`` is their number.

    Logs deliver at least once: of several rows with one key the greatest value is kept. Keys in ``stored`` are
    left out.
    """
    key = list(EVENTS.key)
    unique = good.groupBy(*key).agg(F.max("value").alias("value"), F.count("*").alias("rows"))
    return unique if stored is None else without_stored(unique, stored, key)


def without_stored(new: DataFrame, stored: DataFrame, key: list[str]) -> DataFrame:
    """``new`` without the rows whose key is in ``stored``.

    The semi-join first: if new rows are few they are broadcast, and no stored row is shuffled.
    """
    repeated = stored.select(*key).join(new.select(*key), on=key, how="left_semi")
    return new.join(repeated, on=key, how="left_anti")


def repeated_events(good: DataFrame, stored: DataFrame | None = None) -> DataFrame:
    """The ``good`` rows that duplicate another with the same key, with their reason. A ``stored`` row with the key is
    the original, otherwise the row with the greatest value is."""
    key, columns = list(EVENTS.key), [*EVENTS.columns, "row", "is_new"]
    several = good.groupBy(*key).agg(F.count("*").alias("rows")).where("rows > 1").select(*key)
    rows = good.withColumn("is_new", F.lit(1))
    if stored is not None:
        several = several.union(good.select(*key).join(stored, on=key, how="left_semi")).distinct()
        first = stored.withColumns({"row": F.lit(None).cast("string"), "is_new": F.lit(0)})
        rows = rows.select(*columns).unionByName(first.select(*columns))
    group = Window.partitionBy(*key).orderBy("is_new", F.col("value").desc_nulls_last(), F.col("row").desc())
    ranked = rows.join(several, on=key, how="left_semi").withColumn("number", F.row_number().over(group))
    return ranked.where("number > 1 AND is_new = 1").withColumn("reason", F.lit(DUPLICATE))


def superseded_events(good: DataFrame, stored: DataFrame) -> DataFrame:
    """The ``stored`` rows that a ``good`` row with the same key and a greater value replaces."""
    key = list(EVENTS.key)
    greatest = good.groupBy(*key).agg(F.max("value").alias("greatest"))
    pairs = stored.join(greatest, on=key, how="inner")
    return pairs.where((F.col("greatest") > F.col("value")) | (F.col("value").isNull() & F.col("greatest").isNotNull()))


def users_of(events: DataFrame) -> DataFrame:
    """Every user with an event, without a text: the users of a dataset that does not describe them."""
    kinds = {name: kind for name, kind in USERS.columns.items() if name != "user_id"}
    return events.select("user_id").distinct().withColumns({n: F.lit(None).cast(kind) for n, kind in kinds.items()})


def accepted(validated: DataFrame, table: Table) -> DataFrame:
    """The good rows, with the columns of the table."""
    return validated.where(F.col("reason").isNull()).select(*table.columns)


def accepted_with_losses(validated: DataFrame, table: Table) -> DataFrame:
    """The good rows, with the columns of the table and ``losses``, for ``losses.count_losses``."""
    return validated.where(F.col("reason").isNull()).select(*table.columns, "losses")


def rejected(validated: DataFrame, table: Table) -> DataFrame:
    """The bad rows as rows of quarantine, with their reason."""
    return validated.where(F.col("reason").isNotNull()).select(F.lit(table.name).alias("table"), "reason", "row")


def _with_row(raw: DataFrame) -> DataFrame:
    return raw.withColumn("row", F.to_json(F.struct(*(F.col(f"`{column}`") for column in raw.columns))))


def _completed(raw: DataFrame, *names: str) -> DataFrame:
    """``raw`` with the optional columns ``names``, null where it lacks one."""
    return raw.withColumns({name: F.lit(None).cast("string") for name in names if name not in raw.columns})


def _with_text(
    frame: DataFrame, template: Sequence[str], max_chars: int, extra: list[str], table: Table, *, scrub: bool
) -> DataFrame:
    """``frame`` with cleaned fields and the ``text`` that the template makes of them; with ``scrub`` also ``scrubbed``,
    the kinds of the values that were replaced in the fields."""
    kinds = dict(frame.dtypes)
    fields = {name: as_text(name, kinds[name], table.name) for name in [*fields_of(template), *extra]}
    clean = frame.withColumns({name: cleaned(text, max_chars, scrub=scrub) for name, text in fields.items()})
    if scrub:
        clean = clean.withColumn("scrubbed", scrubbed_kinds(fields))
    return clean.withColumn(
        "text", F.substring(from_template(template), 1, max_chars) if template else F.lit(None).cast("string")
    )


def _groups(kind: str) -> Column:
    """Names of groups; a plain string is a list of one."""
    given = F.col("groups")
    return F.array_compact((given if kind.startswith("array") else F.array(given)).cast("array<string>"))


def _with_one_length(validated: DataFrame) -> DataFrame:
    """``validated`` with a reason for every ``image_vec`` that differs from the most frequent length (the longer of two
    equally frequent ones). One vector of another model must not stop all items.
    """
    size = F.size("image_vec")
    sizes = (
        validated.where(F.col("reason").isNull() & (size > 0)).groupBy(size.alias("size")).agg(F.count("*").alias("n"))
    )
    usual = sizes.agg(F.max_by("size", F.struct("n", "size")).alias("usual"))
    other = F.col("reason").isNull() & (size > 0) & (size != F.col("usual"))
    reason = F.concat(F.lit("image_vec has another length than most: "), F.col("usual").cast("string"))
    rows = validated.crossJoin(F.broadcast(usual))
    return rows.withColumn("reason", F.when(other, reason).otherwise(F.col("reason"))).drop("usual")


def _id(name: str) -> Column:
    return _trimmed(F.col(name)).alias(name)


def _blank(name: str) -> Column:
    return F.when(F.coalesce(_trimmed(F.col(name)), F.lit("")) == "", f"{name} is null or blank")


def _trimmed(text: Column) -> Column:
    return F.trim(text.cast("string"), F.lit(_SPACE))


def _not_a_date(name: str) -> Column:
    is_given = F.coalesce(_trimmed(F.col(name)), F.lit("")) != ""
    return F.when(is_given & day(name).isNull(), f"{name} is not a date")


def _boost() -> Column:
    is_given = F.coalesce(_trimmed(F.col("boost")), F.lit("")) != ""
    return F.when(is_given & ~_is_finite(F.expr("try_cast(boost AS float)")), "boost is not a number")


def _image(raw: DataFrame) -> Column:
    return F.when(F.size(_numbers(raw)) > 0, _numbers(raw))


def _numbers(raw: DataFrame) -> Column:
    """``image_vec`` as an array of numbers; a string, as in a CSV file, is parsed as a JSON array."""
    kind = dict(raw.dtypes)["image_vec"]
    vector = F.col("image_vec")
    numbers = vector if kind.startswith("array") else F.from_json(vector.cast("string"), "array<float>")
    return numbers.try_cast("array<float>")


def _not_a_vector(raw: DataFrame) -> Column:
    is_given = F.coalesce(_trimmed(F.col("image_vec")), F.lit("")) != ""
    usable = F.coalesce(F.forall(_numbers(raw), _is_finite), F.lit(False))
    return F.when(is_given & ~usable, "image_vec is not a vector of numbers")


def _finite(value: Column) -> Column:
    return F.when(_is_finite(value), value)


def _is_finite(value: Column) -> Column:
    return F.coalesce(F.abs(value) < float("inf"), F.lit(False))  # Spark orders NaN above infinity


def _category(raw: DataFrame) -> Column:
    """A path or set of names: a plain string is a path of one, nested arrays are flattened, blank names are dropped."""
    kind = dict(raw.dtypes)["category"]
    names = flattened("category", kind, ITEMS.name)
    names = F.transform(names if kind.startswith("array<") else F.array(names), _trimmed)
    names = F.filter(names, lambda name: F.length(name) > 0)
    return F.when(F.size(names) > 0, names)


def _one_per_key(validated: DataFrame, table: Table, preference: list[Column]) -> DataFrame:
    # Each bad row is a group of its own, by content: all null ids in one group would make a huge window.
    bad_row = F.when(F.col("reason").isNotNull(), F.xxhash64("row"))
    group = Window.partitionBy(bad_row, *table.key).orderBy(*preference, F.col("row").desc())
    ranked = validated.withColumn("row_number", F.row_number().over(group))
    return ranked.withColumn("reason", F.coalesce("reason", F.when(F.col("row_number") > 1, DUPLICATE)))
