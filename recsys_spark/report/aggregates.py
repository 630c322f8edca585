"""Small tables of a report: aggregates in Spark, samples drawn by a hash. Pure DataFrame functions."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_START_CHARS = 1000

ITEM_FIELDS = ("text", "category", "brand", "price", "image_vec")


def completeness(items: DataFrame) -> DataFrame:
    """One row: the number of ``items``, and for each of ITEM_FIELDS the number of items that have it."""
    return items.agg(F.count("*").alias("items"), *(F.count(name).alias(name) for name in ITEM_FIELDS))


def text_lengths(items: DataFrame) -> DataFrame:
    """``least, rows``: number of items with ``least`` to 2·``least`` − 1 characters of text."""
    return _doubling(items.where(F.length("text") > 0).select(F.length("text").alias("n")))


def history_lengths(events: DataFrame) -> DataFrame:
    """``least, rows``: number of users with ``least`` to 2·``least`` − 1 events."""
    return _doubling(events.groupBy("user_id").agg(F.count("*").alias("n")))


def events_by_day(events: DataFrame) -> DataFrame:
    """``day, event_type, events``: number of events of each type on each day."""
    keys = F.to_date("timestamp").alias("day"), "event_type"
    return events.groupBy(*keys).agg(F.count("*").alias("events")).orderBy("day", "event_type")


def bad_rows(quarantine: DataFrame, most: int) -> DataFrame:
    """``table, reason, rows``: the ``most`` frequent reasons."""
    counted = quarantine.groupBy("table", "reason").agg(F.count("*").alias("rows"))
    return counted.orderBy(F.desc("rows"), "table", "reason").limit(most)


def popularity(items: DataFrame, events: DataFrame, lists: DataFrame) -> DataFrame:
    """``events, listed, items``: number of items with that many events and in that many lists.

    There are far fewer different pairs of counts than items, and all curves and shares of popularity and exposure
    follow from them.
    """
    counted = events.groupBy("item_id").agg(F.count("*").alias("events"))
    exposure = lists.groupBy("item_id").agg(F.count("*").alias("listed"))
    joined = items.select("item_id").join(counted, on="item_id", how="left").join(exposure, on="item_id", how="left")
    counts = [F.coalesce(name, F.lit(0)).alias(name) for name in ("events", "listed")]
    return joined.groupBy(*counts).agg(F.count("*").alias("items")).orderBy("events", "listed")


def evaluated_users(
    events: DataFrame,
    lists: DataFrame,
    popular: DataFrame,
    run_date: date,
    is_positive: Column,
    k: int,
    *,
    repeats: bool = False,
) -> DataFrame:
    """``user_id, events, relevant, listed, popular``: a row for every user with a list and a relevant item.

    Events and lists are read once for all scorers and slices. Relevant items have a positive event on or after
    ``run_date`` and, without ``repeats``, no event before it.

    Args:
        events: of the users to evaluate; the column ``events`` counts those before ``run_date``.
        lists: ``user_id, item_id, rank``; the first k ranks count.
        popular: from ``popular_items``; a user's popularity list is the first k without an event before ``run_date``.
        run_date: separates the history from the events to predict.
        is_positive: whether an event makes its item relevant (``is_positive_event``).
        k: length of the lists.
        repeats: lists may show items that a user had: these are relevant too, and in the popularity lists.
    """
    later = F.col("timestamp") >= F.lit(str(run_date)).cast("timestamp")
    histories = events.groupBy("user_id").agg(
        F.count_if(~later).alias("events"),
        F.collect_set(F.when(~later, F.col("item_id"))).alias("before"),
        F.collect_set(F.when(later & is_positive, F.col("item_id"))).alias("later"),
    )
    hidden = F.array().cast("array<string>") if repeats else F.col("before")
    relevant = histories.withColumn("relevant", F.array_except("later", hidden))
    ranked = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    first = lists.where(F.col("rank") <= k).groupBy("user_id")
    listed = first.agg(F.transform(ranked, lambda entry: entry["item_id"]).alias("listed"))
    users = relevant.where(F.array_size("relevant") > 0).join(listed, on="user_id", how="inner")
    first_popular = F.slice(F.array_except("popular", hidden), 1, k).alias("popular")
    return users.crossJoin(F.broadcast(popular)).select("user_id", "events", "relevant", "listed", first_popular)


def ranked_rows(users: DataFrame, column: str, scorer: str) -> DataFrame:
    """``user_id, item_id, rank, scorer`` of the lists in a column of ``evaluated_users``."""
    rows = users.select("user_id", F.posexplode(column).alias("position", "item_id"))
    return rows.select("user_id", "item_id", (F.col("position") + 1).alias("rank"), F.lit(scorer).alias("scorer"))


def metric_slices(per_user: DataFrame, attributes: DataFrame) -> DataFrame:
    """``scorer, slice, users``, and for each metric its mean and standard deviation ``<metric>_sd`` over users.

    Args:
        per_user: ``user_id, scorer`` and metrics.
        attributes: ``user_id, events, groups``: users are sliced by number of earlier events, and by group.
    """
    metrics = [name for name in per_user.columns if name not in ("user_id", "scorer")]
    n = F.coalesce("events", F.lit(0))
    band = F.when(n == 0, "none").when(n < 5, "below 5").when(n <= 20, "5 to 20").otherwise("above 20")
    banded = per_user.join(attributes.select("user_id", band.alias("band"), "groups"), on="user_id", how="left")
    groups = F.transform(F.coalesce("groups", F.array().cast("array<string>")), lambda g: F.concat(F.lit("users: "), g))
    names = F.concat(F.array(F.lit("all"), F.concat(F.lit("history: "), F.col("band"))), groups)
    long = banded.select("scorer", *metrics, F.explode(names).alias("slice"))
    means = [F.avg(name).alias(name) for name in metrics]
    spreads = [F.coalesce(F.stddev_samp(name), F.lit(0.0)).alias(f"{name}_sd") for name in metrics]
    return long.groupBy("scorer", "slice").agg(F.count("*").alias("users"), *means, *spreads).orderBy("slice")


def list_drift(now: DataFrame, was: DataFrame) -> DataFrame:
    """Compare two versions of the lists in one row.

    ``users`` have a list in both; ``overlap`` is the mean share of a list that was in the last one; ``same`` counts
    users with the same items; ``new_users`` and ``lost_users`` have a list in one version only.
    """
    lists = _sets(now, "now").join(_sets(was, "was"), on="user_id", how="full")
    both = F.array_size(F.array_intersect("now", "was")).alias("both")  # null if one is missing
    sizes = lists.select(F.array_size("now").alias("now"), F.array_size("was").alias("was"), both)
    return sizes.agg(
        F.count("both").alias("users"),
        F.avg(F.col("both") / F.col("now")).alias("overlap"),
        F.count_if((F.col("both") == F.col("now")) & (F.col("both") == F.col("was"))).alias("same"),
        F.count_if(F.col("was").isNull()).alias("new_users"),
        F.count_if(F.col("now").isNull()).alias("lost_users"),
    )


def _sets(lists: DataFrame, name: str) -> DataFrame:
    return lists.groupBy("user_id").agg(F.collect_set("item_id").alias(name))


def sampled_items(items: DataFrame, most: int) -> DataFrame:
    """``item_id, title, category, text_hash, start`` of up to ``most`` items with a text, sampled by a hash of the id.
    ``start``: of the text."""
    sample = items.where(F.col("text_hash").isNotNull()).orderBy(F.xxhash64("item_id"), "item_id").limit(most)
    title, start = F.coalesce("title", "item_id").alias("title"), F.substring("text", 1, _START_CHARS).alias("start")
    return sample.select("item_id", title, "category", "text_hash", start)


def with_texts_embedded(sample: DataFrame, embeddings: DataFrame, encoder: str) -> DataFrame:
    """``sample`` with the ``embedding`` of its text, ordered by item_id."""
    encoded = embeddings.where(F.col("model") == encoder).select("text_hash", "embedding")
    return encoded.join(F.broadcast(sample), on="text_hash", how="inner").orderBy("item_id")


def explained_lists(lists: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """``user_id, rank, item_id, title, score, reasons`` of the lists of ``users``."""
    titles = items.select("item_id", F.coalesce("title", "item_id").alias("title"))
    rows = lists.join(F.broadcast(users), on="user_id", how="left_semi").join(titles, on="item_id", how="left")
    return rows.select("user_id", "rank", "item_id", "title", "score", "reasons").orderBy("user_id", "rank")


def _doubling(numbers: DataFrame) -> DataFrame:
    least: Column = F.pow(F.lit(2.0), F.length(F.bin("n")) - 1).cast("bigint")  # exact, unlike log2
    return numbers.groupBy(least.alias("least")).agg(F.count("*").alias("rows")).orderBy("least")
