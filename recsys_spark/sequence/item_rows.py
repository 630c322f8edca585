"""Item vectors of a sequence encoder, for a join by cosine. Pure DataFrame functions.

A score is the inner product of a user's state and an item's vector v. With M the greatest length of all items,
(v, √(M² − |v|²)) has length M for each, and its product with (state, 0) is that of v and the state. So the cosine of
the two is the inner product divided by |state|·M: the same order (Bachrach et al., Speeding Up the Xbox Recommender
System, RecSys 2014).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists, slices, unit_vectors

if TYPE_CHECKING:
    from pyspark import Broadcast

    from recsys_spark.sequence.kernels.model_files import SequenceFiles

SCALE_COLUMN = {"scale": "double"}
"""Extra column of the item blocks: M, which makes item vectors of the unit vectors in a block."""

_ITEMS_AT_ONCE = 16_384

_VECTORS_DDL = "item_id string, vector array<float>, length double"


def item_vectors(items: DataFrame, embeddings: DataFrame, encoder: str, model: "Broadcast[SequenceFiles]") -> DataFrame:
    """``item_id, vector, length``: an item that the model did not learn has the vector of its text.

    Items with neither a text embedding nor an offset in the model are absent.

    Args:
        items: rows of the table.
        embeddings: rows of the table; those of ``encoder`` are read.
        encoder: fingerprint of the model's text encoder.
        model: the model.
    """
    of_encoder = embeddings.where(F.col("model") == encoder).select("text_hash", "embedding")
    rows = items.select("item_id", "text_hash").join(of_encoder, on="text_hash", how="left")

    def vectors(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for part in slices(batches, _ITEMS_AT_ONCE):
            yield _vectors(part, model.value)

    return rows.select("item_id", "embedding").mapInArrow(vectors, _VECTORS_DDL)


def cosine_vectors(vectors: DataFrame, greatest: float) -> DataFrame:
    """``item_id, embedding, scale`` for ``write_item_blocks``: vectors with one more number, all of the same length.

    Args:
        vectors: from ``item_vectors``.
        greatest: the greatest ``length`` among them, M.
    """
    rest = F.sqrt(F.greatest(F.lit(greatest**2) - F.col("length") * F.col("length"), F.lit(0.0))).cast("float")
    return vectors.select(
        "item_id", F.concat("vector", F.array(rest)).alias("embedding"), F.lit(greatest).alias("scale")
    )


def _vectors(part: pa.Table, model: "SequenceFiles") -> pa.RecordBatch:
    embeddings = np.zeros((part.num_rows, len(model.text_map)), np.float32)
    embedded, units = unit_vectors(part["embedding"].combine_chunks())
    if len(embedded):
        embeddings[embedded] = units
    ids = part["item_id"].combine_chunks()
    vectors = model.item_vectors(ids, embeddings)
    rows = np.flatnonzero(vectors.any(axis=1))
    wide = vectors[rows].astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    columns = [ids.take(pa.array(rows)), as_lists(vectors[rows]), pa.array(lengths)]
    return pa.RecordBatch.from_arrays(columns, names=["item_id", "vector", "length"])
