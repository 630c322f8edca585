"""Errors of Spark, Arrow, Delta and the stores in plain words: what a user or operator can act on becomes a
RecsysError, the rest stays a bug."""

import re
from urllib.parse import unquote

from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError
from pyarrow import ArrowException
from pyspark.errors import PySparkException

from recsys_spark.errors import ConflictError, InputError, QualityError, RecsysError, RetryError, UsageError
from recsys_spark.errors.kinds import FULL, FULL_DISK, INTERNAL, KINDS, MEMORY, PASSING, REFUSED

_MARK = re.compile(r"recsys_spark\.errors\.(UsageError|QualityError|InputError|ConflictError|RetryError): (.+)")

_RAISED: dict[str, type[RecsysError]] = {
    kind.__name__: kind for kind in (UsageError, QualityError, InputError, ConflictError, RetryError)
}

_DRAWN = re.compile(r"\x1b\[[0-9;]*m|[↳├└│─]|^ *\d+: [\w<>:]+$", re.MULTILINE)

_FRAME = re.compile(
    r"\s+at [\w.$/]|\s*\.\.\. \d+ (more|common)|Traceback |Driver stacktrace:|\s+File \"|\s{4,}\S|\s*[~^-]*\^+\s*$"
)

_NAMED = re.compile(r"(Caused by: |: )|[\w.$]+(Error|Exception)\b")

_CLASS = re.compile(r"^(Caused by: |: )?((?:[\w$]+\.)+[\w$]+(?:Exception|Error): )*")

_TASK = re.compile(r"^Job aborted due to stage failure: .*? executor [^()]*\): (?:(?:[\w$]+\.)+[\w$]+: )*")

_OF_FILE = re.compile(r"\[(?P<condition>[\w.]*READ_FILE[\w.]*)\].*? file (?P<file>\S.*?)\.(?: +(?P<more>[A-Z].*))?$")

_END = re.compile(
    r" ?SQLSTATE| ?== SQL| CSV file: | Verify the spelling| Unquoted identifiers| Make sure the provider| Please refer"
)
"""Where the general advice begins."""

_LONGEST = 600


def is_transient(error: BaseException | str) -> bool:
    """Whether a store, a disk or the network has failed in a way that passes by itself."""
    text = str(error)
    return bool(PASSING.search(text)) and not REFUSED.search(text) and not INTERNAL.search(text)


def one_line(error: BaseException) -> str:
    """What a store says, without the colours and the branches that some draw."""
    words = " ".join(_DRAWN.sub(" ", str(error)).split())
    return f"{FULL} ({words})" if FULL_DISK.search(words) else words


def to_user_error(error: BaseException) -> RecsysError | None:
    """The error as people should see it, or None for a bug."""
    if isinstance(error, MemoryError):
        return _classified([f"MemoryError: {error}"])
    if isinstance(error, OSError | DeltaError | ArrowException):
        return _classified([" ".join(_DRAWN.sub(" ", str(error)).split())])
    if isinstance(error, RuntimeError) and MEMORY.search(str(error)):  # torch
        return _classified([str(error)])
    if not _is_of_spark(error):
        return None
    text = str(error)
    raised = _MARK.search(text)
    if raised:
        return _RAISED[raised[1]](raised[2])
    if re.fullmatch(r"An error occurred while calling \S+", text.strip()):  # no answer, and nothing else is said
        text = f"Answer from Java side is empty ({text.strip()})"
    return _classified(_messages(text))


def source_error(error: BaseException, source: str, path: str) -> RecsysError | None:
    """The error of reading a source of the dataset file, or None for a bug.

    Args:
        error: what was raised while Spark made or read the source: an AnalysisException, a ParseException, an
            IllegalArgumentException, a Py4JJavaError, whatever ``to_user_error`` knows.
        source: its name in the dataset file.
        path: where it lies.

    What nobody knows better is taken for a mistake in the source's format, options or schema (UsageError).
    """
    if isinstance(error, RecsysError):
        return error
    known = to_user_error(error) or _mistake(error)
    return None if known is None else type(known)(f"source '{source}' ({path}): {known}")


def sql_error(error: BaseException, place: str) -> RecsysError | None:
    """The error of an expression of the dataset file at ``place`` ("table 'items'"), or None for a bug."""
    known = _mistake(error) if isinstance(error, PySparkException) else to_user_error(error)
    return None if known is None else type(known)(f"dataset file, {place}: {known}")


def _mistake(error: BaseException) -> UsageError | None:
    if not _is_of_spark(error) or INTERNAL.search(str(error)):
        return None
    return UsageError(_sentence(_deepest(_messages(str(error)))))


def _is_of_spark(error: BaseException) -> bool:
    return isinstance(error, PySparkException | Py4JError)


def _classified(messages: list[str]) -> RecsysError | None:
    text = "\n".join(messages)
    if INTERNAL.search(text):
        return None
    for pattern, kind, meaning in KINDS:
        if pattern.search(text):
            told = next((message for message in messages if pattern.search(message)), messages[0])
            said = _with_file(told, messages)
            return kind(f"{meaning} ({said})" if kind is RetryError else f"{meaning}: {said}")
    return None


def _messages(text: str) -> list[str]:
    """The messages of an error and of its causes, the outermost first, without stack frames and query plans."""
    found = [""]
    for line in text.splitlines():
        if not line.strip() or _FRAME.match(line):
            continue
        if _NAMED.match(line):
            found.append("")
        found[-1] = f"{found[-1]} {line.strip()}".strip()
    return [message for message in found if message] or [text.strip()]


def _deepest(messages: list[str]) -> str:
    """Of a chain of causes the one that says why."""
    return next((message for message in reversed(messages) if _sentence(message)), messages[-1])


def _with_file(message: str, messages: list[str]) -> str:
    """What a message says; of one about a file, the file's name and the cause."""
    of_file = next((found for one in messages if (found := _OF_FILE.search(_sentence(one)))), None)
    if of_file is None:
        return _sentence(message)
    file, said = unquote(re.sub(r"^file:/+", "/", of_file["file"])), _sentence(message)
    if "READ_FILE" in said:
        cause = _sentence(_deepest(messages))
        said = of_file["more"] if "MISMATCH" in of_file["condition"] or "READ_FILE" in cause else cause
    return f"{file}: {said}" if said else file


def _sentence(message: str) -> str:
    words = _TASK.sub("", _CLASS.sub("", message))
    words = re.sub(r"^An error occurred while calling [\w:.]+\.( :)? ?", "", words)
    return _END.split(words)[0].strip()[:_LONGEST]
