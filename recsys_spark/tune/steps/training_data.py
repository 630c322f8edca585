"""What a training learns from, brought to the driver: scored texts, or histories over the items' vectors."""

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
from recsys_spark.privacy.rules import without_forgotten
from recsys_spark.privacy.steps.tombstones import tombstones
from recsys_spark.publish.steps.publishing import pin_inputs
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset, TableQuery
from recsys_spark.sources.files import list_sources
from recsys_spark.sources.queries import query, register
from recsys_spark.sources.reader import SourceReader
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, FORGOTTEN, ITEMS, USERS
from recsys_spark.tune.kernels.next_item_eval import Histories
from recsys_spark.tune.kernels.rating_baselines import RatingPairs
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.scored_texts import rating_pairs, review_pairs

_MAX_HISTORY = 1000


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items by item_id: ``ids``, ``texts`` (None where there is none) and (n, d) ``vectors`` of the frozen encoder,
    zeros where there is none."""

    ids: pa.Array
    texts: list[str | None]
    vectors: Matrix


def scored_texts(run: Run, options: TuningOptions, dataset: Dataset | None) -> tuple[RatingPairs, Mapping[str, Any]]:
    """Pairs from the reviews of the dataset file, or from users, items and events of the lake; and what they came from.

    Raises:
        InputError: too few pairs, or scores that are all the same: there is nothing to learn.
    """
    if dataset is not None and dataset.reviews is not None:
        found, versions = _reviews(run, options, dataset, dataset.reviews)
    else:
        inputs = pin_inputs(run, ITEMS, USERS, EVENTS)
        found = rating_pairs(*(inputs.frame(run, table) for table in (EVENTS, USERS, ITEMS)))
        versions = dict(inputs.versions)
    asked = events_before(found, options.run_date).orderBy("timestamp", "user_id", "item_id").toArrow()
    if asked.num_rows < options.min_pairs:
        raise InputError(
            f"{asked.num_rows} texts with a score, fewer than min_pairs {options.min_pairs}: too little to learn from; "
            "rows without a text, a number or a time do not count"
        )
    scores = asked["score"].to_numpy()
    if not np.ptp(scores):
        raise InputError(f"all {len(scores)} scores are {scores[0]:g}: there is nothing to predict")
    users, items = (_codes(asked[name]) for name in ("user_id", "item_id"))
    part = _parts(users, options)
    sizes = {name: int((part == place).sum()) for place, name in enumerate(("train", "validation", "test"))}
    if not all(sizes.values()):
        raise InputError(f"a part has no text: {sizes}; more data (--split=user: more users), or other shares")
    if not np.ptp(scores[part == 0]):
        raise InputError("all scores of the training part are the same: --split=user, or more data")
    return RatingPairs(asked["text"].to_pylist(), scores, users, items, part), versions


def _reviews(
    run: Run, options: TuningOptions, dataset: Dataset, reviews: TableQuery
) -> tuple[DataFrame, Mapping[str, Any]]:
    """Pairs of everybody whom the lake has not forgotten, and what they came from."""
    data, head = absolute(options.data or ""), run.lake.last_commit(FORGOTTEN)
    files = list_sources(dataset, data, lambda: run.spark)
    reader = SourceReader(run.spark, data)
    for name, source in dataset.sources.items():
        register(reader.read(name, source, files[name]), name)
    wanted = ["user_id", "item_id", "text", "score", "timestamp"]
    rows = without_forgotten(query(run.spark, "reviews", reviews, wanted, [], options.run_date), tombstones(run))
    entries = {name: [file.entry for file in listed] for name, listed in files.items()}
    versions: dict[str, Any] = {"reviews": options.dataset, "files": entries}
    forgotten = {"forgotten": head.content_id} if head is not None else {}
    return review_pairs(rows, options.max_text_chars), versions | forgotten


def histories(run: Run, options: TuningOptions, encoder: str) -> tuple[Catalogue, Histories, Mapping[str, Any]]:
    """Items and every user's events in order, with their roles under leave-one-out, and what they came from.

    Raises:
        InputError: there are too few events to learn from, or items without texts.
    """
    inputs = pin_inputs(run, ITEMS, USERS, EVENTS, EMBEDDINGS)
    items = inputs.frame(run, ITEMS)
    table = items.select("item_id", "text").orderBy("item_id").toArrow()
    embedded = item_embeddings(items, inputs.frame(run, EMBEDDINGS), encoder).select("item_id", "embedding").toArrow()
    if not embedded.num_rows:
        raise InputError("no item has a text: there is nothing to train on")
    ids = table["item_id"].combine_chunks()
    usable, rows = unit_vectors(embedded["embedding"].combine_chunks())
    vectors = np.zeros((len(ids), rows.shape[1]), np.float32)
    vectors[pc.index_in(embedded["item_id"], ids).to_numpy()[usable]] = rows
    numbers = pa.table({"item_id": ids, "row": pa.array(np.arange(len(ids)), pa.int32())})
    kinds = [kind for kind, weight in options.event_weights.items() if weight > 0]
    events = events_before(inputs.frame(run, EVENTS), options.run_date).where(F.col("event_type").isin(kinds))
    weighted = events.select("user_id", "item_id", "timestamp", F.lit(1.0).alias("weight"))
    # All histories are held by the driver.
    weighted = sample_of_users(weighted, options.training_max_events / max(run.lake.rows(EVENTS), 1))
    roles = with_roles(newest_events(weighted, _MAX_HISTORY), Protocol("leave_one_out"))
    users = user_rows(roles, run.spark.createDataFrame(numbers), inputs.frame(run, USERS)).orderBy("user_id").toArrow()
    flat_items, offsets = flat(users["items"].combine_chunks())
    found = Histories(
        flat_items.astype(np.int64),
        np.repeat(np.arange(len(users)), np.diff(offsets)),
        flat(users["roles"].combine_chunks())[0].astype(np.int8),
    )
    texted = np.any(vectors, axis=1)[found.items]
    asked = [  # users of validation, and of the test
        np.intersect1d(found.owner[texted & (found.role == r)], found.owner[texted & (found.role < r)]) for r in (1, 2)
    ]
    if len(flat_items) < options.min_pairs or not all(map(len, asked)):
        raise InputError(
            f"{len(flat_items)} events, with min_pairs {options.min_pairs} and users of three events or more with "
            "items that have texts wanted: too little to learn from"
        )
    return Catalogue(ids, table["text"].to_pylist(), vectors), found, dict(inputs.versions)


def _parts(users: NDArray[np.int64], options: TuningOptions) -> NDArray[np.int8]:
    """0 train, 1 validation, 2 test: by the order of time, or whole users by a draw."""
    valid, test = options.valid_share, options.test_share
    if valid + test >= 1:
        raise UsageError(f"valid_share {valid} and test_share {test} leave nothing to train on")
    place = np.arange(len(users)) / len(users)
    if options.split == "user":
        place = np.random.default_rng(options.seed).permutation(users.max() + 1)[users] / (users.max() + 1)
    return np.where(place < 1 - valid - test, 0, np.where(place < 1 - test, 1, 2)).astype(np.int8)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.unique(column.to_numpy(), return_inverse=True)[1].astype(np.int64)
