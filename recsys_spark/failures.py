"""Spark's errors in plain words: what a user or operator caused becomes a RecsysError, the rest stays a bug."""

import re

from pyspark.errors import PySparkException

from recsys_spark.errors import InputError, QualityError, RecsysError, RetryError, UsageError

_MARK = re.compile(r"recsys_spark\.errors\.(UsageError|QualityError|InputError|RetryError): (.+)")
_KINDS: dict[str, type[RecsysError]] = {
    "UsageError": UsageError,
    "QualityError": QualityError,
    "InputError": InputError,
    "RetryError": RetryError,
}
_PHRASES: list[tuple[str, type[RecsysError], str]] = [
    (r"PATH_NOT_FOUND", InputError, "an input path does not exist"),
    (r"FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|CRC|checksum", InputError, "an input file is unreadable or damaged"),
    (r"TaskResourceProfiles are only supported|No executor resource configs were specified", UsageError,
     "gpu_share needs a cluster whose executors have GPUs (SPARK_PROFILE=gpu)"),
    (r"No space left on device", RetryError, "the disk is full: make room, then run the same command again"),
    (r"CAST_INVALID_INPUT|CANNOT_PARSE_TIMESTAMP|NUMERIC_VALUE_OUT_OF_RANGE|DIVIDE_BY_ZERO", QualityError,
     "a value does not fit an expression of the dataset file; use try_cast, try_to_timestamp or try_divide there, "
     "so that the row is quarantined"),
    (r"MemoryError|Unable to allocate", UsageError,
     "a Python worker ran out of memory: give executors more (spark.executor.memoryOverhead, or where it is set "
     "spark.executor.pyspark.memory), or lower user_block_rows, item_block_rows or batch_tokens"),
    (r"No module named|ModuleNotFoundError", UsageError,
     "the executors' Python lacks a module: set RECSYS_PYTHON to one that has the requirements"),
]  # fmt: skip


def readable(error: BaseException) -> RecsysError | None:
    """The error as people should see it, or None for a bug."""
    if isinstance(error, OSError) and "No space left" in str(error):
        return RetryError(f"the disk is full: make room, then run the same command again ({error})")
    if not isinstance(error, PySparkException) and not type(error).__module__.startswith("py4j"):
        return None
    text = str(error)
    raised = _MARK.search(text)
    if raised:
        return _KINDS[raised[1]](raised[2])
    for pattern, kind, meaning in _PHRASES:
        if re.search(pattern, text):
            return kind(f"{meaning}: {_essence(text, pattern)}")
    return None


def _essence(text: str, pattern: str) -> str:
    line = next((line for line in text.splitlines() if re.search(pattern, line)), text.splitlines()[0])
    return line.strip()[:400]
