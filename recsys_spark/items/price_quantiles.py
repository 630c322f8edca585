"""Cut points that prices are compared by. Pure DataFrame functions."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

CATALOGUE = ""
"""In the place of a category: the whole catalogue."""

_QUANTILES = 101


def price_quantiles(items: DataFrame, least: int) -> DataFrame:
    """``category, prices, cuts``: 101 approximate quantiles of the prices of the whole catalogue and of each category,
    the last name of an item's path, that has ``least`` prices. No row where there is no price.
    Prices that are not finite do not count."""
    steps = ", ".join(str(step / (_QUANTILES - 1)) for step in range(_QUANTILES))
    cuts = F.expr(f"percentile_approx(price, array({steps}), 10000)").alias("cuts")
    items, number = items.withColumn("price", finite_price()), F.count("price").alias("prices")
    whole = items.agg(number, cuts).select(F.lit(CATALOGUE).alias("category"), "prices", "cuts")
    own = items.withColumn("leaf", _leaf()).where(F.col("leaf").isNotNull()).groupBy("leaf").agg(number, cuts)
    large = own.where(F.col("prices") >= least).select(F.col("leaf").alias("category"), "prices", "cuts")
    return whole.where(F.col("cuts").isNotNull()).unionByName(large)


def with_quantiles(items: DataFrame, cuts: DataFrame) -> DataFrame:
    """Items with ``cuts``: those of their category where it has some, else those of the catalogue, else null."""
    own = cuts.where(F.col("category") != CATALOGUE).select(F.col("category").alias("leaf"), F.col("cuts").alias("own"))
    whole = cuts.where(F.col("category") == CATALOGUE).select(F.col("cuts").alias("all"))
    both = items.withColumn("leaf", _leaf()).join(F.broadcast(own), on="leaf", how="left")
    both = both.join(F.broadcast(whole), on=F.lit(True), how="left")
    return both.withColumn("cuts", F.coalesce("own", "all")).drop("leaf", "own", "all")


def finite_price() -> Column:
    """``price``, null where it is no finite number: Spark counts NaN, and orders it above infinity."""
    return F.when(F.abs("price") < float("inf"), F.col("price"))


def _leaf() -> Column:
    return F.try_element_at("category", F.lit(-1))
