"""The way in: the command ``recsys-spark``, the environment of a job's process, jobs in a session that is there."""

from recsys_spark.start.here import run_job

__all__ = ["run_job"]
