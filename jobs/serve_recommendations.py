"""Serve exported lists and item neighbours over HTTP, read-only, until it is stopped."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.serve.options import ServeOptions
from recsys_spark.serve.steps.serve_recommendations import serve_recommendations

JOB = Job(__file__, __doc__, ServeOptions, serve_recommendations, shows_own_steps=True, without_spark=True)

if __name__ == "__main__":
    main(JOB)
