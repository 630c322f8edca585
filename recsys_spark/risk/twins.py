"""Accounts with nearly the same history, by MinHash in bounded buckets; never all pairs. Pure DataFrame functions.

Broder, "On the resemblance and containment of documents" (1997): two sets share the minimum of a hash with the
probability of their Jaccard similarity. Histories that agree in a band of four minima meet in a bucket, where each is
compared with its six neighbours in the order of a hash.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.window import WindowSpec

HASHES = 32

_BAND = 4

_BUCKET = 1000
"""About the largest bucket; a larger one is split by a hash of the account."""

_REACH = 3

LEAST_ITEMS = 4
"""Shorter histories are often the same by chance."""

BEST = 3
"""Similar accounts that the mean is taken of: one may be chance."""


def signatures(sets: DataFrame, owner: str, member: str) -> DataFrame:
    """``owner, signature``: the minima of 32 hashes of the members (array<int>), of owners with LEAST_ITEMS or more.

    ``sets``: ``owner, member``, each pair once.
    """
    minima = [F.min(F.xxhash64(member, F.lit(number))) for number in range(HASHES)]
    rows = sets.groupBy(owner).agg(F.count("*").alias("n"), F.array(*minima).alias("minima"))
    low = F.transform("minima", lambda one: F.pmod(one, F.lit((1 << 31) - 1)).cast("int"))
    return rows.where(F.col("n") >= LEAST_ITEMS).select(owner, low.alias("signature"))


def similar_owners(signed: DataFrame, owner: str, best: int = BEST) -> DataFrame:
    """``owner, twins``: mean estimated Jaccard similarity of the ``best`` most similar owners met in a bucket; fewer
    count as 0."""
    bands = F.transform(
        F.sequence(F.lit(0), F.lit(HASHES - 1), F.lit(_BAND)),
        lambda start: F.xxhash64(start, F.slice("signature", start + 1, _BAND)),
    )
    met = signed.withColumn("bucket", F.explode(bands))
    sizes = met.groupBy("bucket").agg(F.count("*").alias("size")).where("size > 1")
    part = F.pmod(F.xxhash64(owner, F.lit("part")), F.ceil(F.col("size") / _BUCKET).cast("bigint"))
    rows = met.join(sizes, on="bucket").withColumn("part", part)
    order = Window.partitionBy("bucket", "part").orderBy(F.xxhash64(owner, F.col("bucket")), owner)
    near = [_compared(owner, step, order) for step in range(-_REACH, _REACH + 1) if step]
    pairs = rows.select(owner, F.array(*near).alias("near")).select(owner, F.explode("near").alias("one"))
    by_pair = pairs.where("one.other is not null").groupBy(owner, F.col("one.other").alias("other"))
    each = by_pair.agg(F.max("one.same").alias("same")).groupBy(owner)
    nearest = each.agg(F.slice(F.sort_array(F.collect_list("same"), asc=False), 1, best).alias("best"))
    total = reduce(lambda sum_, place: sum_ + F.coalesce(F.get("best", F.lit(place)), F.lit(0)), range(best), F.lit(0))
    return nearest.select(owner, (total / (best * HASHES)).alias("twins"))


def _compared(owner: str, step: int, order: WindowSpec) -> Column:
    """The owner ``step`` places further in the bucket, and the number of equal minima."""
    other = F.lead("signature", step).over(order) if step > 0 else F.lag("signature", -step).over(order)
    name = F.lead(owner, step).over(order) if step > 0 else F.lag(owner, -step).over(order)
    equal = F.zip_with("signature", other, lambda a, b: (a == b).cast("int"))
    same = F.aggregate(equal, F.lit(0), lambda total, one: total + one)
    return F.struct(name.alias("other"), F.coalesce(same, F.lit(0)).alias("same"))
