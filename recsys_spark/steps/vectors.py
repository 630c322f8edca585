"""items and embeddings → item_vectors, with the whitening and the price cuts that they are made by."""

from dataclasses import asdict

from recsys_spark.errors import InputError
from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import ModelSpec
from recsys_spark.options import BlockOptions
from recsys_spark.steps.audit import publish_audited
from recsys_spark.steps.prices import fitted_cuts
from recsys_spark.steps.publishing import Report, inputs, run_key, unchanged
from recsys_spark.steps.whitening import fitted
from recsys_spark.tables import EMBEDDINGS, ITEM_VECTORS, ITEMS
from recsys_spark.vectors import build_item_vectors, item_embeddings


def item_vectors(run: Run, options: BlockOptions, model: ModelSpec, *, anew: bool = False) -> Report:
    """Publish the vectors of all items whose text ``model`` has embedded; ``anew``: although they are there."""
    known = inputs(run, ITEMS, EMBEDDINGS)
    facts = {"inputs": known.states, "model": model.fingerprint, "blocks": asdict(options.blocks)}
    if options.whitening is not None:
        facts |= options.model_dump(include={"whitening", "refit_share", "refit_whitening"})
    if options.price_weight:
        facts |= options.model_dump(include={"refit_share", "refit_prices"})
    key = run_key("build_item_vectors", facts)
    if (done := unchanged(run, key, ITEM_VECTORS)) is not None and not anew:
        return done
    if options.dry_run:
        return {"tables": {}}
    items, embeddings = known.frame(run, ITEMS), known.frame(run, EMBEDDINGS)
    texts = item_embeddings(items, embeddings, model.fingerprint)
    fit = fitted(run, options, model.fingerprint, texts, str(known.states))
    transform = fit.transform if fit else None
    cuts = fitted_cuts(run, options, items, str(known.states))
    named = (cuts.name, cuts.rows) if cuts else None
    vectors = build_item_vectors(items, embeddings, model.fingerprint, options.blocks, transform, named)
    absent = f"no item has an embedding of model {model.fingerprint}: run embed_texts with the same --model first"
    staged = run.lake.stage(vectors, ITEM_VECTORS)
    if not staged.rows:
        raise InputError(absent)
    report = publish_audited(run, key, staged, known.described(facts), options, made="all")
    report |= {"items_without_vector": run.lake.rows(ITEMS) - report["tables"][ITEM_VECTORS.name]}
    if cuts:
        report |= {"price_cuts": cuts.name, "price_cuts_fitted_on": cuts.prices}
    return report | ({"whitening": fit.transform.name, "whitening_fitted_on": fit.items} if fit else {})
