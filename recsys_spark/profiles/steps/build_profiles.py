"""Build user profiles: events, users and item_vectors → user_profiles."""

from dataclasses import asdict

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import SMALL_BLOCK_ROWS, cached_blocks
from recsys_spark.encode.kernels.model_folder import user_fingerprint
from recsys_spark.errors import InputError, QualityError
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.events.trust import distrusted, trusted_pairs
from recsys_spark.events.weights import weigh_pairs
from recsys_spark.items.steps.whitening import stored_whitening
from recsys_spark.items.vectors import encoder_of, whitening_of
from recsys_spark.items.whitening import whitened
from recsys_spark.lake.provenance import Provenance
from recsys_spark.profiles.ignored_impressions import weighed_ignored
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.profiles import pool_items, profile_rows, segment_pairs, user_segments
from recsys_spark.profiles.steps.impressions import (
    ignored_of,
    ignored_settings,
    keep_impressions,
    users_with_other_ignored,
)
from recsys_spark.publish.changes import changed_keys
from recsys_spark.publish.steps.audit import publish_audited
from recsys_spark.publish.steps.partial_rewrite import partial_rewrite
from recsys_spark.publish.steps.previous_run import FullRebuild, Previous, previous
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, republish, run_key, unchanged
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, IMPRESSIONS, ITEM_VECTORS, USER_PROFILES, USER_RISK, USERS


def build_profiles(run: Run, options: ProfileOptions) -> Report:
    """Publish the profile of every user who has a text or events of items with vectors.

    Users whose events, text and items have not changed keep their profiles, unless ``full`` is set.

    Raises:
        InputError: there are no item vectors.
        QualityError: there are events, but they give no user a profile.
    """
    keep_impressions(run, options)
    impressions = [IMPRESSIONS] if options.ignored_weight and run.lake.version(IMPRESSIONS) is not None else []
    trust = [USER_RISK] if options.trust_weights else []
    inputs = pin_inputs(run, EVENTS, USERS, ITEM_VECTORS, EMBEDDINGS, *impressions, *trust)
    provenance = _provenance(inputs, options)
    key = run_key("build_profiles", provenance)
    if (done := unchanged(run, key, USER_PROFILES)) is not None and not options.full:
        return done
    check_event_types(run, inputs, options)
    if options.dry_run:
        return {"tables": {}}
    first = inputs.frame(run, ITEM_VECTORS).select("model", F.size("embedding")).first()
    if first is None:
        raise InputError("table 'item_vectors' is empty: run build_item_vectors first")
    last = _previous(run, options, provenance, first[0])
    provenance = inputs.recorded_in(provenance)
    if isinstance(last, FullRebuild):
        scope = str(last)
        run.progress.note(f"build_profiles: {scope}")
        staged = run.lake.stage(_profiles(run, inputs, options, first), USER_PROFILES)
        if not staged.rows:
            _refuse_no_profiles(run, inputs, options)
        return publish_audited(run, key, staged, provenance, options, scope=scope) | {"profiles_made": scope}
    with materialized(run, _users_to_recompute(run, inputs, options, last, first[0])) as changed:
        run.progress.note(f"build_profiles: {changed.rows:,} users have changed")
        if not changed.rows:
            return republish(run, key, last.commit, USER_PROFILES, provenance) | {"profiles_made": "none"}
        staged = run.lake.stage(_profiles(run, inputs, options, first, changed.frame), USER_PROFILES)
        rewrite, scope = partial_rewrite(last, key, changed.frame, staged), f"{changed.rows} users who changed"
        report = publish_audited(
            run,
            key,
            rewrite.staged,
            provenance,
            options,
            scope=scope,
            outcome=rewrite.outcome,
            parts=(rewrite.old, rewrite.new),
        )
    return report | {"profiles_made": scope}


def _provenance(inputs: InputVersions, options: ProfileOptions) -> Provenance:
    ignored = ignored_settings(options)
    return Provenance(
        inputs.content_ids,
        options.run_date,
        weights=asdict(options.weights),
        history=options.history.settings(),
        ignored=asdict(ignored) if ignored else None,
        user_text_weight=options.user_text_weight,
        segment_weight=options.segment_weight,
        settings={"trust_weights": True} if options.trust_weights else {},
    )


def _refuse_no_profiles(run: Run, inputs: InputVersions, options: ProfileOptions) -> None:
    """Raise if there are events but no profiles, and therefore no lists: the ids or the weights must be wrong."""
    events, items = events_before(inputs.frame(run, EVENTS), options.run_date), inputs.frame(run, ITEM_VECTORS)
    number, event = events.agg(F.count("*"), F.min("item_id")).collect()[0]
    if not number:
        return
    if events.join(items.select("item_id"), on="item_id", how="left_semi").isEmpty():
        item = items.agg(F.min("item_id")).collect()[0][0]
        raise QualityError(
            f"none of the {number:,} events before {options.run_date} is about an item with a vector, so there would "
            f"be no lists. Events name items such as '{event}', vectors such as '{item}': check that the ids have the "
            "same type and format, and that the items have texts"
        )
    raise QualityError(
        f"the {number:,} events before {options.run_date} give no user a profile: with these event_weights and "
        "rating_center, the events of each user add up to zero"
    )


def _previous(run: Run, options: ProfileOptions, provenance: Provenance, space: str) -> Previous | FullRebuild:
    if options.full:
        return FullRebuild("--full asks for it")
    for name, value in (("sif", options.sif), ("segment_weight", options.segment_weight)):
        if value:
            return FullRebuild(f"with {name} every profile depends on all events")
    last = previous(run, USER_PROFILES, provenance)
    if isinstance(last, Previous):
        profile = last.rows().select("model").first()
        if profile is None or profile["model"] != space:
            return FullRebuild("item_vectors are in another vector space")
    return last


def _users_to_recompute(
    run: Run, inputs: InputVersions, options: ProfileOptions, last: Previous, space: str
) -> DataFrame:
    """``user_id`` of users whose events, text, ignored impressions or item vectors have changed."""
    changed = last.other_events(inputs, options.run_date)
    if not last.saw(ITEM_VECTORS, inputs):
        items = changed_keys(last.frame(ITEM_VECTORS), inputs.frame(run, ITEM_VECTORS), "item_id")
        events = events_before(inputs.frame(run, EVENTS), options.run_date)
        changed = changed.unionByName(events.join(items, on="item_id", how="left_semi").select("user_id"))
    if IMPRESSIONS.name in inputs.versions:
        changed = changed.unionByName(users_with_other_ignored(run, inputs, options, last))
    if options.trust_weights and not last.saw(USER_RISK, inputs):
        old, new = distrusted(last.frame(USER_RISK)), distrusted(inputs.frame(run, USER_RISK))
        changed = changed.unionByName(changed_keys(old, new, "user_id"))
    if options.user_text_weight and not (last.saw(USERS, inputs) and last.saw(EMBEDDINGS, inputs)):
        old = user_text_vectors(run, last.frame(USERS), last.frame(EMBEDDINGS), space)
        new = user_text_vectors(run, inputs.frame(run, USERS), inputs.frame(run, EMBEDDINGS), space)
        changed = changed.unionByName(changed_keys(old, new, "user_id"))
    return changed.distinct()


def _profiles(
    run: Run, inputs: InputVersions, options: ProfileOptions, space: tuple[str, int], only: DataFrame | None = None
) -> DataFrame:
    """Profiles of all users, or only of those in ``only``."""
    tasks, items = 2 * run.cores, pooled_blocks(run, inputs)
    events, users = inputs.frame(run, EVENTS), inputs.frame(run, USERS)
    if only is not None:
        events, users = (rows.join(only, on="user_id", how="left_semi") for rows in (events, users))
    pairs = weigh_pairs(events, options.run_date, options.weights, options.history)
    if IMPRESSIONS.name in inputs.versions:
        ignored = ignored_of(run, inputs, options, only)
        pairs = pairs.unionByName(
            weighed_ignored(ignored, events, options.run_date, options.ignored_weight, options.weights.half_life_days)
        )
    if options.trust_weights:
        pairs = trusted_pairs(pairs, inputs.frame(run, USER_RISK))
    segments = None
    if options.segment_weight:
        segments = user_segments(users, pool_items(segment_pairs(pairs, users), items, tasks=tasks))
    return profile_rows(
        pool_items(pairs, items, tasks=tasks),
        user_text_vectors(run, users, inputs.frame(run, EMBEDDINGS), space[0]),
        space[0],
        dimension=space[1],
        prior=options.user_text_weight,
        segments=segments,
        segment_weight=options.segment_weight,
    )


def pooled_blocks(run: Run, inputs: InputVersions) -> ItemBlocks:
    """The item blocks that profiles are pooled from, in the order of item_id."""
    source = {"inputs": {ITEM_VECTORS.name: inputs.content_ids[ITEM_VECTORS.name]}}
    return cached_blocks(run, USER_PROFILES, source, SMALL_BLOCK_ROWS, lambda: (inputs.frame(run, ITEM_VECTORS), None))


def user_text_vectors(run: Run, users: DataFrame, embeddings: DataFrame, space: str) -> DataFrame:
    """``user_id, embedding``: the vectors of users' texts in the text block of ``space``."""
    texts = embeddings.where(F.col("model") == user_fingerprint(encoder_of(space)))
    vectors = users.join(texts, on="text_hash", how="inner").select("user_id", "embedding")
    name = whitening_of(space)
    return whitened(vectors, "user_id", stored_whitening(run, name)) if name else vectors
