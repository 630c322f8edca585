"""Figures of items: praise in bursts, stuffed titles, copies, instructions in texts. Pure DataFrame functions."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.risk.twins import signatures, similar_owners
from recsys_spark.risk.user_figures import units

_GRID = 2.0**20

_DAYS = 7

_WORD = r"(?U)\b\w\w+\b"

_PRIOR = 20.0
"""Items that the whole catalogue counts for in the share of a category's titles that have a word."""

_INSTRUCTIONS = (
    r"ignore (all |any |the )?(previous|prior|above|other) (instructions|prompts|items)",
    r"disregard (all |any |the )?(previous|prior|above|other)",
    r"system prompt|as an ai\b|language model|you are an? \w+ (assistant|model)",
    r"(recommend|rank|place|rate) this (item|product)",
)
"""Phrases (lower case) that address a program and not a customer."""


def praise_bursts(praises: DataFrame) -> DataFrame:
    """``item_id, praise_burst``: the greatest (n − e) / √(e + 1) over the weeks, with e of the item's praises expected
    by the share of all praises in that week.

    ``praises``: ``item_id, timestamp``.
    """
    week = F.floor(F.unix_seconds("timestamp") / (86_400 * _DAYS)).alias("week")
    counts = praises.groupBy("item_id", week).agg(F.count("*").alias("n"))
    weeks = counts.groupBy("week").agg(F.sum("n").alias("of_week"))
    items = counts.groupBy("item_id").agg(F.sum("n").alias("of_item"))
    total = weeks.agg(F.sum("of_week").alias("total"))
    rows = counts.join(F.broadcast(weeks.crossJoin(F.broadcast(total))), on="week").join(items, on="item_id")
    expected = F.col("of_item") * F.col("of_week") / F.col("total")
    return rows.groupBy("item_id").agg(F.max((F.col("n") - expected) / F.sqrt(expected + 1)).alias("praise_burst"))


def title_figures(items: DataFrame) -> DataFrame:
    """``item_id, frequent_words, foreign_words``: Σ ln of the number of titles with each word of the title; Σ of
    ln(share of all titles / share of the category's other titles) over words where it is positive.

    The second is null for items without a category.
    """
    named = items.select("item_id", F.get("category", F.lit(0)).alias("category"), _words("title").alias("words"))
    words = named.select("item_id", "category", F.explode("words").alias("word"))
    titles = words.groupBy("word").agg(F.count("*").alias("titles"))
    within = words.groupBy("category", "word").agg(F.count("*").alias("within"))
    sizes = named.groupBy("category").agg(F.count("*").alias("size"))
    total = named.agg(F.count("*").alias("total"))
    rows = (
        words.join(titles, on="word")
        .join(within, on=["category", "word"], how="left")
        .join(sizes, on="category", how="left")
    )
    rows = rows.crossJoin(F.broadcast(total))
    share = F.col("titles") / F.col("total")
    usual = (F.col("within") - 1 + _PRIOR * share) / (F.col("size") - 1 + _PRIOR)
    return rows.groupBy("item_id").agg(
        (F.sum(units(F.log(F.col("titles").cast("double")))) / _GRID).alias("frequent_words"),
        (F.sum(units(F.greatest(F.log(share / usual), F.lit(0.0)))) / _GRID).alias("foreign_words"),
    )


def near_copies(items: DataFrame) -> DataFrame:
    """``item_id, near_copy``: estimated Jaccard similarity of the text to the nearest one met, by words."""
    words = items.select("item_id", F.explode(_words("text")).alias("word"))
    copies = similar_owners(signatures(words, "item_id", "word"), "item_id", best=1)
    return copies.withColumnRenamed("twins", "near_copy")


def instructions(items: DataFrame) -> DataFrame:
    """``item_id, instructions``: number of phrases in the text that address a program."""
    counts = [F.coalesce(F.lower("text").rlike(phrase), F.lit(False)).cast("int") for phrase in _INSTRUCTIONS]
    return items.select("item_id", sum(counts[1:], counts[0]).alias("instructions"))


def _words(column: str) -> Column:
    return F.array_distinct(F.regexp_extract_all(F.lower(column), F.lit(_WORD), F.lit(0)))
