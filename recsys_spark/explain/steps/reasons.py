"""Published lists and what they were made of → reasons that add up to each score."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import cached_blocks
from recsys_spark.errors import InputError
from recsys_spark.events.history import History
from recsys_spark.events.weights import EventWeights, weigh_pairs
from recsys_spark.explain.inputs import event_kinds, explanation_inputs, titled_items, weighted_titles
from recsys_spark.explain.options import ReasonOptions
from recsys_spark.explain.reasons import VECTOR, ExplainSpec, reason_rows
from recsys_spark.hybrid.history_scorer import WEIGHT_COLUMNS
from recsys_spark.hybrid.sparse_histories import weighted_items
from recsys_spark.items.vectors import FeatureBlocks, block_widths, encoder_of
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Provenance
from recsys_spark.profiles.ignored_impressions import Ignored, ignored_kinds, ignored_pairs, weighed_ignored
from recsys_spark.profiles.profiles import own_segments, pool_items, segment_pairs
from recsys_spark.profiles.steps.build_profiles import own_texts
from recsys_spark.publish.steps.previous_run import Previous
from recsys_spark.publish.steps.publishing import InputVersions, Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    IMPRESSIONS,
    ITEM_VECTORS,
    ITEM_WEIGHTS,
    ITEMS,
    RECOMMENDATIONS,
    USER_PROFILES,
    USERS,
)
from recsys_spark.tables.task_stream import ArrowTransform, with_constant_columns

_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Sources:
    """What scores are sums of: users with what counts for them, and the items."""

    pairs: DataFrame
    events: DataFrame
    items: ItemBlocks
    widths: Mapping[str, int]
    ignored: DataFrame | None = None
    own_texts: DataFrame | None = None
    segments: DataFrame | None = None
    own_weights: tuple[float, float] = (0.0, 0.0)
    interests: int = 1


def sources(run: Run, inputs: InputVersions, provenance: Provenance) -> Sources:
    """Of lists that were made from ``inputs``; ``provenance``: of these lists.

    Raises:
        InputError: what the profiles were made of is gone, or is not what the lists were made of.
    """
    if provenance.scorer == "hybrid":
        return _hybrid_sources(run, inputs, provenance)
    return replace(_cosine_sources(run, inputs), interests=provenance.interests or 1)


def explanation(
    sources: Sources,
    options: ReasonOptions,
    lists: DataFrame,
    constant_columns: Mapping[str, Any],
    user: str | None = None,
) -> tuple[DataFrame, ArrowTransform]:
    """Rows of ``explanation_inputs`` and the transform to rows of ``recommendations``; of one ``user`` if given."""
    pairs, kinds = sources.pairs, event_kinds(sources.events)
    if sources.ignored is not None:
        kinds = kinds.unionByName(ignored_kinds(sources.ignored))
    if user is not None:
        pairs, kinds, lists = (rows.where(F.col("user_id") == user) for rows in (pairs, kinds, lists))
    users = explanation_inputs(lists, pairs, kinds, sources.own_texts, sources.segments)
    telling = ExplainSpec(
        options.explain,
        options.language,
        sources.widths,
        sources.own_weights,
        boosted=sources.items.boosted,
        interests=sources.interests,
    )
    return users, reason_rows(sources.items, telling, constant_columns)


def staged_lists(
    run: Run,
    inputs: InputVersions,
    options: ReasonOptions,
    provenance: Provenance,
    lists: DataFrame,
    constant_columns: dict[str, Any],
    base: int | None = None,
) -> tuple[Staged, Report]:
    """Lists (``user_id, item_id, score, rank``) staged as rows of ``recommendations``: with reasons where ``explain``
    asks, and then how faithful those are."""
    if not options.explain:
        # The date and empty reasons come in the task that writes: nested columns are what Arrow takes longest over.
        plain = constant_columns | {"reasons": None}
        make: ArrowTransform = lambda batches, _: (with_constant_columns(batch, plain) for batch in batches)  # noqa: E731
        return run.lake.stage(lists.select("user_id", "item_id", "score", "rank"), RECOMMENDATIONS, make, base=base), {}
    users, make = explanation(sources(run, inputs, provenance), options, lists, constant_columns)
    told = run.lake.stage(users, RECOMMENDATIONS, make, base=base)
    return told, {"fidelity": fidelity_of([note["fidelity"] for note in told.stats if "fidelity" in note])}


def staged_with_reasons(
    run: Run,
    inputs: InputVersions,
    options: ReasonOptions,
    provenance: Provenance,
    staged: Staged,
    constant_columns: dict[str, Any],
) -> tuple[Staged, Report]:
    """Staged lists with reasons where ``explain`` asks, and how faithful those are."""
    if not options.explain:
        return staged, {}
    with run.progress.step(f"explain {staged.rows:,} rows"):
        lists = run.lake.read_staged(run.spark, staged)
        told, fidelity = staged_lists(run, inputs, options, provenance, lists, constant_columns)
        run.lake.discard(staged)
    return replace(told, stats=staged.stats, base=staged.base), fidelity


def fidelity_of(notes: list[list[float]]) -> dict[str, float]:
    """Over users with two events or more: how much a score falls without its top reason, without another event of the
    user on average, and the margin between them with its interval of 95 % (normal)."""
    users, top, other, margin, squares = (sum(column) for column in zip(*notes, strict=True)) if notes else [0.0] * 5
    if not users:
        return {"users": 0}
    mean = margin / users
    half = 1.96 * (max(squares / users - mean**2, 0.0) / users) ** 0.5
    found = {"top": top / users, "other": other / users, "margin": mean, "low": mean - half, "high": mean + half}
    return {"users": int(users)} | {name: round(value, 5) for name, value in found.items()}


def _hybrid_sources(run: Run, inputs: InputVersions, provenance: Provenance) -> Sources:
    events, day = inputs.frame(run, EVENTS), provenance.run_date
    assert day is not None
    pairs = weigh_pairs(events, day, *_history_of(provenance))
    items = inputs.frame(run, ITEMS) if ITEMS.name in inputs.versions else None
    weights = weighted_items(inputs.frame(run, ITEM_WEIGHTS))
    blocks = _blocks(run, inputs, ITEM_WEIGHTS, weighted_titles(weights, items, pairs), WEIGHT_COLUMNS)
    return Sources(pairs, events_before(events, day), blocks, {})


def _history_of(provenance: Provenance) -> tuple[EventWeights, History]:
    """What the events of these lists or profiles counted."""
    return EventWeights(**(provenance.weights or {})), History(**(provenance.history or {}))


def _cosine_sources(run: Run, inputs: InputVersions) -> Sources:
    head = run.lake.last_commit(USER_PROFILES)
    assert head is not None
    made, provenance = Previous(run, USER_PROFILES, head), head.provenance
    versions = provenance.versions or {}
    shown = [IMPRESSIONS] if IMPRESSIONS.name in versions else []
    for name in (EVENTS, USERS, EMBEDDINGS, ITEM_VECTORS, *shown):
        if name.name not in versions or not run.lake.can_read(name, versions[name.name]):
            raise InputError(
                f"reasons are told of what user_profiles were made of, and that version of table '{name.name}' is gone "
                "or not known: run build_profiles with --full=true, then recommend_items"
            )
    if not made.saw(ITEM_VECTORS, inputs):
        raise InputError(
            "user_profiles were made of other item_vectors than the lists: run build_profiles, then recommend_items"
        )
    vectors, users, day = inputs.frame(run, ITEM_VECTORS), made.frame(USERS), made.run_date
    events = made.frame(EVENTS)
    weights, history = _history_of(provenance)
    pairs = weigh_pairs(events, day, weights, history)
    ignored = None
    if shown:
        what = Ignored(**(provenance.ignored or {}))
        ignored = ignored_pairs(made.frame(IMPRESSIONS), events, day, what)
        half_life = weights.half_life_days
        pairs = pairs.unionByName(weighed_ignored(ignored, events, day, what.weight, half_life))
    items = inputs.frame(run, ITEMS) if ITEMS.name in inputs.versions else None
    blocks = _blocks(run, inputs, ITEM_VECTORS, titled_items(vectors.drop("model"), items), {})
    segments = None
    if provenance.segment_weight:
        tasks = 2 * run.spark.sparkContext.defaultParallelism
        segments = own_segments(users, pool_items(segment_pairs(pairs, users), blocks, tasks=tasks))
    space = str(vectors.select("model").first()[0])  # type: ignore[index]
    texts = own_texts(run, users, made.frame(EMBEDDINGS), space) if provenance.user_text_weight else None
    own_weights = float(provenance.user_text_weight or 0), float(provenance.segment_weight or 0)
    widths = _widths(run, made.frame(EMBEDDINGS), space, blocks.dimension)
    return Sources(pairs, events_before(events, day), blocks, widths, ignored, texts, segments, own_weights)


def _blocks(run: Run, inputs: InputVersions, table: Any, frame: DataFrame, carried: Mapping[str, str]) -> ItemBlocks:
    """Blocks of what scores are made of, with titles; kept while nothing of it changes."""
    source = {"inputs": {one.name: inputs.content_ids.get(one.name) for one in (table, ITEMS)}, "reasons": table.name}
    return cached_blocks(run, ITEMS, source, _BLOCK_ROWS, lambda: (frame, None), carried={"title": "string", **carried})


def _widths(run: Run, embeddings: DataFrame, space: str, dimension: int) -> dict[str, int]:
    """The blocks of item vectors, as their commit describes them; one block where it does not."""
    head = run.lake.last_commit(ITEM_VECTORS)
    own = embeddings.where(F.col("model") == encoder_of(space)).select(F.size("embedding")).first()
    if head is None or head.provenance.feature_blocks is None or own is None:
        return {VECTOR: dimension}
    widths = block_widths(FeatureBlocks(**head.provenance.feature_blocks), own[0], dimension)
    return widths if sum(widths.values()) == dimension else {VECTOR: dimension}
