"""A model folder of one's own: an encoder tuned on scores (regression) or histories (contrastive)."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.fine_tune_encoder import fine_tune_encoder

JOB = Job(__file__, __doc__, TuningOptions, fine_tune_encoder, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
