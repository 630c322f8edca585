"""Run the demo on real data: MovieLens 100K and MiniLM, from raw files to recommendations that a person can read."""

from recsys_spark.demo.steps.demo import DemoOptions, demo
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, DemoOptions, demo, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
