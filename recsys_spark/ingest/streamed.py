"""Events of a stream, as rows of ``events`` beside those of the sources. Pure DataFrame functions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.schemas import EVENTS


def beside(streamed: DataFrame, others: DataFrame) -> DataFrame:
    """The ``streamed`` events that add something to ``others``: their key is not there, or with a lower value.

    The semi-join first, as in ``without_stored``: if streamed rows are few they are broadcast.
    """
    key = list(EVENTS.key)
    same = others.select(*key, F.col("value").alias("other")).join(streamed.select(*key), on=key, how="left_semi")
    best = same.groupBy(*key).agg(F.max("other").alias("other"), F.lit(1).alias("is_there"))
    value, other = F.col("value"), F.col("other")
    adds = F.col("is_there").isNull() | (value > other) | (value.isNotNull() & other.isNull())
    return streamed.join(best, on=key, how="left").where(adds).select(*EVENTS.columns)
