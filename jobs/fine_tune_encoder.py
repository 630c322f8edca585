"""Fine-tune an encoder on scores (regression) or histories (contrastive) and publish a model folder."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.fine_tune_encoder import fine_tune_encoder

JOB = Job(__file__, __doc__, TuningOptions, fine_tune_encoder, shows_own_steps=True)

if __name__ == "__main__":
    main(JOB)
