"""Item features that weights are fitted on: users, words and vector of each item. Pure DataFrame functions.

Codes (xxhash64) stand for users, words and items, so that no numbering has to be built.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.codes import code
from recsys_spark.events.trust import distrusted
from recsys_spark.tables.sampling import hash_sample

FEATURE_COLUMNS = {"users": "array<bigint>", "words": "array<bigint>", "word_values": "array<float>"}
"""Extra columns of an item block for the fit: codes ascending; ``word_values`` is a unit vector."""

TRUST_COLUMNS = {"user_values": "array<float>"}
"""A further column of an item block if users are not all trusted: the root of the trust in each of ``users``."""

_WORD = r"(?U)\b\w\w+\b"


def word_values(items: DataFrame) -> DataFrame:
    """``item_id, words, word_values``: TF-IDF of the words of ``text``, at unit length.

    A word is at least two letters or digits, in lower case. Its value is (1 + ln tf) · (ln((1 + n)/(1 + df)) + 1), with
    n items that have words, df of them with this word (Manning et al., Introduction to Information Retrieval, §6.4; as
    scikit-learn's TfidfVectorizer with sublinear_tf). Items without a word have no row.
    """
    words = F.regexp_extract_all(F.lower("text"), F.lit(_WORD), F.lit(0))
    counted = items.select("item_id", F.explode(words).alias("word")).groupBy("item_id", code(F.col("word")).alias("c"))
    tf = counted.agg(F.count("*").alias("tf"))
    df = tf.groupBy("c").agg(F.count("*").alias("df"))
    size = tf.agg(F.countDistinct("item_id").alias("n"))
    idf = df.crossJoin(F.broadcast(size)).select("c", (F.log((1 + F.col("n")) / (1 + F.col("df"))) + 1).alias("idf"))
    valued = tf.join(idf, on="c").select(
        "item_id", F.struct("c", ((1 + F.log("tf")) * F.col("idf")).alias("v")).alias("p")
    )
    rows = valued.groupBy("item_id").agg(F.array_sort(F.collect_list("p")).alias("p"))
    norm = F.sqrt(F.aggregate("p", F.lit(0.0), lambda total, pair: total + pair["v"] * pair["v"]))
    values = F.transform("p", lambda pair: (pair["v"] / F.col("norm")).cast("float"))
    return rows.withColumn("norm", norm).select("item_id", F.col("p.c").alias("words"), values.alias("word_values"))


def item_features(items: DataFrame, pairs: DataFrame, vectors: DataFrame, dimension: int) -> DataFrame:
    """``item_id, embedding`` and FEATURE_COLUMNS of every item; a missing feature is an empty array, or zeros.

    Args:
        items: ``item_id, text``.
        pairs: ``user_id, item_id`` of positive events.
        vectors: ``item_id, embedding``.
        dimension: of the vectors.
    """
    users = pairs.groupBy("item_id").agg(F.array_sort(F.collect_set(code(F.col("user_id")))).alias("users"))
    texts = items.select("item_id", "text")
    rows = texts.join(users, on="item_id", how="left").join(word_values(texts), on="item_id", how="left")
    rows = rows.join(vectors.select("item_id", "embedding"), on="item_id", how="left")
    filled = [F.coalesce(name, F.array().cast(kind)).alias(name) for name, kind in FEATURE_COLUMNS.items()]
    zeros = F.array_repeat(F.lit(0.0).cast("float"), dimension)
    return rows.select("item_id", *filled, F.coalesce("embedding", zeros).alias("embedding"))


def trusted_features(features: DataFrame, pairs: DataFrame, user_risk: DataFrame, item_risk: DataFrame) -> DataFrame:
    """``item_features`` with TRUST_COLUMNS, words and vectors scaled by the trust in the item.

    With the roots as values, a common user counts his trust. Trust is a power of four, so that roots and their sums are
    exact.

    Args:
        features: from ``item_features``.
        pairs: ``user_id, item_id`` that they were made from.
        user_risk, item_risk: the tables.
    """
    trust = distrusted(user_risk)
    root = F.sqrt(F.coalesce("trust", F.lit(1.0))).cast("float")
    entry = F.struct(code(F.col("user_id")).alias("code"), root.alias("value"))
    users = pairs.join(trust, on="user_id", how="left").groupBy("item_id").agg(
        F.array_sort(F.collect_set(entry)).alias("entries")
    )  # fmt: skip
    items = distrusted(item_risk, "item_id").select("item_id", F.col("trust").cast("float").alias("scale"))
    rows = features.join(users, on="item_id", how="left").join(items, on="item_id", how="left")
    scale = F.coalesce("scale", F.lit(1.0).cast("float"))
    scaled = {name: F.transform(name, lambda x: x * scale) for name in ("word_values", "embedding")}
    entries = F.coalesce("entries", F.array().cast("array<struct<code:bigint,value:float>>"))
    columns = {"users": entries["code"], "user_values": entries["value"], **scaled}
    return rows.withColumns(columns).select(*features.columns, *TRUST_COLUMNS)


def sample_of_users(pairs: DataFrame, share: float) -> DataFrame:
    """All pairs of a ``share`` of the users, drawn by a hash of the id; a share of 1 or more keeps all users."""
    if share >= 1:
        return pairs
    return pairs.where(hash_sample("user_id", share))
