"""Build item vectors: items and embeddings → item_vectors, with a fitted whitening and price quantiles."""

from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.errors import InputError, UsageError
from recsys_spark.events.options import HistoryOptions
from recsys_spark.events.weights import weigh_pairs
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.price_quantiles import fitted_quantiles
from recsys_spark.items.steps.whitening import Fit, fitted_whitening
from recsys_spark.items.vectors import item_embeddings, item_vector_rows, items_with_users
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.audit import publish_audited
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key, unchanged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEM_VECTORS, ITEMS


def build_item_vectors(
    run: Run, options: BlockOptions, model: ModelSpec, history: HistoryOptions | None = None, *, force: bool = False
) -> Report:
    """Publish vectors of all items whose text has an embedding of ``model``.

    Args:
        history: settings of the events from which a collaborative block is built.
        force: publish even if nothing has changed.

    Raises:
        InputError: no item has such an embedding.
        UsageError: a collaborative block without a history.
    """
    inputs = pin_inputs(run, ITEMS, EMBEDDINGS, *([EVENTS] if options.blocks.collaborative else []))
    provenance = _provenance(inputs, options, model, history)
    key = run_key("build_item_vectors", provenance)
    if (done := unchanged(run, key, ITEM_VECTORS)) is not None and not force:
        return done
    if options.dry_run:
        return {"tables": {}}
    items, embeddings = inputs.frame(run, ITEMS), inputs.frame(run, EMBEDDINGS)
    cuts = fitted_quantiles(run, options, items, str(inputs.content_ids))
    if history is not None and options.blocks.collaborative:
        pairs = weigh_pairs(inputs.frame(run, EVENTS), history.run_date, *history.undated_history)
        items = items_with_users(items, pairs.where("weight > 0").select("user_id", "item_id"))
    texts = item_embeddings(items, embeddings, model.fingerprint)
    fit = _whitening(run, options, model, texts, str(inputs.content_ids))
    transform = fit.transform if fit else None
    named_cuts = (cuts.name, cuts.rows) if cuts else None
    vectors = item_vector_rows(items, embeddings, model.fingerprint, options.blocks, transform, named_cuts)
    staged = run.lake.stage(vectors, ITEM_VECTORS)
    if not staged.rows:
        raise InputError(
            f"no item has an embedding of model {model.fingerprint}: run embed_texts with the same --model first"
        )
    provenance, run_date = inputs.recorded_in(provenance), history.run_date if history else None
    report = publish_audited(run, key, staged, provenance, options, scope="all", run_date=run_date)
    report |= {"items_without_vector": run.lake.rows(ITEMS) - report["tables"][ITEM_VECTORS.name]}
    if cuts:
        report |= {"price_cuts": cuts.name, "price_cuts_fitted_on": cuts.prices}
    return report | ({"whitening": fit.transform.name, "whitening_fitted_on": fit.items} if fit else {})


def _provenance(
    inputs: InputVersions, options: BlockOptions, model: ModelSpec, history: HistoryOptions | None
) -> Provenance:
    settings = _event_settings(options, history) | {"model": model.fingerprint}
    if options.whitening is not None:
        settings |= options.model_dump(include={"whitening", "refit_share", "refit_whitening"})
    if options.price_weight:
        settings |= options.model_dump(include={"refit_share", "refit_prices"})
    return Provenance.of(inputs=inputs.content_ids, feature_blocks=options.blocks.settings, **settings)


def _whitening(run: Run, options: BlockOptions, model: ModelSpec, texts: DataFrame, content_id: str) -> Fit | None:
    if options.whitening is None:
        return None
    shrink, share, force = options.whitening, options.refit_share, options.refit_whitening
    return fitted_whitening(run, model.fingerprint, texts, content_id, shrink=shrink, refit_share=share, force=force)


def _event_settings(options: BlockOptions, history: HistoryOptions | None) -> dict[str, Any]:
    """The settings of a collaborative block."""
    if not options.blocks.collaborative:
        return {}
    if history is None:
        raise UsageError("--collaborative_weight needs the events before a run_date: use refresh_lake, which has one")
    weights, undated = history.undated_history
    return {"run_date": history.run_date, "weights": asdict(weights), "history": undated.settings()}
