"""Quantiles of prices, as cut points of the price block. Pure DataFrame functions."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

CATALOGUE = ""
"""Stands for the whole catalogue in column ``category``."""

_QUANTILES = 101


def price_quantiles(items: DataFrame, least: int) -> DataFrame:
    """``category, prices, cuts``: 101 approximate price quantiles of the catalogue and of categories.

    A category is the last name of an item's path; it has a row if it has at least ``least`` prices. Prices that are not
    finite do not count. Without a price there is no row.
    """
    steps = ", ".join(str(step / (_QUANTILES - 1)) for step in range(_QUANTILES))
    cuts = F.expr(f"percentile_approx(price, array({steps}), 10000)").alias("cuts")
    items, number = items.withColumn("price", finite_price()), F.count("price").alias("prices")
    whole = items.agg(number, cuts).select(F.lit(CATALOGUE).alias("category"), "prices", "cuts")
    by_leaf = items.withColumn("leaf", _leaf()).where(F.col("leaf").isNotNull()).groupBy("leaf").agg(number, cuts)
    large = by_leaf.where(F.col("prices") >= least).select(F.col("leaf").alias("category"), "prices", "cuts")
    return whole.where(F.col("cuts").isNotNull()).unionByName(large)


def with_quantiles(items: DataFrame, cuts: DataFrame) -> DataFrame:
    """Add ``cuts`` to items: those of the category if it has any, else those of the catalogue, else null."""
    of_category = cuts.where(F.col("category") != CATALOGUE).select(
        F.col("category").alias("leaf"), F.col("cuts").alias("category_cuts")
    )
    of_catalogue = cuts.where(F.col("category") == CATALOGUE).select(F.col("cuts").alias("catalogue_cuts"))
    rows = items.withColumn("leaf", _leaf()).join(F.broadcast(of_category), on="leaf", how="left")
    rows = rows.join(F.broadcast(of_catalogue), on=F.lit(True), how="left")
    joined = rows.withColumn("cuts", F.coalesce("category_cuts", "catalogue_cuts"))
    return joined.drop("leaf", "category_cuts", "catalogue_cuts")


def finite_price() -> Column:
    """``price``, or null if it is not finite: Spark counts NaN and sorts it above infinity."""
    return F.when(F.abs("price") < float("inf"), F.col("price"))


def _leaf() -> Column:
    return F.try_element_at("category", F.lit(-1))
