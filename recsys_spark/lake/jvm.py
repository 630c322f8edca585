"""Calls into Spark's JVM, for functions that PySpark's public API lacks. No other file makes such calls.

With Spark Connect there is no JVM, and these functions fail.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def has_class(session: "SparkSession", name: str) -> bool:
    """Whether a Java class can be loaded, such as that of a connector."""
    from py4j.protocol import Py4JJavaError

    assert session._jvm is not None
    try:
        session._jvm.java.lang.Class.forName(name)
    except Py4JJavaError:
        return False
    return True


def read_head(session: "SparkSession", path: str, number: int) -> bytes:
    """The first bytes of a file on a file system that only Hadoop has a client for.

    Raises:
        OSError: the file cannot be read.
    """
    from py4j.protocol import Py4JJavaError

    filesystem, where = _filesystem(session, path)
    try:
        stream = filesystem().open(where)
        try:
            return bytes(stream.readNBytes(number))
        finally:
            stream.close()
    except Py4JJavaError as error:
        raise OSError(str(error.java_exception)) from error


def list_files(session: "SparkSession", path: str) -> Iterator[tuple[str, int, int]]:
    """Path, size and modification time (ms) of every file below ``path``; none if it does not exist.

    Raises:
        OSError: the folder cannot be listed.
    """
    from py4j.protocol import Py4JJavaError

    open_filesystem, where = _filesystem(session, path)
    try:
        filesystem = open_filesystem()
        if not filesystem.exists(where):
            return
        root, files = filesystem.getFileStatus(where).getPath().toString(), filesystem.listFiles(where, True)
        while files.hasNext():
            file = files.next()
            yield path + file.getPath().toString().removeprefix(root), file.getLen(), file.getModificationTime()
    except Py4JJavaError as error:
        raise OSError(str(error.java_exception)) from error


def analyzed_plan(frame: "DataFrame") -> Any:
    """Catalyst's analyzed plan: names are resolved, nothing is optimized."""
    return frame._jdf.queryExecution().analyzed()


def elements(sequence: Any) -> Iterator[Any]:
    """The elements of a Scala sequence."""
    return (sequence.apply(number) for number in range(sequence.size()))


def _filesystem(session: "SparkSession", path: str) -> tuple[Any, Any]:
    assert session._jvm is not None
    where = session._jvm.org.apache.hadoop.fs.Path(path)
    return lambda: where.getFileSystem(session._jsc.hadoopConfiguration()), where
