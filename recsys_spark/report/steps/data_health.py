"""Health of the data and shape of the embedding space → sections of a report."""

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
from recsys_spark.report.aggregates import (
    ABOUT_ITEMS,
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
from recsys_spark.report.page import Block, Cell, Figure, Map, Note, Point, Section, Share, TableBlock
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEM_VECTORS, ITEMS, QUARANTINE, USERS

_REASONS = 20

_COLOURS = 8

_NEIGHBOURS = 10

_SHOWN = 6

_SHRINK = 0.1


def data_health(run: Run) -> Section | None:
    """Rows, bad rows, lengths of texts and histories, events per day; None in a lake without items and events."""
    if run.lake.version(ITEMS) is None or run.lake.version(EVENTS) is None:
        return None
    items, events = run.lake.read(run.spark, ITEMS), run.lake.read(run.spark, EVENTS)
    bad = bad_rows(run.lake.read_or_empty(run.spark, QUARANTINE), _REASONS).collect()
    there = completeness(items).collect()[0]
    days, kinds = Counter[Any](), Counter[str]()
    for row in events_by_day(events).collect():
        days[row["day"]] += row["events"]
        kinds[row["event_type"]] += row["events"]
    blocks: list[Block] = [
        TableBlock(
            "What items have",
            ("field", "items", "share"),
            [["(all)", there["items"], Share(1.0)]]
            + [[name, there[name], Share(there[name] / max(there["items"], 1))] for name in ABOUT_ITEMS],
        ),
        TableBlock("Events", ("type", "events"), [[kind, number] for kind, number in kinds.most_common()]),
        TableBlock("Quarantine: why rows were refused", ("table", "reason", "rows"), [list(row) for row in bad])
        if bad
        else Note("Quarantine is empty: no row was refused."),
        lost_values(run),
        _lengths("Characters of an item's text", "items", text_lengths(items).collect()),
        _lengths("Events of a user", "users", history_lengths(events).collect()),
    ]
    if days:
        alt = f"Events per day from {min(days)} to {max(days)}, {max(days.values()):,} at most."
        chart = line_chart(list(days), {"events": list(days.values())}, xlabel="day", ylabel="events")
        blocks.append(Figure(alt, alt, chart))
    return Section("data", "Data health", blocks)


def lost_values(run: Run) -> Block:
    """What good rows have lost on their way into the tables, as the last ingestion counted it."""
    heads = [run.lake.last_commit(table) for table in (ITEMS, USERS, EVENTS)]
    found = {name: one for head in heads if head for name, one in (head.outcome.losses or {}).items()}
    if not found:
        return Note("No value of a good row was lost.")
    rows = [
        [*name.split(": ", 1), one["rows"], Share(one["rows"] / max(one["of"], 1)), ", ".join(one["samples"])]
        for name, one in found.items()
    ]
    header = ("table", "what was lost", "rows", "share of those read", "such as")
    return TableBlock("Values that good rows have lost", header, rows)


def _lengths(what: str, unit: str, rows: Sequence[Any]) -> Figure:
    labels = [f"{row['least']:,}" for row in rows]
    most = max(rows, key=lambda row: row["rows"], default=None)
    alt = f"{what}: " + (f"most often {most['least']:,} to {2 * most['least'] - 1:,}." if most else "nothing there.")
    chart = bar_chart(labels, [row["rows"] for row in rows], xlabel=f"{what}, from", ylabel=unit)
    return Figure(alt, alt, chart)


def embedding_space(run: Run, most: int) -> Section | None:
    """Map, neighbours, anisotropy and hubness of a sample of the items' texts; None where nothing is embedded."""
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
    after = f"whitened, as in item_vectors ({name})" if name else f"whitened by {_SHRINK} on this sample (not in use)"
    shape: list[list[Cell]] = [
        [label, anisotropy(cloud), hubness(nearest(cloud, _NEIGHBOURS))]
        for label, cloud in (("as encoded", vectors), (after, white))
    ]
    blocks: list[Block] = [
        _map(rows, vectors),
        TableBlock(
            f"{len(usable):,} items picked by a hash. Anisotropy: mean cosine of two items. Hubness: skewness of how "
            f"often an item is among the {_NEIGHBOURS} nearest of others",
            ("text embeddings", "anisotropy", "hubness"),
            shape,
        ),
        _neighbours(rows, white if name else vectors),
    ]
    return Section("space", "Embedding space", blocks)


def _space(run: Run) -> str | None:
    """The vector space in use; without item vectors the encoder of some embedding."""
    for table in (ITEM_VECTORS, EMBEDDINGS):
        first = run.lake.read_or_empty(run.spark, table).select(F.col("model")).first()
        if first is not None:
            return str(first["model"])
    return None


def _map(rows: pa.Table, vectors: np.ndarray[Any, Any]) -> Map:
    places, share = principal_map(vectors)
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = (places - low) / np.where(high > low, high - low, 1.0) * 100
    names = [(path or [None])[-1] for path in rows["category"].to_pylist()]
    common = [name for name, _ in Counter(name for name in names if name).most_common(_COLOURS)]
    groups = {name: number for number, name in enumerate(common, 1)}
    points = [
        Point(float(x), float(y), f"{title}{f' – {name}' if name else ''}", groups.get(name, 0))
        for (x, y), title, name in zip(scaled, rows["title"].to_pylist(), names, strict=True)
    ]
    about = f"{len(points):,} items by the first two principal axes of their text embeddings"
    about += f" ({100 * share:.0f} % of the variance)"
    return Map(f"{about}. A title shows where the pointer rests.", f"Map of {about}.", points, common)


def _neighbours(rows: pa.Table, vectors: np.ndarray[Any, Any]) -> TableBlock:
    near, titles = nearest(vectors, 3), rows["title"].to_pylist()
    units = vectors.astype(np.float64)
    listed = [
        [titles[row], *(f"{titles[other]} ({units[row] @ units[other]:.2f})" for other in near[row])]
        for row in range(min(_SHOWN, len(titles)))
    ]
    width = max(len(row) for row in listed)
    header = ("item", "nearest in the sample (cosine)", "second", "third")[:width]
    return TableBlock("Nearest neighbours of some items", header, listed)
