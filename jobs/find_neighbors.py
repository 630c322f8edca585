"""Find similar items: the items of greatest cosine for every item."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.topk.options import NeighborOptions
from recsys_spark.topk.steps.find_neighbors import find_neighbors

JOB = Job(__file__, __doc__, NeighborOptions, find_neighbors)

if __name__ == "__main__":
    main(JOB)
