"""Figures of each user's log, for comparison with users who have as many events. Pure DataFrame functions.

All sums are sums of integers, so that no figure depends on partitions. Sources: rating deviation and its agreement with
others (WDMA, RDMA: Chirita, Nejdl, Zamfir, WIDM 2005; Burke and others, KDD 2006), burstiness (Goh, Barabási, EPL 81,
2008).
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_GRID = 2.0**20

HEAVY_WORDS = 8
"""Words of an item that count in the coherence of a history."""

_PRIOR = 1.0
"""Values that the mean of all counts for in the mean of an item's other values."""


def units(column: Column) -> Column:
    """A number as an integer multiple of 2⁻²⁰."""
    return F.round(column * _GRID).cast("bigint")


def mean_of(column: Column) -> Column:
    """Aggregate: the mean by exact sums; null without a value."""
    return F.try_divide(F.sum(units(column)), F.count(column)) / _GRID


def spread_of(column: Column) -> Column:
    """Aggregate: the standard deviation by exact sums."""
    mean, squares = mean_of(column), mean_of(column * column)
    return F.sqrt(F.greatest(squares - mean * mean, F.lit(0.0)))


def entropy_of(count: Column) -> Column:
    """Aggregate over the counts of one user: the entropy in nats."""
    total = F.sum(count)
    return F.log(total) - F.sum(units(count * F.log(count))) / _GRID / total


def level() -> Column:
    """The value of an event on a scale that sums make sense of: a rating as it is, an amount as ln(1 + amount)."""
    amount = F.log1p(F.greatest(F.col("value"), F.lit(0.0)))
    return F.when(F.col("event_type") == "rating", F.col("value")).otherwise(amount)


def time_figures(events: DataFrame) -> DataFrame:
    """``user_id, busiest_hour, burstiness, same_hours``: ln of the most events in an hour; (σ − μ) / (σ + μ) of the
    pauses; − entropy of the hour of the day."""
    by_time = Window.partitionBy("user_id").orderBy("timestamp", "item_id", "event_type")
    second = F.unix_seconds("timestamp")
    timed = events.select(
        "user_id", second.alias("second"), F.log1p(second - F.lag(second).over(by_time)).alias("pause")
    )
    by_hour = timed.groupBy("user_id", F.floor(F.col("second") / 3600).alias("hour")).agg(F.count("*").alias("n"))
    busiest = by_hour.groupBy("user_id").agg(F.log(F.max("n").cast("double")).alias("busiest_hour"))
    of_day = by_hour.groupBy("user_id", F.pmod("hour", F.lit(24)).alias("hour")).agg(F.sum("n").alias("n"))
    hours = of_day.groupBy("user_id").agg((-entropy_of(F.col("n").cast("double"))).alias("same_hours"))
    mean, spread = mean_of(F.col("pause")), spread_of(F.col("pause"))
    pauses = timed.groupBy("user_id").agg(F.try_divide(spread - mean, spread + mean).alias("burstiness"))
    return busiest.join(hours, on="user_id").join(pauses, on="user_id")


def category_figures(events: DataFrame, items: DataFrame) -> DataFrame:
    """``user_id, scattered_categories, turn``: entropy of the categories; half the L1 distance between those of the
    later and of the earlier half. Users without a categorised item are absent."""
    by_user = Window.partitionBy("user_id")
    later = F.row_number().over(by_user.orderBy("timestamp", "item_id", "event_type")) * 2 > F.count("*").over(by_user)
    placed = events.select("user_id", "item_id", later.alias("later"))
    categories = items.select("item_id", F.explode("category").alias("category"))
    counts = (
        placed.join(categories, on="item_id")
        .groupBy("user_id", "category")
        .agg(F.count_if(~F.col("later")).alias("before"), F.count_if("later").alias("after"))
    )
    totals = counts.groupBy("user_id").agg(F.sum("before").alias("all_before"), F.sum("after").alias("all_after"))
    shares = [F.col(half) / F.greatest(f"all_{half}", F.lit(1)) for half in ("before", "after")]
    distance = F.sum(units(F.abs(shares[0] - shares[1]))) / _GRID / 2
    return (
        counts.join(totals, on="user_id")
        .groupBy("user_id")
        .agg(
            entropy_of((F.col("before") + F.col("after")).cast("double")).alias("scattered_categories"),
            F.when((F.min("all_before") > 0) & (F.min("all_after") > 0), distance).alias("turn"),
        )
    )


def popularity_figures(pairs: DataFrame) -> DataFrame:
    """``user_id, rare_items, mixed_popularity``: mean of −ln of an item's users, and its standard deviation."""
    users = pairs.groupBy("item_id").agg(F.log(F.count("*").cast("double")).alias("popularity"))
    rows = pairs.join(users, on="item_id").groupBy("user_id")
    popularity = F.col("popularity")
    return rows.agg((-mean_of(popularity)).alias("rare_items"), spread_of(popularity).alias("mixed_popularity"))


def value_figures(events: DataFrame) -> DataFrame:
    """``user_id, deviation, rare_deviation, top_values, low_values, value_spread, peak_value`` of users with values.

    Values are divided by the standard deviation of their event type. The deviation is from the mean of the item's other
    values and, counting as one value, of all. ``rare_deviation``: ln of the mean of deviation / number of the item's
    values. A top or low value of a rating is the greatest or least of the log; of an amount, one that is 2 standard
    deviations off.
    """
    valued = events.where("value is not null").withColumn("level", level())
    kinds = valued.groupBy("event_type").agg(
        mean_of(F.col("level")).alias("mean"), spread_of(F.col("level")).alias("spread"),
        F.max("level").alias("most"), F.min("level").alias("least"),
    )  # fmt: skip
    rows = valued.join(F.broadcast(kinds.where("spread > 0")), on="event_type")
    rows = rows.withColumn("level", (F.col("level") - F.col("mean")) / F.col("spread"))
    is_rating = F.col("event_type") == "rating"
    most, least = ((F.col(name) - F.col("mean")) / F.col("spread") for name in ("most", "least"))
    rows = rows.withColumns(
        {
            "top": F.when(is_rating, F.col("level") >= most - 1e-9).otherwise(F.col("level") > 2.0),
            "low": F.when(is_rating, F.col("level") <= least + 1e-9).otherwise(F.col("level") < -2.0),
        }
    ).select("user_id", "item_id", "level", "top", "low")
    of_item = rows.groupBy("item_id").agg(F.sum(units(F.col("level"))).alias("sum"), F.count("*").alias("values"))
    others = (F.col("sum") / _GRID - F.col("level")) / (F.col("values") - 1 + _PRIOR)
    off = F.abs(F.col("level") - others)
    figures = rows.join(of_item, on="item_id").withColumn("off", off).groupBy("user_id")
    return figures.agg(
        mean_of(F.col("off")).alias("deviation"),
        F.log(mean_of(F.col("off") / F.col("values")) + 1e-4).alias("rare_deviation"),
        (F.count_if("top") / F.count("*")).alias("top_values"),
        (F.count_if("low") / F.count("*")).alias("low_values"),
        spread_of(F.col("level")).alias("value_spread"),
        F.when(F.count_if(~F.col("top") | ~F.col("low")) > 0, F.max("level") - mean_of(F.col("level"))).alias(
            "peak_value"
        ),
    )


def text_figures(users: DataFrame) -> DataFrame:
    """``user_id, shared_text``: ln of the number of users with the same text."""
    shared = users.where("text_hash is not null").groupBy("text_hash").agg(F.count("*").alias("n"))
    figure = F.log(F.col("n").cast("double")).alias("shared_text")
    return users.join(shared, on="text_hash").select("user_id", figure)


def coherence_figures(pairs: DataFrame, words: DataFrame) -> DataFrame:
    """``user_id, unrelated_items``: − mean cosine of two of the user's items, by the heaviest words of their texts.

    The sum over all pairs is ‖Σv‖² − Σ‖v‖²: no pair is formed. Users with fewer than two such items are absent.

    Args:
        pairs: ``user_id, item_id``, each once.
        words: ``item_id, words, word_values``: codes and their TF-IDF values.
    """
    entries = F.arrays_zip("words", "word_values")
    heavy = F.sort_array(F.transform(entries, lambda one: F.struct(one["word_values"], one["words"])), asc=False)
    items = words.select("item_id", F.slice(heavy, 1, HEAVY_WORDS).alias("heavy"))
    norm = F.sqrt(F.aggregate("heavy", F.lit(0.0), lambda total, one: total + one["word_values"] * one["word_values"]))
    single = items.withColumn("norm", norm).select("item_id", "norm", F.explode("heavy").alias("one"))
    value = (F.col("one.word_values") / F.col("norm")).alias("value")
    rows = pairs.join(single.select("item_id", F.col("one.words").alias("word"), value), on="item_id")
    by_word = rows.groupBy("user_id", "word").agg(
        F.sum(units(F.col("value"))).alias("sum"), F.sum(units(F.col("value") * F.col("value"))).alias("own")
    )
    square = F.col("sum") / _GRID * (F.col("sum") / _GRID)
    totals = by_word.groupBy("user_id").agg(F.sum(units(square)).alias("square"), F.sum("own").alias("own"))
    counts = pairs.join(items.select("item_id"), on="item_id", how="left_semi").groupBy("user_id")
    totals = totals.join(counts.agg(F.count("*").cast("double").alias("n")), on="user_id").where("n > 1")
    cosine = (F.col("square") - F.col("own")) / _GRID / (F.col("n") * (F.col("n") - 1))
    return totals.select("user_id", (-cosine).alias("unrelated_items"))
