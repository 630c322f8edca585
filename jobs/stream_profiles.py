"""Between two nights: bring profiles and lists up to date by events as they arrive."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.stream.options import StreamOptions
from recsys_spark.stream.steps.stream_profiles import stream_profiles

JOB = Job(__file__, __doc__, StreamOptions, stream_profiles)

if __name__ == "__main__":
    main(JOB)
