"""``python -m recsys_spark JOB …``: the same as the command ``recsys-spark``."""

from recsys_spark.start.command import main

if __name__ == "__main__":
    main()
