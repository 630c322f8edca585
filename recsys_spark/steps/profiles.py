"""events, users and item_vectors → user_profiles."""

from dataclasses import asdict

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import of_users
from recsys_spark.options import EventOptions, ProfileOptions
from recsys_spark.profiles import before, build_profiles, own_segments, pool_items, segment_pairs, weigh_pairs
from recsys_spark.steps.publishing import Inputs, Report, inputs, publish, run_key, unchanged
from recsys_spark.steps.whitening import stored
from recsys_spark.tables import EMBEDDINGS, EVENTS, ITEM_VECTORS, USER_PROFILES, USERS
from recsys_spark.vectors import encoder_of, whitening_of
from recsys_spark.whitening import whitened


def profiles(run: Run, options: ProfileOptions) -> Report:
    """Publish the profile of every user who has events with known items, or a text."""
    known = inputs(run, EVENTS, USERS, ITEM_VECTORS, EMBEDDINGS)
    facts = {"inputs": known.states, "run_date": options.run_date, "weights": asdict(options.weights)}
    facts |= {"history": asdict(options.history)} | options.model_dump(include={"user_text_weight", "segment_weight"})
    key = run_key("build_profiles", facts)
    if (done := unchanged(run, key, USER_PROFILES)) is not None:
        return done
    check_event_types(run, known, options)
    if options.dry_run:
        return {"tables": {}}
    vectors, events = known.frame(run, ITEM_VECTORS), known.frame(run, EVENTS)
    first = vectors.select("model", F.size("embedding")).first()
    if first is None:
        raise InputError("table 'item_vectors' is empty: run build_item_vectors first")
    space, dimension = first
    tasks = 2 * run.spark.sparkContext.defaultParallelism
    pairs = weigh_pairs(events, options.run_date, options.weights, options.history)
    segments = None
    if options.segment_weight:
        users = known.frame(run, USERS)
        segments = own_segments(users, pool_items(segment_pairs(pairs, users), vectors, tasks=tasks))
    frame = build_profiles(
        pool_items(pairs, vectors, tasks=tasks),
        _own_texts(run, known, space),
        space,
        options.run_date,
        dimension=dimension,
        prior=options.user_text_weight,
        segments=segments,
        segment_weight=options.segment_weight,
    )
    return publish(run, key, frame, USER_PROFILES, facts)


def _own_texts(run: Run, known: Inputs, space: str) -> DataFrame:
    """``user_id, embedding``: the users' own texts in the text block of ``space``."""
    texts = known.frame(run, EMBEDDINGS).where(F.col("model") == of_users(encoder_of(space)))
    own = known.frame(run, USERS).join(texts, on="text_hash", how="inner").select("user_id", "embedding")
    name = whitening_of(space)
    return whitened(own, "user_id", stored(run, name)) if name else own


def check_event_types(run: Run, known: Inputs, options: EventOptions) -> None:
    """Refuse event types that have no weight: a silent 0 would hide a whole class of events."""
    types = before(known.frame(run, EVENTS), options.run_date).select("event_type").distinct().limit(100).collect()
    unknown = sorted({row["event_type"] for row in types} - set(options.event_weights))
    if unknown:
        raise UsageError(
            f"table 'events' has event types without a weight: {', '.join(unknown)}; add them to event_weights"
        )
