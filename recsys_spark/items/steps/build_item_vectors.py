"""items and embeddings → item_vectors, with the whitening and the price cuts that they are made by."""

from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.errors import InputError, UsageError
from recsys_spark.events.options import HistoryOptions
from recsys_spark.events.weights import weigh_pairs
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.price_quantiles import fitted_quantiles
from recsys_spark.items.steps.whitening import Fit, fitted
from recsys_spark.items.vectors import item_embeddings, item_vector_rows, items_with_users
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.audit import publish_audited
from recsys_spark.publish.steps.publishing import Report, pin_inputs, run_key, unchanged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEM_VECTORS, ITEMS


def build_item_vectors(run: Run, options: BlockOptions, model: ModelSpec, *, anew: bool = False) -> Report:
    """Publish the vectors of all items whose text ``model`` has embedded; ``anew``: although they are there."""
    inputs = pin_inputs(run, ITEMS, EMBEDDINGS, *([EVENTS] if options.blocks.collaborative else []))
    settings: dict[str, Any] = {"model": model.fingerprint}
    if options.whitening is not None:
        settings |= options.model_dump(include={"whitening", "refit_share", "refit_whitening"})
    if options.price_weight:
        settings |= options.model_dump(include={"refit_share", "refit_prices"})
    blocks = options.blocks.settings
    settings |= _event_settings(options)
    provenance = Provenance.of(inputs=inputs.content_ids, feature_blocks=blocks, **settings)
    key = run_key("build_item_vectors", provenance)
    if (done := unchanged(run, key, ITEM_VECTORS)) is not None and not anew:
        return done
    if options.dry_run:
        return {"tables": {}}
    items, embeddings = inputs.frame(run, ITEMS), inputs.frame(run, EMBEDDINGS)
    cuts = fitted_quantiles(run, options, items, str(inputs.content_ids))
    if isinstance(options, HistoryOptions) and options.blocks.collaborative:
        pairs = weigh_pairs(inputs.frame(run, EVENTS), options.run_date, *options.undated_history)
        items = items_with_users(items, pairs.where("weight > 0").select("user_id", "item_id"))
    texts = item_embeddings(items, embeddings, model.fingerprint)
    fit = _whitening(run, options, model, texts, str(inputs.content_ids))
    transform = fit.transform if fit else None
    named = (cuts.name, cuts.rows) if cuts else None
    vectors = item_vector_rows(items, embeddings, model.fingerprint, options.blocks, transform, named)
    staged = run.lake.stage(vectors, ITEM_VECTORS)
    if not staged.rows:
        raise InputError(
            f"no item has an embedding of model {model.fingerprint}: run embed_texts with the same --model first"
        )
    report = publish_audited(run, key, staged, inputs.recorded_in(provenance), options, made="all")
    report |= {"items_without_vector": run.lake.rows(ITEMS) - report["tables"][ITEM_VECTORS.name]}
    if cuts:
        report |= {"price_cuts": cuts.name, "price_cuts_fitted_on": cuts.prices}
    return report | ({"whitening": fit.transform.name, "whitening_fitted_on": fit.items} if fit else {})


def _whitening(run: Run, options: BlockOptions, model: ModelSpec, texts: DataFrame, state: str) -> Fit | None:
    if options.whitening is None:
        return None
    shrink, share, again = options.whitening, options.refit_share, options.refit_whitening
    return fitted(run, model.fingerprint, texts, state, shrink=shrink, refit_share=share, again=again)


def _event_settings(options: BlockOptions) -> dict[str, Any]:
    """What a collaborative block depends on beside the tables."""
    if not options.blocks.collaborative:
        return {}
    if not isinstance(options, HistoryOptions):
        raise UsageError(
            "--collaborative_weight looks at the events before a run_date: use refresh_lake, which has one"
        )
    weights, history = options.undated_history
    return {"run_date": options.run_date, "weights": asdict(weights), "history": asdict(history)}
