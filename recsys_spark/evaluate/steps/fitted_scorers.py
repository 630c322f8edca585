"""Fit each scorer with each setting, and write its arrays once for all tasks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from recsys_spark.arrays.arrow import matrix, unit_vectors
from recsys_spark.arrays.vectors import Matrix, unit_rows
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import write_item_blocks
from recsys_spark.evaluate.comparison import Candidate
from recsys_spark.evaluate.driver_matrices import (
    counts_of,
    fitted_pairs,
    gram_of,
    partial_counts,
    partial_grams,
    weights_matrix,
    words_matrix,
)
from recsys_spark.evaluate.kernels.recency import ItemCounts
from recsys_spark.evaluate.kernels.scorer_files import ScorerFiles, write_array, write_scorer
from recsys_spark.evaluate.kernels.scorers import (
    ItemScores,
    ItemVectors,
    ItemWeights,
    OwnHistory,
    Scorer,
    ease,
    hybrid_gram,
    item_knn,
)
from recsys_spark.evaluate.protocols import one_event_earlier
from recsys_spark.evaluate.steps.composed_scorers import COMPOSED
from recsys_spark.evaluate.steps.search_grids import FEATURES, Setting
from recsys_spark.hybrid.item_features import FEATURE_COLUMNS, item_features, word_values
from recsys_spark.hybrid.item_weights import WEIGHTS_DDL, WeightFit, weight_rows
from recsys_spark.hybrid.steps.fit_item_weights import parts_of
from recsys_spark.items.kernels.feature_blocks import side_by_side
from recsys_spark.items.kernels.whitening import Moments, Whitening, whitening
from recsys_spark.items.vectors import FeatureBlocks, block_widths, item_embeddings, item_vector_rows
from recsys_spark.items.whitening import whitened
from recsys_spark.runtime.lifecycle import Run

_WHITENING_OF_HYBRID = 0.1

_BLOCK_ROWS = 2048

_NOT_FITTED = ("decay", "own_half_life", "epochs")
"""Settings that change no fit, or are found by it."""

_TEXT_ONLY = 1e6
"""``text_share`` of hybrids without user features: the text decides which neighbours are candidates."""

_UNWEIGHTED = FeatureBlocks(text=1.0, category=1.0, brand=1.0, price=1.0, image=1.0)

_IMAGE = FeatureBlocks().image


@dataclass(frozen=True)
class Items:
    """Items as DataFrames and as arrays on the driver, n rows in the order of item_id.

    Args:
        texts: ``item_id, text``.
        embeddings: ``item_id, embedding``.
        numbers: ``item_id, row``.
        side_by_side: ``item_id, embedding`` with all feature blocks at weight 1.
        ids: (n,) item ids.
        vectors: (n, d) unit vectors; zeros for items without one.
        words: (n, words) unit rows; zeros for items without words.
        shared: (n,) whether another item has the same text.
    """

    texts: DataFrame
    embeddings: DataFrame
    numbers: DataFrame
    side_by_side: DataFrame
    ids: pa.Array
    vectors: Matrix
    words: sp.csr_array
    shared: NDArray[np.bool_]

    @cached_property
    def moments(self) -> Moments:
        """The moments of all vectors."""
        return Moments.of(self.vectors)

    def whitening(self, shrink: float) -> Whitening:
        """Whitening fitted on all items."""
        return whitening(self.moments, shrink)

    def text_vectors(self, setting: Setting) -> Matrix:
        """(n, d) the vectors, whitened where the setting says so."""
        return self.whitening(setting["shrink"]).apply(self.vectors) if setting["whitened"] else self.vectors

    @cached_property
    def blocks(self) -> dict[str, Matrix]:
        """Unit feature blocks of ``item_vector_rows`` by name, (n, width) each."""
        table = self.side_by_side.select("item_id", "embedding").toArrow()
        wide = matrix(table["embedding"])
        rows = np.zeros((len(self.ids), wide.shape[1]), np.float32)
        rows[pc.index_in(table["item_id"].combine_chunks(), self.ids).to_numpy()] = wide
        widths = block_widths(_UNWEIGHTED, self.vectors.shape[1], wide.shape[1])
        parts = np.split(rows, np.cumsum(list(widths.values()))[:-1], axis=1)
        return {name: unit_rows(part) for name, part in zip(widths, parts, strict=True)}

    @property
    def text_quality(self) -> dict[str, float]:
        """The number of items, the median number of distinct words of an item, the share of items without words, and
        the share of items that share their text with another item."""
        words = np.diff(self.words.indptr)
        shares = {"without_words": (words == 0).mean(), "of_several_items": (self.shared & (words > 0)).mean()}
        rounded = {name: round(float(share), 4) for name, share in shares.items()}
        return {"items": len(words), "words": float(np.median(words))} | rounded


def read_items(run: Run, items: DataFrame, embeddings: DataFrame, encoder: str) -> Items:
    """Number the items in the order of item_id and collect their vectors and words on the driver."""
    texts = item_embeddings(items, embeddings, encoder).select("item_id", "embedding")
    hashes = items.select("item_id", "text_hash").orderBy("item_id").toArrow().combine_chunks()
    ids, codes = hashes["item_id"].combine_chunks(), hashes["text_hash"].combine_chunks().dictionary_encode().indices
    text_codes = codes.fill_null(len(ids)).to_numpy()
    items_of_text = np.bincount(text_codes, minlength=len(ids) + 1)
    table = texts.toArrow()
    usable, units = unit_vectors(table["embedding"].combine_chunks())
    vectors = np.zeros((len(ids), units.shape[1] or 1), np.float32)
    vectors[pc.index_in(table["item_id"], ids).to_numpy()[usable]] = units
    rows = pa.table({"item_id": ids, "row": pa.array(np.arange(len(ids)), pa.int32())})
    words = words_matrix(word_values(items).toArrow(), ids)
    shared = items_of_text[text_codes] > 1
    all_blocks = item_vector_rows(items, embeddings, encoder, _UNWEIGHTED)
    return Items(items, texts, run.spark.createDataFrame(rows), all_blocks, ids, vectors, words, shared)


class ScorerFitter:
    """Fits scorers on events with roles up to ``last_role`` and writes their arrays below ``uri``.

    ``previous``: the fitter of the events before them. ``epochs``: of the sequence encoder, once it is trained.
    """

    def __init__(
        self,
        run: Run,
        items: Items,
        users: DataFrame,
        last_role: int,
        uri: str,
        previous: "ScorerFitter | None" = None,
    ) -> None:
        self._run, self._items, self.users, self.last_role, self.uri = run, items, users, last_role, uri
        self._files: dict[str, ScorerFiles] = {}
        self._previous, self.epochs = previous, 0

    @cached_property
    def gram(self) -> sp.csr_array:
        """(n, n) users in common. Only pairwise scorers may use it: its size in a task grows with the square of n."""
        rows = partial_grams(self.users, len(self._items.ids), self.last_role).collect()  # one row per task
        return gram_of([tuple(row) for row in rows], len(self._items.ids))

    @cached_property
    def counts(self) -> ItemCounts:
        """Users of each item."""
        rows = partial_counts(self.users, len(self._items.ids), self.last_role).collect()  # one row per task
        return counts_of([tuple(row) for row in rows], len(self._items.ids))

    def write_statistics(self) -> str:
        """Write the item statistics of slices, novelty and diversity; returns their folder."""
        uri = f"{self.uri}/statistics"
        write_array(self.counts.users, f"{uri}/counts.npy")
        write_array(np.diff(self._items.words.indptr), f"{uri}/lengths.npy")
        write_array(self._items.shared, f"{uri}/shared.npy")
        write_array(self._items.vectors, f"{uri}/vectors.npy")
        return uri

    @cached_property
    def example_levels(self) -> "list[ScorerFitter]":
        """Fitters of earlier events, whose next events are examples: the one given as ``previous`` and its own, or one
        whose histories end one event earlier."""
        if self._previous is not None:
            return [self._previous, *self._previous.example_levels]
        return [
            ScorerFitter(self._run, self._items, one_event_earlier(self.users), self.last_role, f"{self.uri}/earlier")
        ]

    def candidate(self, scorer: str, setting: Setting) -> Candidate:
        """The scorer with this setting; it is fitted once for all weights of the history's events."""
        files = self.files(scorer, setting)
        if scorer == "sequential" or setting.get("sequence") or setting.get("reranked"):
            setting = setting | {"epochs": self.epochs}
        return Candidate(scorer, files, setting["decay"], setting, setting.get("own_half_life"))

    def files(self, scorer: str, setting: Setting) -> ScorerFiles:
        """The files of a fitted scorer."""
        fit = {key: value for key, value in setting.items() if key not in _NOT_FITTED}
        name = "-".join([scorer, *(f"{key}={value:g}" for key, value in sorted(fit.items()))])
        if name not in self._files:
            compose, uri = COMPOSED.get(scorer), f"{self.uri}/{name}"
            self._files[name] = (
                compose(self, setting, uri) if compose else write_scorer(self._fit(scorer, setting), uri)
            )
        return self._files[name]

    def _fit(self, scorer: str, setting: Setting) -> Scorer:
        fit = _FITS.get(scorer)
        return self._fit_item_weights(scorer, setting) if fit is None else fit(self, setting)

    def _fit_sequential(self, setting: Setting) -> Scorer:
        from recsys_spark.evaluate.steps.sequence_fit import fit_sequence_scorer  # imports torch

        epochs = int(setting["epochs"]) if "epochs" in setting else None
        texts = self._items.whitening(_WHITENING_OF_HYBRID).apply(self._items.vectors)
        events = int(self.counts.users.sum())
        scorer, self.epochs = fit_sequence_scorer(
            self._run, self.users, self.last_role, texts, events=events, epochs=epochs
        )
        return scorer

    def _fit_item_weights(self, scorer: str, setting: Setting) -> Scorer:
        """The hybrid and its parts, as ``fit_item_weights`` fits it."""
        has_users, has_words, has_vectors = FEATURES[scorer]
        weight = setting.get("text_weight", 0.0)
        fit = WeightFit(
            candidates=int(setting["candidates"]),
            user_weight=has_users,
            word_weight=has_words * weight,
            vector_weight=has_vectors * weight,
            ridge=setting["ridge"],
        )
        return ItemWeights(self._weights(fit if has_users else replace(fit, text_share=_TEXT_ONLY)))

    def _fit_hybrid_exact(self, setting: Setting) -> Scorer:
        weight = setting.get("text_weight", 0.0)
        vectors = self._items.whitening(_WHITENING_OF_HYBRID).apply(self._items.vectors)
        gram = hybrid_gram(self.gram, self._items.words, vectors, word_weight=weight, vector_weight=weight)
        return ItemWeights(ease(gram, setting["ridge"]))

    def _fit_blocks(self, setting: Setting) -> Scorer:
        blocks = self._items.blocks | {"text": self._items.text_vectors(setting)}
        return ItemVectors(side_by_side(blocks, {"text": 1.0, "image": _IMAGE} | setting))

    def _weights(self, fit: WeightFit) -> sp.csr_array:
        """Item weights, fitted by the transformation of the step that publishes them."""
        transform = weight_rows(self._blocks, fit)
        parts = parts_of(self._run.spark, self._blocks)
        weights = parts.mapInArrow(lambda batches: transform(batches, {}), WEIGHTS_DDL).toArrow()
        return weights_matrix(weights, self._items.ids)

    @cached_property
    def _blocks(self) -> ItemBlocks:
        pairs = fitted_pairs(self.users, self._items.numbers, self.last_role)
        vectors = whitened(self._items.embeddings, "item_id", self._items.whitening(_WHITENING_OF_HYBRID))
        features = item_features(self._items.texts, pairs, vectors, self._items.vectors.shape[1])
        tasks = 2 * self._run.cores
        return write_item_blocks(
            features, f"{self.uri}/blocks", _BLOCK_ROWS, tasks=tasks, extra_columns=FEATURE_COLUMNS
        )


_FITS: Mapping[str, Callable[[ScorerFitter, Setting], Scorer]] = {
    "popularity": lambda fitter, _: ItemScores(fitter.counts.users.astype(np.float32)),
    "popularity_recent": lambda fitter, setting: ItemScores(fitter.counts.popularity(setting["half_life"])),
    "own_history": lambda fitter, setting: OwnHistory(fitter.counts.popularity(setting["half_life"])),
    "item_knn": lambda fitter, setting: ItemWeights(
        item_knn(fitter.gram, int(setting["neighbors"]), setting["shrink"])
    ),
    "ease": lambda fitter, setting: ItemWeights(ease(fitter.gram.astype(np.float32).toarray(), setting["ridge"])),
    "tfidf": lambda fitter, _: ItemVectors(fitter._items.words),
    "cosine": lambda fitter, _: ItemVectors(fitter._items.vectors),
    "cosine_whitened": lambda fitter, setting: ItemVectors(fitter._items.text_vectors(setting)),
    "cosine_blocks": ScorerFitter._fit_blocks,
    "hybrid_exact": ScorerFitter._fit_hybrid_exact,
    "sequential": ScorerFitter._fit_sequential,
}
"""How a scorer is fitted with a setting; all others are item weights (``FEATURES``)."""
