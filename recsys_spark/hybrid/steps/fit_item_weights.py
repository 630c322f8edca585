"""items, embeddings and events → item_weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.arrays.vectors import Matrix
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import SMALL_BLOCK_ROWS, cached_blocks
from recsys_spark.blocks.steps.centroids import centroids, cluster_count
from recsys_spark.errors import InputError
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.events.trust import distrusted
from recsys_spark.events.weights import weigh_pairs
from recsys_spark.hybrid.item_features import (
    FEATURE_COLUMNS,
    TRUST_COLUMNS,
    item_features,
    sample_of_users,
    trusted_features,
)
from recsys_spark.hybrid.item_weights import WEIGHTS_DDL, fit_bytes, weight_rows
from recsys_spark.hybrid.options import FitOptions, WeightOptions
from recsys_spark.items.steps.whitening import fitted_whitening
from recsys_spark.items.vectors import encoder_of, item_embeddings
from recsys_spark.items.whitening import whitened
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.publish.changes import change_kinds, changed_keys
from recsys_spark.publish.steps.change_log import log_changes, snapshot_change
from recsys_spark.publish.steps.previous_run import FullRebuild, Previous, previous
from recsys_spark.publish.steps.publishing import (
    InputVersions,
    Report,
    pin_inputs,
    publish_staged,
    republish,
    run_key,
    unchanged,
)
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    FORGOTTEN,
    ITEM_RISK,
    ITEM_VECTORS,
    ITEM_WEIGHTS,
    ITEMS,
    USER_RISK,
)

_TRUST = (USER_RISK, ITEM_RISK)


@dataclass(frozen=True)
class _Fit:
    """Context of a run that fits weights: its pinned inputs, the run key, the provenance and the whitened vectors."""

    run: Run
    inputs: InputVersions
    options: WeightOptions
    key: str
    provenance: Provenance
    vectors: DataFrame
    dimension: int

    def publish(self, staged: Staged, scope: str, sizes: Mapping[str, int], blocks: ItemBlocks) -> Report:
        """Publish staged weights.

        Args:
            staged: the new version of the table.
            scope: in words, the items that were fitted and why.
            sizes: the numbers of items and events at the last fit of all items.
            blocks: the features, for the memory estimate.
        """
        run, day = self.run, self.options.run_date
        change = snapshot_change(run, staged, scope, self.key)
        outcome = Outcome(fitted=dict(sizes), changes=change.record(day))
        report = publish_staged(run, self.key, staged, self.inputs.recorded_in(self.provenance), outcome)
        report |= {"weights_made": scope}
        log_changes(run, self.key, day, [change])
        return report | {"fit_memory_mb": round(fit_bytes(blocks, self.options.weight_fit) / 1e6)}

    def log_plan(self, blocks: ItemBlocks, items: int, scope: str) -> None:
        """Log the items to fit, the reason and the estimated memory of a task before the fit starts."""
        bound = fit_bytes(blocks, self.options.weight_fit)
        self.run.progress.note(
            f"fit_item_weights: {scope}; {items:,} of {blocks.rows:,} items, each by a ridge regression on up to "
            f"{self.options.hybrid_candidates} candidates; about {bound / 1e6:,.0f} MB of Python memory per task"
        )


def fit_item_weights(run: Run, options: WeightOptions, *, force: bool = False, required: bool = True) -> Report:
    """Publish the weights of the hybrid scorer.

    Items that have weights keep them until a refit of all items is due. ``force``: fit all items. ``required``: without
    a positive event there are no weights, which is an error then.
    """
    trust = _TRUST if isinstance(options, FitOptions) and options.trust_weights else ()
    encoder, inputs = _encoder(run), pin_inputs(run, ITEMS, EVENTS, EMBEDDINGS, *trust)
    provenance = _provenance(inputs, options, encoder)
    key = run_key("fit_item_weights", provenance)
    if (done := unchanged(run, key, ITEM_WEIGHTS)) is not None and not force:
        return done
    check_event_types(run, inputs, options)
    if options.dry_run:
        return {"tables": {}}
    fit = _fit_of(run, inputs, options, key, provenance, encoder)
    sizes = {"items": run.lake.rows(ITEMS), "events": _events(fit).count()}
    last = FullRebuild("--full asks for it") if force else _last_fit(fit, sizes)
    return _fit_all(fit, last, sizes, required) if isinstance(last, FullRebuild) else _fit_due(fit, last)


def weights_before(run: Run, inputs: InputVersions, options: WeightOptions, day: date) -> DataFrame:
    """``item_id, neighbor_id, weight`` as ``fit_item_weights`` fits them for ``day``. Nothing is published.

    Args:
        run: the run.
        inputs: pins items, events and embeddings.
        options: of the fit; their run date is not used.
        day: only events before it count.
    """
    encoder, dated = _encoder(run), options.model_copy(update={"run_date": day})
    fit = _fit_of(run, inputs, dated, "", _provenance(inputs, dated, encoder), encoder)
    blocks = _feature_blocks(fit)
    fit.log_plan(blocks, blocks.rows, f"weights of {day}, which the ranker learns from")
    transform = weight_rows(blocks, options.weight_fit)
    return parts_of(run.spark, blocks).mapInArrow(lambda batches: transform(batches, {}), WEIGHTS_DDL)


def _fit_of(
    run: Run, inputs: InputVersions, options: WeightOptions, key: str, provenance: Provenance, encoder: str
) -> _Fit:
    """The context of a fit, with its whitening."""
    texts = item_embeddings(inputs.frame(run, ITEMS), inputs.frame(run, EMBEDDINGS), encoder)
    shrink, share = options.hybrid_whitening, options.refit_share
    white = fitted_whitening(run, encoder, texts, str(inputs.content_ids), shrink=shrink, refit_share=share)
    if white is None:
        raise InputError(f"no item has an embedding of model {encoder}: run embed_texts with the same --model first")
    vectors = whitened(texts, "item_id", white.transform)
    settings = {**provenance.settings, "whitening": white.transform.name}
    provenance = replace(provenance, settings=settings, forgotten=_forgotten(run))
    return _Fit(run, inputs, options, key, provenance, vectors, len(white.transform.mean))


def _encoder(run: Run) -> str:
    """Name of the encoder of item_vectors."""
    version = pin_inputs(run, ITEM_VECTORS).versions[ITEM_VECTORS.name]
    first = run.lake.first(ITEM_VECTORS, version, "model")
    if first is None:
        raise InputError("table 'item_vectors' is empty: run build_item_vectors first")
    return encoder_of(first["model"])


def _provenance(inputs: InputVersions, options: WeightOptions, encoder: str) -> Provenance:
    """Inputs and settings that weights depend on: the content of the run key."""
    weights, history = options.undated_history
    return Provenance.of(
        inputs=inputs.content_ids,
        run_date=options.run_date,
        weights=asdict(weights),
        history=history.settings(),
        encoder=encoder,
        fit=asdict(options.weight_fit),
        max_events=options.hybrid_max_events,
        refit=[options.hybrid_whitening, options.refit_share],
        **({"trust_weights": True} if _is_trusted(inputs) else {}),
    )


def _is_trusted(inputs: InputVersions) -> bool:
    """Whether users and items count by their trust."""
    return all(table.name in inputs.versions for table in _TRUST)


def _forgotten(run: Run) -> str | None:
    """Content id of the tombstones: weights that were fitted on the events of a forgotten user are not kept."""
    last = run.lake.last_commit(FORGOTTEN)
    return last.content_id if last else None


def _events(fit: _Fit) -> DataFrame:
    return events_before(fit.inputs.frame(fit.run, EVENTS), fit.options.run_date)


def _last_fit(fit: _Fit, sizes: Mapping[str, int]) -> Previous | FullRebuild:
    """The last weights, or the reason to fit all items."""
    last = previous(fit.run, ITEM_WEIGHTS, fit.provenance)
    if isinstance(last, FullRebuild):
        return last
    if fit.options.run_date < last.run_date:  # weights of a later day were fitted on later events
        return FullRebuild(f"run_date was {last.run_date}, is {fit.options.run_date}")
    for table in _TRUST if _is_trusted(fit.inputs) else ():
        old, new = (distrusted(rows, table.key[0]) for rows in (last.frame(table), fit.inputs.frame(fit.run, table)))
        if not last.saw(table, fit.inputs) and not changed_keys(old, new, table.key[0]).isEmpty():
            return FullRebuild(f"the trust in {table.key[0].removesuffix('_id')}s has changed")
    for name, size in (last.commit.outcome.fitted or {}).items():
        if abs(sizes[name] - size) >= fit.options.refit_share * size:
            return FullRebuild(f"{size:,} {name} at the last fit of all items, {sizes[name]:,} now")
    return last


def _fit_all(fit: _Fit, rebuild: FullRebuild, sizes: Mapping[str, int], required: bool) -> Report:
    """Fit and publish the weights of all items."""
    run, options = fit.run, fit.options
    blocks, scope = _feature_blocks(fit), str(rebuild)
    fit.log_plan(blocks, blocks.rows, scope)
    staged = run.lake.stage(parts_of(run.spark, blocks), ITEM_WEIGHTS, weight_rows(blocks, options.weight_fit))
    if not staged.rows and required:
        raise InputError(
            f"no item has a weight: table 'events' has no positive event before {options.run_date}; "
            "use --scorer=cosine until it has some"
        )
    # The content id of a fit of all items is its provenance; earlier releases wrote null for no tombstones.
    named = {**fit.provenance.to_json(), "forgotten": fit.provenance.forgotten}
    staged = replace(staged, content=run_key("all", named))
    without = sum(note.get("without", 0) for note in staged.stats)
    return fit.publish(staged, scope, sizes, blocks) | {"items_without_weights": without}


def _fit_due(fit: _Fit, last: Previous) -> Report:
    """Fit items that are new, have a changed text, or had no weights and have events now; the others keep theirs."""
    run, sizes = fit.run, last.commit.outcome.fitted or {}
    with materialized(run, _changes(fit, last)) as scratch:
        changes = scratch.frame
        due = changes.where("kind != 'removed'").select("item_id").distinct()
        number, removed = due.count(), changes.where("kind = 'removed'").count()
        if not number and not removed:
            run.progress.note("fit_item_weights: no item is new or has a changed text; all weights are kept")
            report = republish(run, fit.key, last.commit, ITEM_WEIGHTS, fit.inputs.recorded_in(fit.provenance))
            return report | {"weights_made": "none"}
        blocks, scope = (
            _feature_blocks(fit, due, last.commit.key),
            f"{number} items that are new or have a changed text",
        )
        fit.log_plan(blocks, number, scope)
        items = fit.inputs.frame(run, ITEMS).select("item_id")
        unchanged_rows = last.rows().join(items, on="item_id", how="left_semi").join(due, on="item_id", how="left_anti")
        unchanged_rows = unchanged_rows.join(
            items.withColumnRenamed("item_id", "neighbor_id"), on="neighbor_id", how="left_semi"
        )
        tasks = run.cores
        transform = weight_rows(blocks, fit.options.weight_fit, tasks=tasks)
        new = parts_of(run.spark, blocks, tasks).mapInArrow(lambda batches: transform(batches, {}), WEIGHTS_DDL)
        frame = unchanged_rows.select(*ITEM_WEIGHTS.columns).unionByName(new)
        staged = run.lake.stage(frame, ITEM_WEIGHTS, base=last.commit.version)
    return fit.publish(staged, scope, sizes, blocks)


def _changes(fit: _Fit, last: Previous) -> DataFrame:
    """``item_id, kind`` of items to fit, once for each reason, and of items that were ``removed``."""
    items, fitted_ids = fit.inputs.frame(fit.run, ITEMS), last.rows().select("item_id").distinct()
    unfitted = _events(fit).join(fitted_ids, on="item_id", how="left_anti").select("item_id").distinct()
    without = items.join(unfitted, on="item_id", how="left_semi").select("item_id", F.lit("without").alias("kind"))
    if last.saw(ITEMS, fit.inputs):
        return without
    before, after = (rows.select("item_id", "text_hash") for rows in (last.frame(ITEMS), items))
    return without.unionByName(change_kinds(before, after, "item_id"))


def _feature_blocks(fit: _Fit, due: DataFrame | None = None, after: str | None = None) -> ItemBlocks:
    """Blocks of the features of all items.

    ``due``: ids of the items to fit, marked in a column ``due``. ``after``: key of the run that fitted the others.
    """
    run, inputs, options, items = fit.run, fit.inputs, fit.options, fit.run.lake.rows(ITEMS)
    clusters = cluster_count(None, items) if options.hybrid_nprobe else 0

    def build() -> tuple[DataFrame, Matrix | None]:
        pairs = weigh_pairs(inputs.frame(run, EVENTS), options.run_date, *options.undated_history)
        share = options.hybrid_max_events / max(run.lake.rows(EVENTS), 1)
        positive = sample_of_users(pairs.where("weight > 0").select("user_id", "item_id"), share)
        features = item_features(inputs.frame(run, ITEMS), positive, fit.vectors, fit.dimension)
        if _is_trusted(inputs):
            features = trusted_features(features, positive, *(inputs.frame(run, table) for table in _TRUST))
        if due is not None:
            marked = features.join(due.withColumn("marked", F.lit(1)), on="item_id", how="left")
            features = marked.withColumn("due", F.coalesce("marked", F.lit(0))).drop("marked")
        return features, centroids(fit.vectors, clusters, items, seed=0) if clusters else None

    extra_columns = FEATURE_COLUMNS | (TRUST_COLUMNS if _is_trusted(inputs) else {})
    extra_columns |= {} if due is None else {"due": "int"}
    tasks = max(4 * run.cores, -(-items // SMALL_BLOCK_ROWS))
    source = {**fit.provenance.to_json(), "after": after}
    return cached_blocks(run, ITEM_WEIGHTS, source, SMALL_BLOCK_ROWS, build, extra_columns=extra_columns, tasks=tasks)


def parts_of(spark: SparkSession, items: ItemBlocks, tasks: int | None = None) -> DataFrame:
    """``part``: one row and one task for each block, or at most ``tasks`` tasks, each for several blocks."""
    count = min(len(items.paths), tasks or len(items.paths))
    return spark.range(0, count, 1, max(count, 1)).select(F.col("id").cast("int").alias("part"))
