"""Item vectors: feature blocks of text, category, brand, price, users and image side by side. Pure DataFrame
functions."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import as_lists, matrix, unit_vectors
from recsys_spark.errors import UsageError
from recsys_spark.items.kernels.feature_blocks import hashed_block, price_block, projected_block, side_by_side
from recsys_spark.items.kernels.whitening import Whitening
from recsys_spark.items.price_quantiles import price_quantiles, with_quantiles

_NAMES = ("text", "category", "brand", "price", "collaborative", "image")

_USER_UNITS = 2.0**20
"""Integer units of a user's column of length 1 in the collaborative block."""

_PREPARED = "item_id string, embedding array<float>"


@dataclass(frozen=True)
class FeatureBlocks:
    """Weights of the feature blocks in a score, and widths of the hashed ones. A weight of 0 leaves a block out."""

    text: float = 1.0
    category: float = 0.2
    brand: float = 0.1
    price: float = 0.05
    image: float = 0.2
    category_dimension: int = 64
    brand_dimension: int = 32
    category_prices: int = 20
    collaborative: float = 0.0
    collaborative_dimension: int = 128

    @property
    def weights(self) -> dict[str, float]:
        """Weight by block name."""
        return {name: getattr(self, name) for name in _NAMES}

    @property
    def settings(self) -> dict[str, float]:
        """The settings that vectors depend on, without those of a collaborative block that is left out."""
        return {k: v for k, v in asdict(self).items() if self.collaborative or not k.startswith("collaborative")}

    def space(self, encoder: str, whitening: str | None = None, cuts: str | None = None) -> str:
        """The name of the vector space: encoder fingerprint, digest of the settings and of the name of the price cuts,
        and the name of the whitening if there is one."""
        settings = self.settings | ({"cuts": cuts} if cuts else {})
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return f"{encoder}-{digest[:8]}" + (f"-{whitening}" if whitening else "")


def block_widths(blocks: FeatureBlocks, text: int, dimension: int) -> dict[str, int]:
    """Widths of the feature blocks of an item vector, in their order. ``text``: width of an embedding."""
    widths = {
        "text": text,
        "category": blocks.category_dimension,
        "brand": blocks.brand_dimension,
        "price": 2,
        "collaborative": blocks.collaborative_dimension,
    }
    widths = {name: width for name, width in widths.items() if blocks.weights[name] > 0}
    image = dimension - sum(widths.values())
    return widths | ({"image": image} if image > 0 else {})


def encoder_of(space: str) -> str:
    """The encoder fingerprint in the name of a vector space."""
    return space.partition("-")[0]


def whitening_of(space: str) -> str | None:
    """The whitening in the name of a vector space; None without one."""
    parts = space.split("-")
    return parts[2] if len(parts) == 3 else None


def item_embeddings(items: DataFrame, embeddings: DataFrame, encoder: str) -> DataFrame:
    """Items whose text has an embedding of ``encoder``, with column ``embedding``."""
    of_encoder = embeddings.where(F.col("model") == encoder).select("text_hash", "embedding")
    return items.join(of_encoder, on="text_hash", how="inner")


def items_with_users(items: DataFrame, pairs: DataFrame) -> DataFrame:
    """Add ``users`` to items, the input of the collaborative block: ``code`` and ``units`` of each user of an item.

    ``pairs``: distinct ``user_id, item_id``. A user's column has length 1, so that a user with many items counts little
    in each of them.
    """
    sizes = pairs.groupBy("user_id").agg(F.count("*").alias("n"))
    units = F.round(_USER_UNITS / F.sqrt("n")).cast("bigint").alias("units")
    entry = F.struct(F.xxhash64("user_id").alias("code"), units)
    users = pairs.join(sizes, on="user_id").groupBy("item_id").agg(F.collect_list(entry).alias("users"))
    return items.join(users, on="item_id", how="left")


def item_vector_rows(
    items: DataFrame,
    embeddings: DataFrame,
    encoder: str,
    blocks: FeatureBlocks,
    whitening: Whitening | None = None,
    cuts: tuple[str, DataFrame] | None = None,
) -> DataFrame:
    """``item_id, model, embedding``: unit vectors, one for each item whose text has an embedding of ``encoder``.

    The price block compares quantiles within a category that has at least ``blocks.category_prices`` prices, otherwise
    within the catalogue. Items without a text embedding are absent. So are items whose text has no direction after
    ``whitening``, if all their other blocks are empty too.

    Args:
        items: from ``items_with_users`` if there is a collaborative block, which is zero for items without users.
        whitening: for the text block.
        cuts: a name and rows of ``price_quantiles``; by default those of ``items``.
    """
    name, quantiles = cuts or (None, price_quantiles(items, blocks.category_prices))
    width = items.agg(F.max(F.size("image_vec")).alias("image_dimension"))
    rows = item_embeddings(with_quantiles(items, quantiles).crossJoin(F.broadcast(width)), embeddings, encoder)
    names = ["item_id", "embedding", "category", "brand", "price", "image_vec", "cuts", "image_dimension"]
    columns = rows.select(*names, *(["users"] if blocks.collaborative else []))
    vectors = columns.mapInArrow(_assemble(blocks, whitening), _PREPARED)
    space = blocks.space(encoder, whitening.name if whitening else None, name)
    return vectors.select("item_id", F.lit(space).alias("model"), "embedding")


def _assemble(
    blocks: FeatureBlocks, whitening: Whitening | None
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def assemble(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                yield _assemble_batch(pa.Table.from_batches([batch]), blocks, whitening)

    return assemble


def _assemble_batch(rows: pa.Table, blocks: FeatureBlocks, whitening: Whitening | None) -> pa.RecordBatch:
    texts = matrix(rows["embedding"])
    cuts = np.full((1, 1), np.nan) if rows["cuts"].null_count else matrix(rows["cuts"]).astype(np.float64)
    prices = rows["price"].to_numpy().astype(np.float64)
    brands = [[brand] if brand else None for brand in rows["brand"].to_pylist()]
    vectors = side_by_side(
        {
            "text": whitening.apply(texts) if whitening else texts,
            "category": hashed_block(rows["category"].to_pylist(), blocks.category_dimension, "category"),
            "brand": hashed_block(brands, blocks.brand_dimension, "brand"),
            "price": price_block(prices, cuts),
            "collaborative": _collaborative(rows, blocks),
            "image": _images(rows),
        },
        blocks.weights,
    )
    nonzero = np.flatnonzero(vectors.any(axis=1))
    columns = [rows["item_id"].combine_chunks().take(pa.array(nonzero)), as_lists(vectors[nonzero])]
    return pa.RecordBatch.from_arrays(columns, names=["item_id", "embedding"])


def _collaborative(rows: pa.Table, blocks: FeatureBlocks) -> NDArray[np.float32]:
    if not blocks.collaborative:
        return np.zeros((rows.num_rows, 0), np.float32)
    lists = rows["users"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    entries = lists.flatten()
    codes, units = (entries.field(name).to_numpy() for name in ("code", "units"))
    return projected_block(np.concatenate([[0], np.cumsum(lengths)]), codes, units, blocks.collaborative_dimension)


def _images(rows: pa.Table) -> NDArray[np.float32]:
    """(n, width): the given vectors at unit length; a row of zeros, of cosine 0 to all others, where there is none."""
    width = max(rows["image_dimension"][0].as_py() or 0, 0)
    present, vectors = unit_vectors(rows["image_vec"].combine_chunks())
    if len(present) and vectors.shape[1] != width:
        raise UsageError(
            f"one table has image_vec of {vectors.shape[1]} and of {width} dimensions: it mixes two models"
        )
    block = np.zeros((rows.num_rows, width), np.float32)
    if len(present):
        block[present] = vectors
    return block
