"""items and embeddings → item_vectors."""

from dataclasses import asdict

from recsys_spark.job import Run
from recsys_spark.kernels.model_folder import ModelSpec
from recsys_spark.options import BlockOptions
from recsys_spark.steps.publishing import Report, inputs, publish, run_key, unchanged
from recsys_spark.tables import EMBEDDINGS, ITEM_VECTORS, ITEMS
from recsys_spark.vectors import build_item_vectors


def item_vectors(run: Run, options: BlockOptions, model: ModelSpec) -> Report:
    """Publish the vectors of all items whose text ``model`` has embedded."""
    known = inputs(run, ITEMS, EMBEDDINGS)
    facts = {"inputs": known.states, "model": model.fingerprint, "blocks": asdict(options.blocks)}
    key = run_key("build_item_vectors", facts)
    if (done := unchanged(run, key, ITEM_VECTORS)) is not None or options.dry_run:
        return done or {"tables": {}}
    vectors = build_item_vectors(
        known.frame(run, ITEMS), known.frame(run, EMBEDDINGS), model.fingerprint, options.blocks
    )
    absent = f"no item has an embedding of model {model.fingerprint}: run embed_texts with the same --model first"
    report = publish(run, key, vectors, ITEM_VECTORS, facts, if_empty=absent)
    return report | {"items_without_vector": run.lake.rows(ITEMS) - report["tables"][ITEM_VECTORS.name]}
