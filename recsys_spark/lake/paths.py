"""Paths as users write them, in the forms that Spark, pyarrow and deltalake want."""

import re
from pathlib import Path
from urllib.parse import unquote

from recsys_spark.errors import UsageError
from recsys_spark.errors.redaction import redacted

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

_GLOB = re.compile(r"[*?\[\]{}\\]")

_PATTERN = re.compile(r"[*?\[{]")

# deltalake decodes %20 twice on its way to a file, and would read and write in another folder.
_UNUSABLE = re.compile(r"[\\\x00-\x1f\x7f]|%(?=[0-9A-Fa-f]{2})")

_UNUSABLE_IN_URIS = re.compile(r"[^\w\-.~/:@!$&'()+,;=]", re.ASCII)


def is_uri(path: str) -> bool:
    """Whether the path names its file system (``s3://``, ``hdfs://``, ``file:/``)."""
    return bool(_URI.match(path))


def absolute(path: str) -> str:
    """The path in one form for every process: local paths absolute and without ``file://``, other URIs as they are.

    Raises:
        UsageError: the URI holds a password or a signature, which would be written wherever the path is.
    """
    if re.match(r"file:/", path):
        return absolute(unquote(re.sub(r"^file:(//[^/]*(?=/))?", "", path)))
    if not is_uri(path):
        return str(_expanded(path).absolute())
    if (shown := redacted(path)) != path:
        raise UsageError(
            f"{shown} holds a secret; leave it out of the path: give credentials in the environment "
            "(AWS_ACCESS_KEY_ID, ...) or as Spark's settings (-- --conf spark.hadoop...)"
        )
    return path.rstrip("/")


def lake_path(path: str) -> str:
    """``absolute`` of a lake.

    Raises:
        UsageError: the path has a character that one of the libraries cannot name a table with.
    """
    uri = absolute(path)
    unusable = (_UNUSABLE_IN_URIS if is_uri(uri) else _UNUSABLE).search(uri)
    if unusable:
        raise UsageError(f"lake {uri!r}: a lake's path cannot hold the character {unusable[0]!r}; give it another name")
    mark = _GLOB.search(uri)
    if mark and ":" in uri and not is_uri(uri):
        raise UsageError(
            f"lake {uri!r}: a lake's path cannot hold the character {mark[0]!r} beside ':'; give it another name"
        )
    return uri


def spark_path(path: str) -> str:
    """The path of one file or folder as Spark reads it: characters of patterns stand for themselves. Hadoop refuses an
    escaped path that also has a colon.

    The other way, Spark's option ``__globPaths__``, gives every row as often as there are paths.
    """
    return _GLOB.sub(lambda found: "\\" + found[0], path)


def is_pattern(path: str) -> bool:
    """Whether Spark would take the path for a pattern of many; one that is escaped (``\\[``) is none."""
    return bool(_PATTERN.search(re.sub(r"\\.", "", path)))


def delta_uri(path: str) -> str:
    """The path as deltalake takes it: as a URI, since it decodes plain paths and stumbles over brackets in them."""
    return path if is_uri(path) else Path(path).as_uri()


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: a folder whose name begins with ~
        return Path(path)
