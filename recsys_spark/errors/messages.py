"""Turn errors of Spark, Arrow, Delta and the stores into plain words.

An error that a user or operator can act on becomes a RecsysError; any other stays a bug.
"""

import re
from urllib.parse import unquote

from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JError
from pyarrow import ArrowException
from pyspark.errors import PySparkException

from recsys_spark.errors import ConflictError, InputError, QualityError, RecsysError, RetryError, UsageError
from recsys_spark.errors.kinds import FULL_DISK, FULL_DISK_MESSAGE, INTERNAL, KINDS, MEMORY, REFUSED, TRANSIENT

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
"""Where general advice of Spark begins: it is cut off."""

_LONGEST = 600


def is_transient(error: BaseException | str) -> bool:
    """Whether the error is a transient fault of a store, a disk or the network."""
    text = str(error)
    return bool(TRANSIENT.search(text)) and not REFUSED.search(text) and not INTERNAL.search(text)


def one_line(error: BaseException) -> str:
    """The message of a store on one line, without the terminal colours and tree branches that some draw."""
    words = " ".join(_DRAWN.sub(" ", str(error)).split())
    return f"{FULL_DISK_MESSAGE} ({words})" if FULL_DISK.search(words) else words


def to_user_error(error: BaseException) -> RecsysError | None:
    """The error as users should see it, or None for a bug."""
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
    if re.fullmatch(r"An error occurred while calling \S+", text.strip()):  # the JVM did not answer
        text = f"Answer from Java side is empty ({text.strip()})"
    return _classified(_messages(text))


def source_error(error: BaseException, source: str, path: str) -> RecsysError | None:
    """The error of reading a source of the dataset file, or None for a bug.

    Args:
        error: raised while Spark opened or read the source: an AnalysisException, a ParseException, an
            IllegalArgumentException, a Py4JJavaError, or anything that ``to_user_error`` knows.
        source: its name in the dataset file.
        path: its path or path pattern.

    An error of Spark that ``to_user_error`` does not know counts as a mistake in the source's format, options or
    schema (UsageError).
    """
    if isinstance(error, RecsysError):
        return error
    user_error = to_user_error(error) or _mistake(error)
    return None if user_error is None else type(user_error)(f"source '{source}' ({path}): {user_error}")


def sql_error(error: BaseException, location: str) -> RecsysError | None:
    """The error of an expression at a location of the dataset file ("table 'items'"), or None for a bug."""
    user_error = _mistake(error) if isinstance(error, PySparkException) else to_user_error(error)
    return None if user_error is None else type(user_error)(f"dataset file, {location}: {user_error}")


def sql_mistake(error: BaseException) -> UsageError | None:
    """The mistake in an expression that Spark refuses, without a location, or None for a bug."""
    return _mistake(error)


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
            message = next((one for one in messages if pattern.search(one)), messages[0])
            cause = _with_file(message, messages)
            return kind(f"{meaning} ({cause})" if kind is RetryError else f"{meaning}: {cause}")
    return None


def _messages(text: str) -> list[str]:
    """The messages of an error and of its causes, the outermost first, without stack frames and query plans."""
    messages = [""]
    for line in text.splitlines():
        if not line.strip() or _FRAME.match(line):
            continue
        if _NAMED.match(line):
            messages.append("")
        messages[-1] = f"{messages[-1]} {line.strip()}".strip()
    return [message for message in messages if message] or [text.strip()]


def _deepest(messages: list[str]) -> str:
    """The innermost cause of a chain that says anything."""
    return next((message for message in reversed(messages) if _sentence(message)), messages[-1])


def _with_file(message: str, messages: list[str]) -> str:
    """The sentence of a message; where an error of the chain is about a file, the file's name and the cause."""
    of_file = next(filter(None, (_OF_FILE.search(_sentence(one)) for one in messages)), None)
    if of_file is None:
        return _sentence(message)
    file, text = unquote(re.sub(r"^file:/+", "/", of_file["file"])), _sentence(message)
    if "READ_FILE" in text:
        cause = _sentence(_deepest(messages))
        text = of_file["more"] if "MISMATCH" in of_file["condition"] or "READ_FILE" in cause else cause
    return f"{file}: {text}" if text else file


def _sentence(message: str) -> str:
    words = _TASK.sub("", _CLASS.sub("", message))
    words = re.sub(r"^An error occurred while calling [\w:.]+\.( :)? ?", "", words)
    return _END.split(words)[0].strip()[:_LONGEST]
