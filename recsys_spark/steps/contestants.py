"""The contestants of an evaluation: every scorer fitted with every setting, its arrays written once for all tasks."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from pyspark.sql import DataFrame

from recsys_spark.baselines import fitted_pairs, gram_of, partial_grams, weights_matrix, words_matrix
from recsys_spark.blocks import unit_vectors
from recsys_spark.comparison import Contestant
from recsys_spark.item_blocks import ItemBlocks, write_item_blocks
from recsys_spark.item_features import FEATURE_COLUMNS, item_features, word_values
from recsys_spark.item_weights import WEIGHTS_DDL, WeightFit, parts_of, weight_rows
from recsys_spark.job import Run
from recsys_spark.kernels.scorers import ItemScores, ItemVectors, ItemWeights, Scorer, ease, item_knn
from recsys_spark.kernels.vectors import Matrix
from recsys_spark.kernels.whitening import Moments, Whitening, whitening
from recsys_spark.scorer_files import keep_array, keep_scorer
from recsys_spark.vectors import item_embeddings
from recsys_spark.whitening import whitened

EASE_ITEMS = 20_000
"""The closed form needs 12·n² bytes: with more items it is left out."""
_WHITENING_OF_HYBRID = 0.1
_BLOCK_ROWS = 2048
Setting = dict[str, float]

_DECAYS: list[Setting] = [{"decay": decay} for decay in (0.8, 0.6, 0.65, 0.7, 0.75, 0.9, 1.0)]
PLANS: dict[str, list[list[Setting]]] = {
    "popularity": [[{"decay": 1.0}]],
    "item_knn": [[{"neighbors": 100, "shrink": 20}, {"neighbors": 100, "shrink": 100}], _DECAYS],
    "ease": [[{"ridge": 50}, {"ridge": 100}, {"ridge": 200}], _DECAYS],
    "tfidf": [_DECAYS],
    "cosine": [_DECAYS],
    "cosine_whitened": [[{"shrink": shrink} for shrink in (0.1, 0.03, 0.3, 1.0)], _DECAYS],
    "hybrid": [
        [{"text_weight": text, "ridge": ridge} for text, ridge in ((3, 100), (2, 50), (5, 100))],
        [{"candidates": 100}, {"candidates": 200}],
        _DECAYS,
    ],
}
"""Validation tunes one round after the other: the best option of a round stays for the next ones. A round that has not
come yet stands at its first option. ``decay`` is what an event counts for each newer one of the user."""

SCORERS = tuple(PLANS)


def start(scorer: str) -> Setting:
    """Every round at its first option."""
    return {key: value for options in PLANS[scorer] for key, value in options[0].items()}


@dataclass(frozen=True)
class Items:
    """The item side: ``texts`` (item_id, text), ``embeddings`` (item_id, embedding) and ``numbers`` (item_id, row) as
    frames; of each row its id, unit vector and words; zeros where an item has none."""

    texts: DataFrame
    embeddings: DataFrame
    numbers: DataFrame
    ids: pa.Array
    vectors: Matrix
    words: sp.csr_array

    @cached_property
    def moments(self) -> Moments:
        """Of all vectors."""
        return Moments.of(self.vectors)

    def whitening(self, shrink: float) -> Whitening:
        """Fitted on all items."""
        return whitening(self.moments, shrink)


def read_items(run: Run, items: DataFrame, embeddings: DataFrame, encoder: str) -> Items:
    """Number the items in the order of item_id and take their vectors and words to the driver."""
    texts = item_embeddings(items, embeddings, encoder).select("item_id", "embedding")
    ids = items.select("item_id").orderBy("item_id").toArrow()["item_id"].combine_chunks()
    table = texts.toArrow()
    usable, known = unit_vectors(table["embedding"].combine_chunks())
    vectors = np.zeros((len(ids), known.shape[1] or 1), np.float32)
    vectors[pc.index_in(table["item_id"], ids).to_numpy()[usable]] = known
    rows = pa.table({"item_id": ids, "row": pa.array(np.arange(len(ids)), pa.int32())})
    words = words_matrix(word_values(items).toArrow(), ids)
    return Items(items, texts, run.spark.createDataFrame(rows), ids, vectors, words)


class Contestants:
    """Fits what is asked for on the events of some roles. ``uri``: where arrays are written."""

    def __init__(self, run: Run, items: Items, users: DataFrame, last_role: int, uri: str) -> None:
        self._run, self._items, self._users, self._last_role, self._uri = run, items, users, last_role, uri
        self._kept: dict[str, str] = {}
        grams = partial_grams(users, len(items.ids), last_role).collect()  # one row per task
        self.gram = gram_of([tuple(row) for row in grams], len(items.ids))

    def keep_facts(self) -> str:
        """What slices, novelty and diversity are told by; returns their folder."""
        uri = f"{self._uri}/facts"
        keep_array(self.gram.diagonal().astype(np.int64), f"{uri}/counts.npy")
        keep_array(np.diff(self._items.words.indptr), f"{uri}/lengths.npy")
        keep_array(self._items.vectors, f"{uri}/vectors.npy")
        return uri

    def contestant(self, scorer: str, setting: Setting) -> Contestant:
        """A scorer with its setting, fitted where that was not done before."""
        fit = {key: value for key, value in setting.items() if key != "decay"}
        name = "-".join([scorer, *(f"{key}={value:g}" for key, value in sorted(fit.items()))])
        if name not in self._kept:
            self._kept[name] = keep_scorer(self._fit(scorer, fit), f"{self._uri}/{name}")
        return Contestant(scorer, self._kept[name], setting["decay"], setting)

    def _fit(self, scorer: str, setting: Setting) -> Scorer:
        if scorer == "popularity":
            return ItemScores(self.gram.diagonal().astype(np.float32))
        if scorer == "item_knn":
            return ItemWeights(item_knn(self.gram, int(setting["neighbors"]), setting["shrink"]))
        if scorer == "ease":
            return ItemWeights(ease(self.gram.toarray().astype(np.float32), setting["ridge"]))
        if scorer == "tfidf":
            return ItemVectors(self._items.words)
        if scorer == "cosine":
            return ItemVectors(self._items.vectors)
        if scorer == "cosine_whitened":
            return ItemVectors(self._items.whitening(setting["shrink"]).apply(self._items.vectors))
        fit = WeightFit(
            candidates=int(setting["candidates"]),
            vector_weight=setting["text_weight"],
            word_weight=setting["text_weight"],
            ridge=setting["ridge"],
        )
        return ItemWeights(self._weights(fit))

    def _weights(self, fit: WeightFit) -> sp.csr_array:
        """Item weights, by the same transformation that publishes them."""
        make = weight_rows(self._blocks, fit)
        parts = parts_of(self._run.spark, self._blocks)
        found = parts.mapInArrow(lambda batches: make(batches, {}), WEIGHTS_DDL).toArrow()
        return weights_matrix(found, self._items.ids)

    @cached_property
    def _blocks(self) -> ItemBlocks:
        pairs = fitted_pairs(self._users, self._items.numbers, self._last_role)
        vectors = whitened(self._items.embeddings, "item_id", self._items.whitening(_WHITENING_OF_HYBRID))
        features = item_features(self._items.texts, pairs, vectors, self._items.vectors.shape[1])
        tasks = 2 * self._run.spark.sparkContext.defaultParallelism
        return write_item_blocks(features, f"{self._uri}/blocks", _BLOCK_ROWS, tasks=tasks, carried=FEATURE_COLUMNS)
