"""One document for each user or item: the list as an application reads it. Pure DataFrame functions.

Documents hold no run date and no model, which would make every list a new one each night.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_NOT_IN_DOCUMENTS = ("run_date", "model")


def list_documents(lists: DataFrame) -> DataFrame:
    """``id`` (the user) and ``items`` by rank: ``item_id, score``, and ``source`` and ``reasons`` where lists have
    them. ``lists``: rows of ``recommendations``."""
    return _ranked(lists, "user_id", {"item_id": "item_id"}, ["score", "source", "reasons"])


def neighbor_documents(neighbors: DataFrame) -> DataFrame:
    """``id`` (the item) and ``items`` by rank: ``item_id, score``. ``neighbors``: rows of ``item_neighbors``."""
    return _ranked(neighbors, "item_id", {"neighbor_id": "item_id"}, ["score"])


def vector_documents(vectors: DataFrame) -> DataFrame:
    """``id`` (the item) and ``items``, the components of its vector. ``vectors``: rows of ``item_vectors``."""
    return vectors.select(F.col("item_id").alias("id"), F.col("embedding").alias("items"))


def with_values(documents: DataFrame) -> DataFrame:
    """Documents with ``value``: their items as JSON, without fields that are null."""
    return documents.withColumn("value", F.to_json("items", {"ignoreNullFields": "true"}))


def changed_ids(old: DataFrame, new: DataFrame, id_column: str) -> DataFrame:
    """``id_column`` of the ids whose rows differ between two versions of a table.

    Digests of rows are compared, without a sort or JSON, so that documents are made of these ids alone.
    """
    rows = old.select(id_column, _row_digest(old)).unionByName(new.select(id_column, _row_digest(new)))
    # Equal rows of both versions cancel out.
    return rows.groupBy(id_column).agg(F.bit_xor("digest").alias("digest")).where("digest <> 0").select(id_column)


def changed_documents(old: DataFrame, new: DataFrame) -> DataFrame:
    """``id, value`` of documents that were added or changed; of removed ones ``value`` is null.

    Both have ``id, value``, and ids are unique. Of the old ones only digests are shuffled.
    """
    was = old.select("id", _digest().alias("was"))
    now = new.select("id", "value", _digest().alias("now"))
    joined = was.join(now, on="id", how="full")
    return joined.where(~F.col("was").eqNullSafe(F.col("now"))).select("id", "value")


def removed_documents(ids: DataFrame, documents: DataFrame) -> DataFrame:
    """``id, value`` with a null value: the ids without a document. ``ids``: ``id`` of a target, maybe repeated."""
    absent = ids.distinct().join(documents.select("id"), on="id", how="left_anti")
    return absent.select("id", F.lit(None).cast("string").alias("value"))


def bucket(buckets: int) -> Column:
    """The bucket of an id, 0 to ``buckets`` - 1: CRC-32 of its UTF-8 bytes (ISO 3309), as ``zlib.crc32`` has it."""
    return (F.crc32(F.col("id").cast("binary")) % F.lit(buckets)).cast("int")


def bucket_digests(documents: DataFrame, buckets: int) -> DataFrame:
    """``bucket, digest, documents`` of the buckets that are not empty. The digest does not depend on the order of
    rows."""
    totals = documents.groupBy(bucket(buckets).alias("bucket"))
    return totals.agg(F.bit_xor(_digest()).alias("digest"), F.count("*").alias("documents"))


def file_rows(documents: DataFrame, id_column: str, file_format: str) -> DataFrame:
    """``id, content`` as the files of a format hold them: typed items (parquet), a whole line (jsonl), or JSON.

    ``documents``: ``id, items, value``.
    """
    line = F.to_json(F.struct(F.col("id").alias(id_column), "items"), {"ignoreNullFields": "true"})
    content = {"parquet": F.col("items"), "jsonl": line, "arrow": F.col("value")}[file_format]
    return documents.select("id", content.alias("content"))


def _row_digest(rows: DataFrame) -> Column:
    """Of the columns that documents hold. A null is marked, because ``xxhash64`` skips it."""
    columns = [name for name in rows.columns if name not in _NOT_IN_DOCUMENTS]
    marks = F.concat(*(F.isnull(name).cast("int").cast("string") for name in columns))
    return F.xxhash64(*columns, marks).alias("digest")


def _digest() -> Column:
    return F.xxhash64("id", "value")


def _ranked(rows: DataFrame, key: str, item: dict[str, str], columns: list[str]) -> DataFrame:
    """Entries in the order of ``rank``, which is not part of them: an entry's position says it."""
    names: list[Column | str] = [*(F.col(stored).alias(name) for stored, name in item.items()), *columns]
    entries = F.array_sort(F.collect_list(F.struct("rank", F.struct(*names).alias("entry"))))
    items = F.transform(entries, lambda ranked: ranked["entry"])
    return rows.groupBy(F.col(key).alias("id")).agg(items.alias("items"))
