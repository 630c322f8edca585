"""Read training data to the driver: scored texts, or user histories with item vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import unit_vectors
from recsys_spark.arrays.sparse import flat
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.errors import InputError, UsageError
from recsys_spark.evaluate.protocols import Protocol, newest_events, user_rows, with_roles
from recsys_spark.hybrid.item_features import sample_of_users
from recsys_spark.items.vectors import item_embeddings
from recsys_spark.lake.paths import absolute
from recsys_spark.privacy.kernels.scrub import SCRUB_VERSION, check_scrub_installed
from recsys_spark.privacy.rules import without_forgotten
from recsys_spark.privacy.steps.tombstones import tombstones
from recsys_spark.publish.steps.publishing import InputVersions, pin_inputs, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, TableQuery
from recsys_spark.sources.listing import Listing
from recsys_spark.sources.listings import list_sources
from recsys_spark.sources.queries import query, register
from recsys_spark.sources.reader import SourceReader
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, FORGOTTEN, ITEMS, USERS
from recsys_spark.tune.kernels.next_item_eval import TEST, VALID, Histories
from recsys_spark.tune.kernels.rating_baselines import RatingPairs
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.scored_texts import SCORED, rating_pairs, review_pairs

_MAX_HISTORY = 1000
"""Newest events used per user."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items in order of item_id: ``ids``, ``texts`` (None for an item without a text) and (n, d) ``vectors`` of the
    frozen encoder (zeros for an item without a vector)."""

    ids: pa.Array
    texts: list[str | None]
    vectors: Matrix


def read_scored_texts(
    run: Run, options: TuningOptions, dataset: Dataset | None
) -> tuple[RatingPairs, Mapping[str, Any]]:
    """Pairs from the reviews of the dataset file, or from users, items and events of the lake; and their versions.

    Raises:
        InputError: too few pairs, or scores that are all equal.
    """
    if dataset is not None and dataset.reviews is not None:
        pairs, versions, _sources = _reviews(run, options, dataset, dataset.reviews)  # open until the pairs are read
    else:
        inputs = pin_inputs(run, ITEMS, USERS, EVENTS)
        pairs = rating_pairs(*(inputs.frame(run, table) for table in (EVENTS, USERS, ITEMS)))
        versions = dict(inputs.versions)
    rows = events_before(pairs, options.run_date).orderBy("timestamp", "user_id", "item_id").toArrow()
    if rows.num_rows < options.min_pairs:
        raise InputError(
            f"{rows.num_rows} texts with a score, fewer than min_pairs {options.min_pairs}: too little to learn from; "
            "rows without a text, a number or a time do not count"
        )
    scores = rows["score"].to_numpy()
    if not np.ptp(scores):
        raise InputError(f"all {len(scores)} scores are {scores[0]:g}: there is nothing to predict")
    users, items = (_codes(rows[name]) for name in ("user_id", "item_id"))
    part = _parts(users, options)
    sizes = {name: int((part == number).sum()) for number, name in enumerate(("train", "validation", "test"))}
    if not all(sizes.values()):
        raise InputError(
            f"the train, validation or test part has no text: {sizes}; give more data (with --split=user: more users), "
            "or change --valid_share and --test_share"
        )
    if not np.ptp(scores[part == 0]):
        raise InputError("all scores of the training part are equal: use --split=user, or give more data")
    return RatingPairs(rows["text"].to_pylist(), scores, users, items, part), versions


def _reviews(
    run: Run, options: TuningOptions, dataset: Dataset, reviews: TableQuery
) -> tuple[DataFrame, Mapping[str, Any], Mapping[str, Listing]]:
    """Pairs of the reviews, without users and items that the lake has forgotten; their versions; and the sources."""
    if dataset.scrub:
        check_scrub_installed()
    data, tombstone_commit = absolute(options.data or ""), run.lake.last_commit(FORGOTTEN)
    listings = list_sources(dataset, data, lambda: run.spark)
    reader = SourceReader(run.spark, data, dataset)
    for name, source in dataset.sources.items():
        register(reader.read(name, source, listings[name]), name)
    rows = query(run.spark, "reviews", reviews, list(SCORED), [], options.run_date)
    rows = without_forgotten(rows, tombstones(run))
    entries = {name: list(listing.entries) for name, listing in listings.items()}
    versions: dict[str, Any] = {"reviews": options.dataset, "files": entries}
    forgotten = {"forgotten": tombstone_commit.content_id} if tombstone_commit is not None else {}
    scrub = {"scrub": SCRUB_VERSION} if dataset.scrub else {}
    pairs = review_pairs(rows, options.max_text_chars, scrub=dataset.scrub)
    return pairs, versions | forgotten | scrub, listings


def read_histories(
    run: Run, options: TuningOptions, encoder: str, shuffle_ties: int | None = None
) -> tuple[Catalogue, Histories, Mapping[str, Any]]:
    """The items, the events of every user in order with their leave-one-out roles, and the versions of the tables.

    ``shuffle_ties``: as in ``protocols.newest_events``.

    Raises:
        InputError: too few events to learn from, or no item with a text.
    """
    inputs = pin_inputs(run, ITEMS, USERS, EVENTS, EMBEDDINGS)
    catalogue = _catalogue(run, inputs, encoder)
    event_types = [event_type for event_type, weight in options.event_weights.items() if weight > 0]
    events = events_before(inputs.frame(run, EVENTS), options.run_date).where(F.col("event_type").isin(event_types))
    weighted = events.select("user_id", "item_id", "timestamp", F.lit(1.0).alias("weight"))
    # All histories are held by the driver.
    weighted = sample_of_users(weighted, options.training_max_events / max(run.lake.rows(EVENTS), 1))
    roles = with_roles(newest_events(weighted, _MAX_HISTORY, shuffle_ties), Protocol("leave_one_out"))
    numbers = pa.table({"item_id": catalogue.ids, "row": pa.array(np.arange(len(catalogue.ids)), pa.int32())})
    users = user_rows(roles, run.spark.createDataFrame(numbers), inputs.frame(run, USERS)).orderBy("user_id").toArrow()
    items, offsets = flat(users["items"].combine_chunks())
    histories = Histories(
        items.astype(np.int64),
        np.repeat(np.arange(len(users)), np.diff(offsets)),
        flat(users["roles"].combine_chunks())[0].astype(np.int8),
    )
    if len(items) < options.min_pairs or not _has_valid_and_test(histories, catalogue):
        raise InputError(
            f"{len(items)} events: too little to learn from; training on histories needs min_pairs "
            f"{options.min_pairs} events, and users with three or more events of items with a text"
        )
    return catalogue, histories, dict(inputs.versions)


def data_digest(catalogue: Catalogue, histories: Histories) -> str:
    """Identifies items and histories."""
    arrays = {"ids": catalogue.ids.to_pylist(), "items": histories.items.tolist(), "role": histories.role.tolist()}
    return run_key("histories", arrays | {"owner": int(np.bincount(histories.owner).max(initial=0))})


def _catalogue(run: Run, inputs: InputVersions, encoder: str) -> Catalogue:
    items = inputs.frame(run, ITEMS)
    table = items.select("item_id", "text").orderBy("item_id").toArrow()
    embedded = item_embeddings(items, inputs.frame(run, EMBEDDINGS), encoder).select("item_id", "embedding").toArrow()
    if not embedded.num_rows:
        raise InputError("no item has a text: there is nothing to train on")
    ids = table["item_id"].combine_chunks()
    usable, rows = unit_vectors(embedded["embedding"].combine_chunks())
    vectors = np.zeros((len(ids), rows.shape[1]), np.float32)
    vectors[pc.index_in(embedded["item_id"], ids).to_numpy()[usable]] = rows
    return Catalogue(ids, table["text"].to_pylist(), vectors)


def _has_valid_and_test(histories: Histories, catalogue: Catalogue) -> bool:
    """Whether some user can be validated and some user tested: an event of the role and one before it, with vectors."""
    has_vector = np.any(catalogue.vectors, axis=1)[histories.items]
    owner, role = histories.owner, histories.role
    return all(
        len(np.intersect1d(owner[has_vector & (role == r)], owner[has_vector & (role < r)])) for r in (VALID, TEST)
    )


def _parts(users: NDArray[np.int64], options: TuningOptions) -> NDArray[np.int8]:
    """0 train, 1 validation, 2 test: by time, or by whole users at random; pairs are in order of time."""
    valid, test = options.valid_share, options.test_share
    if valid + test >= 1:
        raise UsageError(f"valid_share {valid} and test_share {test} leave nothing to train on")
    quantile = np.arange(len(users)) / len(users)
    if options.split == "user":
        quantile = np.random.default_rng(options.seed).permutation(users.max() + 1)[users] / (users.max() + 1)
    return np.where(quantile < 1 - valid - test, 0, np.where(quantile < 1 - test, 1, 2)).astype(np.int8)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.unique(column.to_numpy(), return_inverse=True)[1].astype(np.int64)
