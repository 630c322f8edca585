"""Group users with similar profiles into named segments that keep their ids."""

from recsys_spark.runtime.lifecycle import Job, main
from recsys_spark.segments.options import SegmentOptions
from recsys_spark.segments.steps.segment_users import segment_users

JOB = Job(__file__, __doc__, SegmentOptions, segment_users)

if __name__ == "__main__":
    main(JOB)
