"""Fit the item-item weights of the hybrid scorer on events, texts and item vectors."""

from recsys_spark.hybrid.options import FitOptions
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, FitOptions, fit_item_weights)

if __name__ == "__main__":
    main(JOB)
