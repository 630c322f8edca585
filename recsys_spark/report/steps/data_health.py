"""Data health and embedding space → sections of a report."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import matrix, unit_vectors
from recsys_spark.items.kernels.whitening import Moments, whitening
from recsys_spark.items.steps.whitening import stored_whitening
from recsys_spark.items.vectors import encoder_of, whitening_of
from recsys_spark.privacy.kernels.inversion import word_recovery
from recsys_spark.report.aggregates import (
    ITEM_FIELDS,
    bad_rows,
    completeness,
    events_by_day,
    history_lengths,
    sampled_items,
    text_lengths,
    with_texts_embedded,
)
from recsys_spark.report.charts import bar_chart, line_chart
from recsys_spark.report.kernels.embedding_stats import anisotropy, hubness, nearest, principal_map
from recsys_spark.report.page import Cell, Element, Figure, Map, Note, Point, Section, Share, TableElement
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEM_VECTORS, ITEMS, QUARANTINE, USERS

_MOST_REASONS = 20

_COLOURS = 8

_NEIGHBOURS = 10

_NEIGHBOUR_ROWS = 6

_SHRINK = 0.1


def data_health(run: Run) -> Section | None:
    """Rows, bad rows, lengths of texts and histories, events per day; None without items or events."""
    if run.lake.version(ITEMS) is None or run.lake.version(EVENTS) is None:
        return None
    items, events = run.lake.read(run.spark, ITEMS), run.lake.read(run.spark, EVENTS)
    bad = bad_rows(run.lake.read_or_empty(run.spark, QUARANTINE), _MOST_REASONS).collect()
    counts = completeness(items).collect()[0]
    days, types = Counter[Any](), Counter[str]()
    for row in events_by_day(events).collect():
        days[row["day"]] += row["events"]
        types[row["event_type"]] += row["events"]
    elements: list[Element] = [
        TableElement(
            "Completeness of items",
            ("field", "items", "share"),
            [["(all)", counts["items"], Share(1.0)]]
            + [[name, counts[name], Share(counts[name] / max(counts["items"], 1))] for name in ITEM_FIELDS],
        ),
        TableElement("Events", ("type", "events"), [[name, number] for name, number in types.most_common()]),
        TableElement("Quarantine: rejected rows by reason", ("table", "reason", "rows"), [list(row) for row in bad])
        if bad
        else Note("Quarantine is empty: no row was rejected."),
        lost_values(run),
        _lengths("Characters of an item's text", "items", text_lengths(items).collect()),
        _lengths("Events of a user", "users", history_lengths(events).collect()),
    ]
    if days:
        alt = f"Events per day from {min(days)} to {max(days)}, {max(days.values()):,} at most."
        chart = line_chart(list(days), {"events": list(days.values())}, xlabel="day", ylabel="events")
        elements.append(Figure(alt, alt, chart))
    return Section("data", "Data health", elements)


def lost_values(run: Run) -> Element:
    """Values that were dropped or damaged in valid rows, as the last ingestion counted them."""
    commits = [run.lake.last_commit(table) for table in (ITEMS, USERS, EVENTS)]
    losses = {name: one for commit in commits if commit for name, one in (commit.outcome.losses or {}).items()}
    if not losses:
        return Note("No value of a valid row was lost.")
    rows = [
        [*name.split(": ", 1), one["rows"], Share(one["rows"] / max(one["of"], 1)), ", ".join(one["samples"])]
        for name, one in losses.items()
    ]
    header = ("table", "loss", "rows", "share of rows read", "examples")
    return TableElement("Values lost from valid rows", header, rows)


def _lengths(quantity: str, unit: str, rows: Sequence[Any]) -> Figure:
    labels = [f"{row['least']:,}" for row in rows]
    most = max(rows, key=lambda row: row["rows"], default=None)
    alt = f"{quantity}: " + (f"most often {most['least']:,} to {2 * most['least'] - 1:,}." if most else "no values.")
    chart = bar_chart(labels, [row["rows"] for row in rows], xlabel=f"{quantity}, from", ylabel=unit)
    return Figure(alt, alt, chart)


def embedding_space(run: Run, most: int) -> Section | None:
    """Map, neighbours, anisotropy and hubness of a sample of items; None without enough embedded texts."""
    if any(run.lake.version(table) is None for table in (ITEMS, EMBEDDINGS)):
        return None
    space = _space(run)
    if space is None:
        return None
    sample = sampled_items(run.lake.read(run.spark, ITEMS), most)
    embeddings = run.lake.read(run.spark, EMBEDDINGS)
    rows = with_texts_embedded(sample, embeddings, encoder_of(space)).toArrow()
    if not rows.num_rows:
        return None
    usable, vectors = unit_vectors(rows["embedding"].combine_chunks())
    if len(usable) <= _NEIGHBOURS:
        return None
    rows = rows.take(pa.array(usable))
    name = whitening_of(space)
    transform = stored_whitening(run, name) if name else whitening(Moments.of(matrix(rows["embedding"])), _SHRINK)
    white = transform.apply(vectors)
    after = f"whitened as in item_vectors ({name})" if name else f"whitened by {_SHRINK} on this sample (not in use)"
    shape: list[list[Cell]] = [
        [label, anisotropy(variant), hubness(nearest(variant, _NEIGHBOURS))]
        for label, variant in (("as encoded", vectors), (after, white))
    ]
    elements: list[Element] = [
        _map(rows, vectors),
        TableElement(
            f"Sample of {len(usable):,} items. Anisotropy: mean cosine of two items. Hubness: skewness of how often an "
            f"item is among the {_NEIGHBOURS} nearest of others",
            ("text embeddings", "anisotropy", "hubness"),
            shape,
        ),
        _neighbours(rows, white if name else vectors),
        *words_given_away(rows, vectors),
    ]
    return Section("space", "Embedding space", elements)


def words_given_away(rows: pa.Table, vectors: np.ndarray[Any, Any]) -> list[Element]:
    """How many words of the sampled texts their vectors give away."""
    order = np.random.default_rng(0).permutation(rows.num_rows)  # rows are in order of their ids
    recovery = word_recovery(rows["start"].take(pa.array(order)).to_pylist(), vectors[order])
    if recovery is None:
        return []
    text = (
        f"Vectors are not anonymous: a linear probe that learned from {recovery.trained:,} vectors and texts recovers "
        f"{100 * recovery.share:.0f} % of the words of {recovery.texts:,} other texts from their vectors alone "
        f"({100 * recovery.by_frequency:.0f} % by the frequency of words; vocabulary of {recovery.words:,} words). "
        "Stronger attacks recover more."
    )
    bars = {"by frequency": recovery.by_frequency, "from vectors": recovery.share}
    chart = bar_chart(list(bars), list(bars.values()), xlabel="guess", ylabel="share of words recovered")
    return [Note(text), Figure("Words of a text that its vector gives away", text, chart)]


def _space(run: Run) -> str | None:
    """The vector space of the item vectors; without any, the encoder of the embeddings."""
    for table in (ITEM_VECTORS, EMBEDDINGS):
        first = run.lake.read_or_empty(run.spark, table).select(F.col("model")).first()
        if first is not None:
            return str(first["model"])
    return None


def _map(rows: pa.Table, vectors: np.ndarray[Any, Any]) -> Map:
    coordinates, share = principal_map(vectors)
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    scaled = (coordinates - low) / np.where(high > low, high - low, 1.0) * 100
    names = [(path or [None])[-1] for path in rows["category"].to_pylist()]
    common = [name for name, _ in Counter(name for name in names if name).most_common(_COLOURS)]
    groups = {name: number for number, name in enumerate(common, 1)}
    points = [
        Point(float(x), float(y), f"{title}{f' – {name}' if name else ''}", groups.get(name, 0))
        for (x, y), title, name in zip(scaled, rows["title"].to_pylist(), names, strict=True)
    ]
    caption = f"{len(points):,} items on the first two principal axes of their text embeddings"
    caption += f" ({100 * share:.0f} % of the variance)"
    return Map(f"{caption}. Hover over a point for its title.", f"Map of {caption}.", points, common)


def _neighbours(rows: pa.Table, vectors: np.ndarray[Any, Any]) -> TableElement:
    neighbours, titles = nearest(vectors, 3), rows["title"].to_pylist()
    units = vectors.astype(np.float64)
    table = [
        [titles[row], *(f"{titles[other]} ({units[row] @ units[other]:.2f})" for other in neighbours[row])]
        for row in range(min(_NEIGHBOUR_ROWS, len(titles)))
    ]
    width = max(len(row) for row in table)
    header = ("item", "nearest in the sample (cosine)", "second", "third")[:width]
    return TableElement("Nearest neighbours of sampled items", header, table)
