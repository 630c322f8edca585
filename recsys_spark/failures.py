"""Spark's errors in plain words: what a user or operator caused becomes a RecsysError, the rest stays a bug."""

import re

from deltalake.exceptions import DeltaError
from pyarrow import ArrowException
from pyspark.errors import PySparkException

from recsys_spark.errors import ConflictError, InputError, QualityError, RecsysError, RetryError, UsageError

_MARK = re.compile(r"recsys_spark\.errors\.(UsageError|QualityError|InputError|RetryError): (.+)")
_KINDS: dict[str, type[RecsysError]] = {
    "UsageError": UsageError,
    "QualityError": QualityError,
    "InputError": InputError,
    "RetryError": RetryError,
}
_FULL = "the disk is full: make room, then run the same command again"
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|[↳├└│─]")
_PHRASES: list[tuple[str, type[RecsysError], str]] = [
    (r"PATH_NOT_FOUND", InputError, "an input path does not exist"),
    (r"FileNotFoundError.*_blocks/", ConflictError,
     "vacuum_lake or forget_users removed the item blocks that this run was reading; run again"),
    (r"FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|CRC|checksum", InputError, "an input file is unreadable or damaged"),
    (r"TaskResourceProfiles are only supported|No executor resource configs were specified", UsageError,
     "gpu_share needs a cluster whose executors have GPUs (SPARK_PROFILE=gpu)"),
    (r"No space left on device", RetryError, _FULL),
    (r"CAST_INVALID_INPUT|CANNOT_PARSE_TIMESTAMP|NUMERIC_VALUE_OUT_OF_RANGE|DIVIDE_BY_ZERO", QualityError,
     "a value does not fit an expression of the dataset file; use try_cast, try_to_timestamp or try_divide there, "
     "so that the row is quarantined"),
    (r"MemoryError|Unable to allocate", UsageError,
     "a Python worker ran out of memory: give executors more (spark.executor.memoryOverhead, or where it is set "
     "spark.executor.pyspark.memory), or lower user_block_rows, item_block_rows or batch_tokens"),
    (r"No module named|ModuleNotFoundError", UsageError,
     "the executors' Python lacks a module: set RECSYS_PYTHON to one that has the requirements"),
]  # fmt: skip
_PASSING = re.compile(
    r"No space left on device|error sending request|connection (refused|reset|closed|aborted|error)"
    r"|NETWORK_CONNECTION|couldn't (connect|resolve host)|timed out|TimeoutException|timeout was reached"
    r"|SLOW_?DOWN|slow down|reduce your request rate|THROTTL|TOO_?MANY_?REQUESTS|SERVICE[_ ]?UNAVAILABLE"
    r"|INTERNAL_(FAILURE|ERROR)|internal server error|bad gateway|(status|status code|HTTP)[: (]*(429|50[0234])\b"
    r"|NoRouteToHost|UnknownHostException|Unable to execute HTTP request",
    re.IGNORECASE,
)
"""What stores, their clients and the JVM say while something is down, and may not say tomorrow."""

_NAMED = re.compile(r"\s*(Caused by: )?[\w.]*(Error|Exception)\b")
_DOWN = "a store or the network has failed for now: run the same command again later"


def passing(error: BaseException | str) -> bool:
    """Whether a store, a disk or the network has failed in a way that passes."""
    return bool(_PASSING.search(str(error)))


def in_a_line(error: BaseException) -> str:
    """What a store says, without the colours and the branches that some draw."""
    words = " ".join(_DRAWN.sub(" ", str(error)).split())
    return f"{_FULL} ({words})" if "No space left" in words else words


def readable(error: BaseException) -> RecsysError | None:
    """The error as people should see it, or None for a bug."""
    if isinstance(error, OSError | DeltaError | ArrowException):
        if "No space left" in str(error):
            return RetryError(in_a_line(error))
        return RetryError(f"{_DOWN} ({_essence(str(error), _PASSING)})") if passing(error) else None
    if not isinstance(error, PySparkException) and not type(error).__module__.startswith("py4j"):
        return None
    text = str(error)
    raised = _MARK.search(text)
    if raised:
        return _KINDS[raised[1]](raised[2])
    for pattern, kind, meaning in _PHRASES:
        if re.search(pattern, text):
            return kind(f"{meaning}: {_essence(text, pattern)}")
    told = next((line for line in text.splitlines() if _NAMED.match(line) and passing(line)), None)
    return RetryError(f"{_DOWN} ({told.strip()[:400]})") if told else None


def _essence(text: str, pattern: str | re.Pattern[str]) -> str:
    line = next((line for line in text.splitlines() if re.search(pattern, line)), "".join(text.splitlines()[:1]))
    return line.strip()[:400]
