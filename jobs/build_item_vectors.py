"""Build item vectors: text embedding, category, brand and price as feature blocks side by side."""

from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.items.options import VectorOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Job, Run, main


def step(run: Run, options: VectorOptions) -> Report:
    """Build the vectors of all items that the configured encoder has embedded."""
    return build_item_vectors(run, options, resolve_model(options, run))


JOB = Job(__file__, __doc__, VectorOptions, step)

if __name__ == "__main__":
    main(JOB)
