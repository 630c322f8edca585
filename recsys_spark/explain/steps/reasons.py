"""Published lists and the inputs of their scores → reasons that add up to each score."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.intervals import half_width
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import SMALL_BLOCK_ROWS, cached_blocks
from recsys_spark.errors import InputError, UsageError
from recsys_spark.events.history import History
from recsys_spark.events.trust import trusted_pairs
from recsys_spark.events.weights import EventWeights, weigh_pairs
from recsys_spark.explain.inputs import explanation_inputs, newest_event_types, titled_items, weighted_titles
from recsys_spark.explain.options import ReasonOptions
from recsys_spark.explain.reasons import VECTOR, ExplainSpec, reason_rows
from recsys_spark.hybrid.history_scorer import WEIGHT_COLUMNS
from recsys_spark.hybrid.sparse_histories import weighted_items
from recsys_spark.items.vectors import FeatureBlocks, block_widths, encoder_of
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Provenance
from recsys_spark.profiles.ignored_impressions import Ignored, ignored_event_types, ignored_pairs, weighed_ignored
from recsys_spark.profiles.profiles import pool_items, segment_pairs, user_segments
from recsys_spark.profiles.steps.build_profiles import user_text_vectors
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
    USER_RISK,
    USERS,
    Table,
)
from recsys_spark.tables.task_stream import ArrowTransform, with_constant_columns


@dataclass(frozen=True)
class Sources:
    """The terms of the scores: weighted pairs of every user, and the items."""

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
    """Sources of lists that were computed from ``inputs`` and have this provenance.

    Raises:
        InputError: an input of the profiles was removed, or the profiles belong to other item vectors than the lists.
        UsageError: the scorer of the lists has no explanation.
    """
    if provenance.scorer == "hybrid":
        return _hybrid_sources(run, inputs, provenance)
    if provenance.scorer is not None:
        raise UsageError(
            f"lists of the scorer '{provenance.scorer}' have no explanation, only those of auto, cosine and hybrid "
            "have: run recommend_items with --explain=0 to make such lists"
        )
    return replace(_cosine_sources(run, inputs), interests=provenance.interests or 1)


def explanation(
    sources: Sources,
    options: ReasonOptions,
    lists: DataFrame,
    constant_columns: Mapping[str, Any],
    user: str | None = None,
) -> tuple[DataFrame, ArrowTransform]:
    """Rows of ``explanation_inputs``, and their transform to rows of ``recommendations``; only of ``user`` if given."""
    pairs, event_types = sources.pairs, newest_event_types(sources.events)
    if sources.ignored is not None:
        event_types = event_types.unionByName(ignored_event_types(sources.ignored))
    if user is not None:
        pairs, event_types, lists = (rows.where(F.col("user_id") == user) for rows in (pairs, event_types, lists))
    users = explanation_inputs(lists, pairs, event_types, sources.own_texts, sources.segments)
    spec = ExplainSpec(
        options.explain,
        options.language,
        sources.widths,
        sources.own_weights,
        boosted=sources.items.boosted,
        interests=sources.interests,
    )
    return users, reason_rows(sources.items, spec, constant_columns)


def staged_lists(
    run: Run,
    inputs: InputVersions,
    options: ReasonOptions,
    provenance: Provenance,
    lists: DataFrame,
    constant_columns: dict[str, Any],
    base: int | None = None,
) -> tuple[Staged, Report]:
    """Stage lists (``user_id, item_id, score, rank``) as rows of ``recommendations``.

    With ``explain`` the rows get reasons, and the report their fidelity.
    """
    if not options.explain:
        # The writing task adds the date and empty reasons: Arrow is slowest with nested columns.
        plain = constant_columns | {"reasons": None, "source": None}
        transform: ArrowTransform = lambda batches, _: (with_constant_columns(batch, plain) for batch in batches)  # noqa: E731
        rows = lists.select("user_id", "item_id", "score", "rank")
        return run.lake.stage(rows, RECOMMENDATIONS, transform, base=base), {}
    users, transform = explanation(sources(run, inputs, provenance), options, lists, constant_columns)
    staged = run.lake.stage(users, RECOMMENDATIONS, transform, base=base)
    return staged, {"fidelity": fidelity_of([stats["fidelity"] for stats in staged.stats if "fidelity" in stats])}


def staged_with_reasons(
    run: Run,
    inputs: InputVersions,
    options: ReasonOptions,
    provenance: Provenance,
    staged: Staged,
    constant_columns: dict[str, Any],
) -> tuple[Staged, Report]:
    """Staged lists as they are, or with ``explain`` the same with reasons, and the report with their fidelity."""
    if not options.explain:
        return staged, {}
    with run.progress.step(f"explain {staged.rows:,} rows"):
        lists = run.lake.read_staged(run.spark, staged)
        explained, fidelity = staged_lists(run, inputs, options, provenance, lists, constant_columns)
        run.lake.discard(staged)
    return replace(explained, stats=staged.stats, base=staged.base), fidelity


def fidelity_of(stats: list[list[float]]) -> dict[str, float]:
    """Mean loss of a user's scores without the top reason and without another event on average, over users with two
    events or more; the margin of the two with its 95 % interval (normal approximation)."""
    users, top, other, margin, squares = (sum(column) for column in zip(*stats, strict=True)) if stats else [0.0] * 5
    if not users:
        return {"users": 0}
    mean = margin / users
    half = half_width((max(squares / users - mean**2, 0.0) / users) ** 0.5)
    figures = {"top": top / users, "other": other / users, "margin": mean, "low": mean - half, "high": mean + half}
    return {"users": int(users)} | {name: round(value, 5) for name, value in figures.items()}


def _hybrid_sources(run: Run, inputs: InputVersions, provenance: Provenance) -> Sources:
    events, day = inputs.frame(run, EVENTS), provenance.run_date
    assert day is not None
    pairs = weigh_pairs(events, day, *_weighting(provenance))
    weights = weighted_items(inputs.frame(run, ITEM_WEIGHTS))
    rows = weighted_titles(weights, _items(run, inputs), pairs)
    blocks = _blocks(run, inputs, ITEM_WEIGHTS, rows, WEIGHT_COLUMNS)
    return Sources(pairs, events_before(events, day), blocks, {})


def _weighting(provenance: Provenance) -> tuple[EventWeights, History]:
    return EventWeights(**(provenance.weights or {})), History(**(provenance.history or {}))


def _cosine_sources(run: Run, inputs: InputVersions) -> Sources:
    profiles = _profile_run(run, inputs)
    provenance, day = profiles.commit.provenance, profiles.run_date
    vectors, users = inputs.frame(run, ITEM_VECTORS), profiles.frame(USERS)
    events, embeddings = profiles.frame(EVENTS), profiles.frame(EMBEDDINGS)
    weights, history = _weighting(provenance)
    pairs = weigh_pairs(events, day, weights, history)
    ignored = None
    if IMPRESSIONS.name in (provenance.versions or {}):
        rule = Ignored(**(provenance.ignored or {}))
        ignored = ignored_pairs(profiles.frame(IMPRESSIONS), events, day, rule)
        pairs = pairs.unionByName(weighed_ignored(ignored, events, day, rule.weight, weights.half_life_days))
    if provenance.settings.get("trust_weights"):
        pairs = trusted_pairs(pairs, profiles.frame(USER_RISK))
    blocks = _blocks(run, inputs, ITEM_VECTORS, titled_items(vectors.drop("model"), _items(run, inputs)), {})
    segments = None
    if provenance.segment_weight:
        tasks = 2 * run.cores
        segments = user_segments(users, pool_items(segment_pairs(pairs, users), blocks, tasks=tasks))
    space = str(vectors.select("model").first()[0])  # type: ignore[index]
    texts = user_text_vectors(run, users, embeddings, space) if provenance.user_text_weight else None
    own_weights = float(provenance.user_text_weight or 0), float(provenance.segment_weight or 0)
    widths = _widths(run, embeddings, space, blocks.dimension)
    return Sources(pairs, events_before(events, day), blocks, widths, ignored, texts, segments, own_weights)


def _profile_run(run: Run, inputs: InputVersions) -> Previous:
    """The run that published the profiles. All its inputs can still be read.

    Raises:
        InputError: an input was removed, or the item vectors were others than in ``inputs``.
    """
    commit = run.lake.last_commit(USER_PROFILES)
    assert commit is not None
    versions = commit.provenance.versions or {}
    more = [table for table in (IMPRESSIONS, USER_RISK) if table.name in versions]
    for table in (EVENTS, USERS, EMBEDDINGS, ITEM_VECTORS, *more):
        if table.name not in versions or not run.lake.can_read(table, versions[table.name]):
            raise InputError(
                f"reasons need the version of table '{table.name}' that user_profiles were built from, and it was "
                "removed or is unknown: run build_profiles with --full=true, then recommend_items"
            )
    profiles = Previous(run, USER_PROFILES, commit)
    if not profiles.saw(ITEM_VECTORS, inputs):
        raise InputError(
            "user_profiles were built from other item_vectors than the lists: run build_profiles, then recommend_items"
        )
    return profiles


def _items(run: Run, inputs: InputVersions) -> DataFrame | None:
    return inputs.frame(run, ITEMS) if ITEMS.name in inputs.versions else None


def _blocks(run: Run, inputs: InputVersions, table: Table, frame: DataFrame, carried: Mapping[str, str]) -> ItemBlocks:
    """Item blocks of the vectors or weights, with titles; reused while their inputs do not change."""
    settings = {"inputs": {one.name: inputs.content_ids.get(one.name) for one in (table, ITEMS)}, "reasons": table.name}
    columns = {"title": "string", **carried}
    return cached_blocks(run, ITEMS, settings, SMALL_BLOCK_ROWS, lambda: (frame, None), extra_columns=columns)


def _widths(run: Run, embeddings: DataFrame, space: str, dimension: int) -> dict[str, int]:
    """Widths of the feature blocks, from the commit of the item vectors; a single block if it does not record them."""
    commit = run.lake.last_commit(ITEM_VECTORS)
    first = embeddings.where(F.col("model") == encoder_of(space)).select(F.size("embedding")).first()
    if commit is None or commit.provenance.feature_blocks is None or first is None:
        return {VECTOR: dimension}
    widths = block_widths(FeatureBlocks(**commit.provenance.feature_blocks), first[0], dimension)
    return widths if sum(widths.values()) == dimension else {VECTOR: dimension}
