"""Recommendations: the Top-K join of profiles (cosine) or histories (hybrid) with items, without seen items."""

from recsys_spark.recommend.options import RecommendOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, RecommendOptions, recommend_items)

if __name__ == "__main__":
    main(JOB)
