"""Convert paths as users write them to the forms that Spark, pyarrow and deltalake take."""

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
    """The path in one form for every process: local paths absolute and without ``file://``, other URIs unchanged.

    Raises:
        UsageError: the URI holds a password or a signature, which logs and commits would show.
    """
    if re.match(r"file:/", path):
        return absolute(unquote(re.sub(r"^file:(//[^/]*(?=/))?", "", path)))
    if not is_uri(path):
        return str(_expanded(path).absolute())
    if (safe := redacted(path)) != path:
        raise UsageError(
            f"{safe} holds a secret; leave it out of the path: give credentials in the environment "
            "(AWS_ACCESS_KEY_ID, ...) or as Spark settings (-- --conf spark.hadoop...)"
        )
    return path.rstrip("/")


def lake_path(path: str) -> str:
    """The path of a lake as by ``absolute``.

    Raises:
        UsageError: the path has a character that Spark, pyarrow or deltalake cannot read in the path of a table.
    """
    uri = absolute(path)
    unusable = (_UNUSABLE_IN_URIS if is_uri(uri) else _UNUSABLE).search(uri)
    if unusable:
        raise UsageError(f"lake {uri!r}: a lake's path cannot hold the character {unusable[0]!r}; give it another name")
    glob = _GLOB.search(uri)
    if glob and ":" in uri and not is_uri(uri):
        raise UsageError(
            f"lake {uri!r}: a lake's path cannot hold the character {glob[0]!r} together with ':'; give it another name"
        )
    return uri


def spark_path(path: str) -> str:
    """The path of one file or folder for Spark's readers: characters of glob patterns are escaped. Hadoop refuses an
    escaped path that also has a colon.

    Spark's option ``__globPaths__`` is no alternative: it repeats every row once for each path.
    """
    return _GLOB.sub(lambda match: "\\" + match[0], path)


def is_pattern(path: str) -> bool:
    """Whether Spark reads the path as a glob pattern. Escaped characters (``\\[``) do not count."""
    return bool(_PATTERN.search(re.sub(r"\\.", "", path)))


def delta_uri(path: str) -> str:
    """The path for deltalake: a URI, since deltalake decodes plain paths and fails at brackets in them."""
    return path if is_uri(path) else Path(path).as_uri()


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no user of that name: the folder's name begins with ~
        return Path(path)
