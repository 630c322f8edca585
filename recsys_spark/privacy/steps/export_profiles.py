"""Profiles, mean profiles of groups or users of items → tables with noise, under differential privacy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import matrix
from recsys_spark.errors import InputError, UsageError
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.privacy.kernels.gaussian import GRID, check_opendp_installed, least_scale, noisy
from recsys_spark.privacy.kernels.projection import principal_projection
from recsys_spark.privacy.options import ReleaseOptions
from recsys_spark.privacy.releases import (
    PROFILE_SENSITIVITY,
    Constants,
    Shape,
    count_sensitivity,
    group_sums,
    item_users,
    mean_sensitivity,
    noisy_count_rows,
    noisy_profile_rows,
)
from recsys_spark.privacy.steps.ledger import Ledger, Release
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import (
    EVENTS,
    ITEM_VECTORS,
    ITEMS,
    NOISY_COUNTS,
    NOISY_MEANS,
    NOISY_PROFILES,
    PRIVACY_LEDGER,
    USER_PROFILES,
    USERS,
    Table,
)

_SAMPLED_ITEMS = 20_000


@dataclass(frozen=True)
class _Kind:
    """What is released: its table, the tables it is made from, its sensitivity, and the step that draws noise."""

    table: Table
    inputs: tuple[Table, ...]
    sensitivity: Callable[[ReleaseOptions], float]
    draw: Callable[[Run, ReleaseOptions, InputVersions, float], Staged]


def export_profiles(run: Run, options: ReleaseOptions) -> Report:
    """Publish noisy rows, after an entry in the ledger. No two runs draw the same noise, so the run that a key names
    publishes once and spends once; after a kill between the two commits it publishes what it has paid for.

    Raises:
        QualityError: the budget does not suffice; nothing is published.
        UsageError: OpenDP is missing, or profiles depend on more than a user's own events.
        InputError: a table is missing, or of another run date.
    """
    check_opendp_installed()
    kind = _KINDS[options.what]
    inputs = pin_inputs(run, *kind.inputs, *([ITEM_VECTORS] if options.dimensions else []))
    if USER_PROFILES in kind.inputs:
        _check_profiles(run, options)
    provenance = Provenance.of(inputs=dict(inputs.content_ids), run_date=options.run_date, **_settings(options))
    key = run_key("export_profiles", provenance)
    sensitivity = kind.sensitivity(options)
    release = Release(key, options.what, least_scale(options.epsilon, options.delta, sensitivity), sensitivity)
    if run.lake.has_commit(kind.table, key):
        return {"status": "unchanged", "tables": {kind.table.name: run.lake.rows(kind.table)}}
    ledger, is_paid = Ledger.open(run, options), run.lake.has_commit(PRIVACY_LEDGER, key)
    total = ledger.spent if is_paid else ledger.total_with(release)
    figures = {"epsilon": options.epsilon, "delta": options.delta, "epsilon_spent": total, "budget": options.budget}
    if options.dry_run:
        return {"tables": {}, **figures}
    staged = kind.draw(run, options, inputs, release.scale)
    if not is_paid:
        run.lake.commit(ledger.staged(release), key, append=True, exclusive=True)
    run.lake.commit(staged, key, provenance=provenance, outcome=Outcome(figures=figures))
    return {"status": "done", "tables": {kind.table.name: staged.rows}, **figures}


def _settings(options: ReleaseOptions) -> dict[str, object]:
    """The keys that the rows depend on; the budget is none."""
    names = {
        "profiles": ("clip", "dimensions"),
        "means": ("clip", "dimensions", "groups", "groups_per_user"),
        "counts": ("items_per_user",),
    }
    return {name: getattr(options, name) for name in ("what", "epsilon", "delta", *names[options.what])}


def _check_profiles(run: Run, options: ReleaseOptions) -> None:
    profiles, items = run.lake.last_commit(USER_PROFILES), run.lake.last_commit(ITEM_VECTORS)
    assert profiles is not None, "the inputs are pinned"
    made = profiles.provenance
    if made.run_date != options.run_date:
        raise InputError(
            f"table 'user_profiles' is of run_date {made.run_date}, not {options.run_date}: pass --run_date="
            f"{made.run_date}, or run the refresh"
        )
    others = {
        "history blocks in item_vectors": items is not None and items.provenance.history is not None,
        "segment_weight": bool(made.segment_weight),
        "sif": bool((made.history or {}).get("sif")),
    }
    if names := [name for name, is_set in others.items() if is_set]:
        raise UsageError(
            f"profiles made with {', '.join(names)} depend on the events of other users, whom "
            f"noise on one's own profile "
            "does not protect: build item vectors and profiles without"
        )


def _constants(options: ReleaseOptions) -> Constants:
    return {"epsilon": options.epsilon, "delta": options.delta}


def _shape(run: Run, options: ReleaseOptions, inputs: InputVersions) -> Shape:
    """The axes come from a sample of the catalogue, which is public; a sample of this size fits in the driver."""
    if options.dimensions is None:
        return Shape(options.clip)
    models = inputs.frame(run, USER_PROFILES).select("model").limit(1)
    items = inputs.frame(run, ITEM_VECTORS).join(models, on="model", how="left_semi")
    sample = items.orderBy(F.xxhash64("item_id"), "item_id").limit(_SAMPLED_ITEMS).select("embedding").toArrow()
    if not sample.num_rows:
        raise InputError("no item vector has the model of the profiles: run build_item_vectors, then build_profiles")
    return Shape(options.clip, principal_projection(matrix(sample["embedding"]), options.dimensions))


def _draw_profiles(run: Run, options: ReleaseOptions, inputs: InputVersions, scale: float) -> Staged:
    profiles = inputs.frame(run, USER_PROFILES).where("size(embedding) > 0").select("user_id", "model", "embedding")
    shape, columns = _shape(run, options, inputs), list(NOISY_PROFILES.columns)
    transform = noisy_profile_rows(shape, scale, columns, _constants(options))
    return run.lake.stage(profiles, NOISY_PROFILES, transform)


def _draw_means(run: Run, options: ReleaseOptions, inputs: InputVersions, scale: float) -> Staged:
    groups = options.group_names
    profiles = inputs.frame(run, USER_PROFILES).where("size(embedding) > 0")
    first = profiles.selectExpr("model", "size(embedding) AS dimension").first()
    if first is None:
        raise InputError("table 'user_profiles' has no vectors: run build_profiles first")
    shape = _shape(run, options, inputs)
    sums = group_sums(profiles, inputs.frame(run, USERS), groups, options.groups_per_user, shape).collect()
    totals = np.zeros((len(groups), min(first["dimension"], options.dimensions or first["dimension"]) + 1), np.int64)
    for row in sums:  # one for each group and dimension, however many users there are
        totals[groups.index(row["group"]), row["position"] + 1] = row["total"]
    drawn = noisy(totals, scale)
    users = drawn[:, 0] / GRID
    vectors = shape.vectors(drawn[:, 1:] / np.maximum(users, 1.0)[:, None])
    rows = [
        (
            group,
            first["model"],
            vectors[at].tolist(),
            float(users[at]),
            options.epsilon,
            options.delta,
        )
        for at, group in enumerate(groups)
    ]
    return run.lake.stage(run.spark.createDataFrame(rows, NOISY_MEANS.ddl).coalesce(1), NOISY_MEANS)


def _draw_counts(run: Run, options: ReleaseOptions, inputs: InputVersions, scale: float) -> Staged:
    events = events_before(inputs.frame(run, EVENTS), options.run_date)
    counts = item_users(events, inputs.frame(run, ITEMS), options.items_per_user)
    transform = noisy_count_rows(scale, list(NOISY_COUNTS.columns), _constants(options))
    return run.lake.stage(counts, NOISY_COUNTS, transform)


_KINDS = {
    "profiles": _Kind(NOISY_PROFILES, (USER_PROFILES,), lambda options: PROFILE_SENSITIVITY, _draw_profiles),
    "means": _Kind(
        NOISY_MEANS, (USER_PROFILES, USERS), lambda options: mean_sensitivity(options.groups_per_user), _draw_means
    ),
    "counts": _Kind(
        NOISY_COUNTS, (EVENTS, ITEMS), lambda options: count_sensitivity(options.items_per_user), _draw_counts
    ),
}
