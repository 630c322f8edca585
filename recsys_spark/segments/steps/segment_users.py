"""user_profiles, events and items → user_segments and segments."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import unit_vectors
from recsys_spark.arrays.vectors import Matrix
from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.publish.steps.audit import publish_audited
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, publish_staged, run_key, unchanged
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.segments.assignment import assigned_users, with_segments
from recsys_spark.segments.kernels.matching import matched_ids, merged_segments
from recsys_spark.segments.kernels.stability import centred, chosen_segments
from recsys_spark.segments.names import distinctive_words, user_words
from recsys_spark.segments.options import SegmentOptions
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.sampling import hash_sample
from recsys_spark.tables.schemas import EVENTS, ITEMS, SEGMENTS, USER_PROFILES, USER_SEGMENTS

_NAMED = 3


@dataclass(frozen=True)
class _Fit:
    """Centroids on a sample of users; ``ids`` and ``vectors`` of the sample, without the ``mean``."""

    ids: pa.ChunkedArray
    vectors: Matrix
    mean: NDArray[np.float64]
    centroids: Matrix
    stability: dict[int, float]


def segment_users(run: Run, options: SegmentOptions) -> Report:
    """Publish the segment of every user with a profile, and the segments with their names.

    ``segments`` is published first: a run that is killed between the two tables is completed by the same command.

    Raises:
        InputError: no profiles, or too few users for two segments.
        UsageError: profiles of two vector spaces.
        QualityError: fewer than two segments have enough users; nothing is published.
    """
    inputs = pin_inputs(run, USER_PROFILES, EVENTS, ITEMS)
    names = set(SegmentOptions.model_fields) & {"event_weights", "min_rating", *SegmentOptions.__annotations__}
    settings = options.model_dump(mode="json", include=names)
    provenance = Provenance.of(inputs=inputs.content_ids, run_date=options.run_date, **settings)
    key = run_key("segment_users", provenance)
    if (done := unchanged(run, key, SEGMENTS, USER_SEGMENTS)) is not None or options.dry_run:
        return done or {"tables": {}}
    profiles = inputs.frame(run, USER_PROFILES)
    space = _vector_space(profiles, options)
    with run.progress.step("fit segments"):
        fit = _fitted(run, profiles, options)
    with materialized(run, assigned_users(profiles, fit.mean, fit.centroids), broadcast=False) as assigned:
        rows = assigned.frame.groupBy("cluster").agg(F.count("*").alias("users")).collect()  # one per cluster
        counted = {row["cluster"]: row["users"] for row in rows}
        counts = [counted.get(cluster, 0) for cluster in range(len(fit.centroids))]
        target = merged_segments(counts, fit.centroids, options.min_segment_users)
        remaining = sorted({int(one) for one in target})
        if len(remaining) < 2:
            raise QualityError(
                f"only one segment has at least min_segment_users={options.min_segment_users} of the {sum(counts):,} "
                "users; nothing was published. Lower --min_segment_users, or wait for more users"
            )
        ids, next_id = _ids(run, fit, target, remaining)
        segments = with_segments(assigned.frame, [ids[int(one)] for one in target])
        return _publish(run, inputs, options, key, provenance, fit, segments, space, next_id)


def _vector_space(profiles: DataFrame, options: SegmentOptions) -> str:
    first, last, users = profiles.agg(F.min("model"), F.max("model"), F.count("*")).collect()[0]
    if not users:
        raise InputError("table 'user_profiles' is empty: run build_profiles on events or texts of users first")
    if users < 2 * options.min_segment_users:
        raise InputError(
            f"table 'user_profiles' has {users:,} users, and two segments of at least min_segment_users="
            f"{options.min_segment_users} need {2 * options.min_segment_users:,}: lower --min_segment_users, or wait "
            "for more users"
        )
    if first != last:
        raise UsageError(f"table 'user_profiles' mixes the vector spaces {first} and {last}: run build_profiles again")
    return str(first)


def _fitted(run: Run, profiles: DataFrame, options: SegmentOptions) -> _Fit:
    """Fit on a sample by a hash of the id, in the order of ids: neither partitions nor retries change it."""
    share = min(1.0, options.segment_sample / max(run.lake.rows(USER_PROFILES), 1))
    sampled = profiles.where(hash_sample("user_id", share)).select("user_id", "embedding").toArrow().sort_by("user_id")
    rows, vectors = unit_vectors(sampled["embedding"].combine_chunks())
    if len(rows) < 2:
        raise InputError("the sampled profiles have no direction: run build_profiles, or raise --segment_sample")
    mean = vectors.astype(np.float64).mean(axis=0)
    directions = centred(vectors, mean)
    counts = [options.segments] if options.segments else _counts(run, options)
    counts = [count for count in counts if count <= len(rows)] or [2]
    centroids, tried = chosen_segments(directions, counts, options.stability, options.refits, options.segment_seed)
    return _Fit(sampled["user_id"].take(pa.array(rows)), directions, mean, centroids, tried)


def _counts(run: Run, options: SegmentOptions) -> list[int]:
    """Numbers of segments to try: that of the last run, then from the greatest down."""
    last = run.lake.last_commit(SEGMENTS)
    fitted = None if last is None else last.outcome.more.get("clusters")
    counts = list(range(options.max_segments, 1, -1))
    return [fitted, *(one for one in counts if one != fitted)] if fitted in counts else counts


def _ids(run: Run, fit: _Fit, target: NDArray[np.int64], remaining: Sequence[int]) -> tuple[dict[int, int], int]:
    """The id of each remaining segment, matched with the last run on the sampled users; and the next id to give."""
    last, users = run.lake.last_commit(SEGMENTS), run.lake.last_commit(USER_SEGMENTS)
    if last is None or users is None:
        return {one: number + 1 for number, one in enumerate(remaining)}, len(remaining) + 1
    first_free = int(last.outcome.more.get("next_segment", 1))
    stored = run.lake.read(run.spark, USER_SEGMENTS, users.version).select("user_id", "segment")
    sampled = run.spark.createDataFrame(pa.table({"user_id": fit.ids.combine_chunks()}))
    was = stored.join(F.broadcast(sampled), on="user_id", how="left_semi").toArrow()
    before = dict(zip(was["user_id"].to_pylist(), was["segment"].to_pylist(), strict=True))
    old_ids = sorted(set(before.values()))
    now = target[(fit.vectors @ fit.centroids.T).argmax(axis=1)]
    overlap = np.zeros((len(old_ids), len(remaining)), np.int64)
    for user, segment in zip(fit.ids.to_pylist(), now.tolist(), strict=True):  # of the sample
        if user in before:
            overlap[old_ids.index(before[user]), remaining.index(segment)] += 1
    matched = matched_ids(overlap, old_ids, first_free)
    return dict(zip(remaining, matched.tolist(), strict=True)), max(first_free, int(matched.max()) + 1)


def _publish(
    run: Run,
    inputs: InputVersions,
    options: SegmentOptions,
    key: str,
    provenance: Provenance,
    fit: _Fit,
    segments: DataFrame,
    space: str,
    next_id: int,
) -> Report:
    """Publish both tables."""
    clusters, stability = len(fit.centroids), {str(count): round(value, 4) for count, value in fit.stability.items()}
    reached = fit.stability[clusters] >= options.stability
    scope = f"all: {clusters} clusters, refits agree by an adjusted Rand index of {fit.stability[clusters]:.3f}"
    figures = {"clusters": clusters, "stability": stability, "stable": reached}
    outcome = Outcome(more=figures | {"next_segment": next_id})
    provenance = inputs.recorded_in(provenance)
    run_date = F.lit(options.run_date)
    users = run.lake.stage(segments.withColumn("run_date", run_date).select(*USER_SEGMENTS.columns), USER_SEGMENTS)
    rows = _segment_rows(run, inputs, options, run.lake.read_staged(run.spark, users))
    staged = run.lake.stage(
        rows.withColumns({"run_date": run_date, "model": F.lit(space)}).select(*SEGMENTS.columns), SEGMENTS
    )
    table = sorted(run.lake.read_staged(run.spark, staged).collect(), key=lambda row: row["segment"])  # few segments
    report = publish_staged(run, key, staged, provenance, outcome)
    published = publish_audited(run, key, users, provenance, options, scope=scope, outcome=outcome)
    if not reached:
        run.progress.note(
            f"no number of segments reaches stability={options.stability}: the most stable, {clusters}, was taken"
        )
    named = {str(row["segment"]): {"name": row["name"], "users": row["users"]} for row in table}
    return published | {"tables": report["tables"] | published["tables"], "segments": named, **figures}


def _segment_rows(run: Run, inputs: InputVersions, options: SegmentOptions, users: DataFrame) -> DataFrame:
    """``segment, name, users, share, categories, items``."""
    items, events = inputs.frame(run, ITEMS), events_before(inputs.frame(run, EVENTS), options.run_date)
    pairs = events.where(is_positive_event(options.event_weights, options.min_rating)).select("user_id", "item_id")
    counts = users.groupBy("segment").agg(F.count("*").alias("users"))
    counts = counts.crossJoin(counts.agg(F.sum("users").alias("total")))
    rows = counts.select("segment", "users", (F.col("users") / F.col("total")).alias("share"))
    of, titles = (
        users.select("user_id", "segment"),
        items.select("item_id", F.coalesce("title", "item_id").alias("title")),
    )
    for column, kind in (("categories", "category"), ("items", "item")):
        words = distinctive_words(user_words(pairs, items, kind), of, options.min_segment_users, _NAMED)
        if kind == "item":
            words = words.join(titles, on=F.col("word") == titles["item_id"], how="left").withColumn(
                "word", F.col("title")
            )
        listed = F.transform(F.array_sort(F.collect_list(F.struct("place", "word"))), lambda one: one["word"])
        rows = rows.join(words.groupBy("segment").agg(listed.alias(column)), on="segment", how="left")
    empty = F.array().cast("array<string>")
    rows = rows.withColumns({name: F.coalesce(name, empty) for name in ("categories", "items")})
    distinctive = F.concat(F.slice("categories", 1, 2), F.slice("items", 1, 1))
    unnamed = F.concat(F.lit("segment "), F.col("segment").cast("string"))
    return rows.withColumn("name", F.when(F.size(distinctive) > 0, F.array_join(distinctive, ", ")).otherwise(unnamed))
