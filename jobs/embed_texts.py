"""Embed the distinct texts of items and users that the model has not embedded yet."""

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.runtime.lifecycle import Job, main

JOB = Job(__file__, __doc__, EncoderOptions, embed_texts)

if __name__ == "__main__":
    main(JOB)
