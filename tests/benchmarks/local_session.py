"""The session of benchmarks that call steps in their own process: that of the shipped profile ``local``."""

from pathlib import Path

from pyspark.sql import SparkSession


def local_session() -> SparkSession:
    """Start it, with the settings of ``conf/spark-local.conf``."""
    text = (Path(__file__).parents[2] / "conf" / "spark-local.conf").read_text(encoding="utf-8")
    settings = dict(line.split(None, 1) for line in text.splitlines() if line.startswith("spark."))
    session: SparkSession = SparkSession.builder.config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
