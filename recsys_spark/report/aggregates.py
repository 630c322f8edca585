"""What a report tells of a lake, as small tables: aggregates in Spark, samples by a hash. Pure DataFrame functions."""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

ABOUT_ITEMS = ("text", "category", "brand", "price", "image_vec")


def completeness(items: DataFrame) -> DataFrame:
    """One row: ``items`` and, of each of ABOUT_ITEMS, how many items have it."""
    return items.agg(F.count("*").alias("items"), *(F.count(name).alias(name) for name in ABOUT_ITEMS))


def text_lengths(items: DataFrame) -> DataFrame:
    """``least, rows``: items by the characters of their text, from ``least`` to twice as many."""
    return _doubling(items.where(F.length("text") > 0).select(F.length("text").alias("n")))


def history_lengths(events: DataFrame) -> DataFrame:
    """``least, rows``: users by how many events they have, from ``least`` to twice as many."""
    return _doubling(events.groupBy("user_id").agg(F.count("*").alias("n")))


def events_by_day(events: DataFrame) -> DataFrame:
    """``day, event_type, events``: as many rows as days and types, and both follow from them."""
    by = F.to_date("timestamp").alias("day"), "event_type"
    return events.groupBy(*by).agg(F.count("*").alias("events")).orderBy("day", "event_type")


def bad_rows(quarantine: DataFrame, most: int) -> DataFrame:
    """``table, reason, rows``: the most frequent reasons."""
    counted = quarantine.groupBy("table", "reason").agg(F.count("*").alias("rows"))
    return counted.orderBy(F.desc("rows"), "table", "reason").limit(most)


def popularity(items: DataFrame, events: DataFrame, lists: DataFrame) -> DataFrame:
    """``events, shown, items``: how many items have so many events and stand in so many lists.

    As many rows as different pairs of numbers, far fewer than items: whatever curve or share is asked of popularity and
    exposure follows from it.
    """
    counted = events.groupBy("item_id").agg(F.count("*").alias("events"))
    exposed = lists.groupBy("item_id").agg(F.count("*").alias("shown"))
    both = items.select("item_id").join(counted, on="item_id", how="left").join(exposed, on="item_id", how="left")
    numbers = [F.coalesce(name, F.lit(0)).alias(name) for name in ("events", "shown")]
    return both.groupBy(*numbers).agg(F.count("*").alias("items")).orderBy("events", "shown")


def evaluated_users(
    events: DataFrame, lists: DataFrame, popular: DataFrame, run_date: date, right: Column, k: int
) -> DataFrame:
    """``user_id, events, relevant, listed, popular``: a row for every user with a list and something relevant. Events
    and lists are read once, however many scorers and slices are asked for.

    Args:
        events: of the users who are judged; ``events`` counts those before ``run_date``.
        lists: ``user_id, item_id, rank``; the first k places count.
        popular: from ``popular_items``; each user gets the first k that are new to them.
        run_date: events on or after it judge, those before it are known.
        right: whether an event speaks for its item (``liked``).
        k: places.
    """
    later = F.col("timestamp") >= F.lit(str(run_date)).cast("timestamp")
    own = events.groupBy("user_id").agg(
        F.count_if(~later).alias("events"),
        F.collect_set(F.when(~later, F.col("item_id"))).alias("own"),
        F.collect_set(F.when(later & right, F.col("item_id"))).alias("later"),
    )
    new = own.withColumn("relevant", F.array_except("later", "own")).where(F.array_size("relevant") > 0)
    places = F.array_sort(F.collect_list(F.struct("rank", "item_id")))
    first = lists.where(F.col("rank") <= k).groupBy("user_id")
    listed = first.agg(F.transform(places, lambda place: place["item_id"]).alias("listed"))
    both = new.join(listed, on="user_id", how="inner").crossJoin(F.broadcast(popular))
    fresh = F.slice(F.array_except("popular", "own"), 1, k)
    return both.select("user_id", "events", "relevant", "listed", fresh.alias("popular"))


def places_of(users: DataFrame, column: str, scorer: str) -> DataFrame:
    """``user_id, item_id, rank, scorer`` of the lists in a column of ``evaluated_users``."""
    places = users.select("user_id", F.posexplode(column).alias("place", "item_id"))
    return places.select("user_id", "item_id", (F.col("place") + 1).alias("rank"), F.lit(scorer).alias("scorer"))


def metric_slices(per_user: DataFrame, about: DataFrame) -> DataFrame:
    """``scorer, slice, users`` and of each metric its mean and ``<metric>_sd``, the standard deviation over users.

    Args:
        per_user: ``user_id, scorer`` and metrics.
        about: ``user_id, events, groups``: how many events a user had, and the groups, are slices.
    """
    metrics = [name for name in per_user.columns if name not in ("user_id", "scorer")]
    n = F.coalesce("events", F.lit(0))
    band = F.when(n == 0, "none").when(n < 5, "below 5").when(n <= 20, "5 to 20").otherwise("above 20")
    placed = per_user.join(about.select("user_id", band.alias("band"), "groups"), on="user_id", how="left")
    groups = F.transform(F.coalesce("groups", F.array().cast("array<string>")), lambda g: F.concat(F.lit("users: "), g))
    names = F.concat(F.array(F.lit("all"), F.concat(F.lit("history: "), F.col("band"))), groups)
    long = placed.select("scorer", *metrics, F.explode(names).alias("slice"))
    means = [F.avg(name).alias(name) for name in metrics]
    spreads = [F.coalesce(F.stddev_samp(name), F.lit(0.0)).alias(f"{name}_sd") for name in metrics]
    return long.groupBy("scorer", "slice").agg(F.count("*").alias("users"), *means, *spreads).orderBy("slice")


def list_drift(now: DataFrame, was: DataFrame) -> DataFrame:
    """One row: ``users`` with a list in both, ``kept``: the mean share of a list that was in the last one, ``same``:
    users whose list has the same items, ``new_users`` and ``lost_users``."""
    lists = _sets(now, "now").join(_sets(was, "was"), on="user_id", how="full")
    both = F.array_size(F.array_intersect("now", "was")).alias("both")  # null unless both are there
    sizes = lists.select(F.array_size("now").alias("now"), F.array_size("was").alias("was"), both)
    return sizes.agg(
        F.count("both").alias("users"),
        F.avg(F.col("both") / F.col("now")).alias("kept"),
        F.count_if((F.col("both") == F.col("now")) & (F.col("both") == F.col("was"))).alias("same"),
        F.count_if(F.col("was").isNull()).alias("new_users"),
        F.count_if(F.col("now").isNull()).alias("lost_users"),
    )


def _sets(lists: DataFrame, name: str) -> DataFrame:
    return lists.groupBy("user_id").agg(F.collect_set("item_id").alias(name))


def sampled_items(items: DataFrame, most: int) -> DataFrame:
    """``item_id, title, category, text_hash`` of some items with a text, picked by a hash of the id."""
    picked = items.where(F.col("text_hash").isNotNull()).orderBy(F.xxhash64("item_id"), "item_id").limit(most)
    return picked.select("item_id", F.coalesce("title", "item_id").alias("title"), "category", "text_hash")


def with_texts_embedded(sample: DataFrame, embeddings: DataFrame, encoder: str) -> DataFrame:
    """``sample`` with ``embedding`` of its text, in the order of item_id."""
    own = embeddings.where(F.col("model") == encoder).select("text_hash", "embedding")
    return own.join(F.broadcast(sample), on="text_hash", how="inner").orderBy("item_id")


def stories(lists: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """``user_id, rank, item_id, title, score, reasons`` of some users' lists."""
    titles = items.select("item_id", F.coalesce("title", "item_id").alias("title"))
    own = lists.join(F.broadcast(users), on="user_id", how="left_semi").join(titles, on="item_id", how="left")
    return own.select("user_id", "rank", "item_id", "title", "score", "reasons").orderBy("user_id", "rank")


def _doubling(numbers: DataFrame) -> DataFrame:
    least: Column = F.pow(F.lit(2.0), F.length(F.bin("n")) - 1).cast("bigint")  # exact, unlike log2
    return numbers.groupBy(least.alias("least")).agg(F.count("*").alias("rows")).orderBy("least")
