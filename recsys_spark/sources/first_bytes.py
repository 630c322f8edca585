"""Read the beginning of a file on the local disk, on a store that Arrow knows, or on any file system of Spark."""

import bz2
import zlib
from collections.abc import Callable
from urllib.parse import urlparse

import pyarrow as pa
from pyarrow.fs import FileSystem, LocalFileSystem
from pyspark.sql import SparkSession

from recsys_spark.lake.jvm import read_head

_HEAD = 16_384
"""Bytes of text to inspect: a header row and some rows."""

_PACKED = 1_048_576
"""Bytes to read of a file whose codec works on whole blocks (900 kB in bzip2)."""


def first_bytes(path: str, number: int, session: Callable[[], SparkSession]) -> bytes:
    """At most ``number`` bytes from the beginning of a file."""
    try:
        local = not urlparse(path).scheme
        filesystem, inner = (LocalFileSystem(), path) if local else FileSystem.from_uri(path)
    except pa.ArrowInvalid:
        return read_head(session(), path, number)
    with filesystem.open_input_file(inner) as stream:
        return bytes(stream.read(number))


def first_text(path: str, session: Callable[[], SparkSession]) -> tuple[bytes, bytes | None]:
    """The beginning of a text file from one read: as stored, and uncompressed. The end of the name decides the codec,
    as in Spark. The second value is None if the codec is not available here."""
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    head = first_bytes(path, _PACKED if ending in ("bz2", "zst") else _HEAD, session)
    if ending in ("snappy", "lz4"):
        return head, None
    try:
        return head, _unpacked(head, ending)
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException):
        return head, None  # damaged, or not of the codec in its name: reading it will fail and name the file


def is_whole(path: str, size: int, head: bytes) -> bool:
    """Whether ``head`` is the whole content of a file of ``size`` bytes. False for a compressed file that fills it."""
    return len(head) < _HEAD or (size == len(head) and not path.endswith((".gz", ".bz2", ".zst", ".deflate")))


def _unpacked(head: bytes, ending: str) -> bytes:
    if ending in ("gz", "deflate"):
        return zlib.decompressobj(31 if ending == "gz" else 15).decompress(head, _HEAD)
    if ending == "bz2":
        return bz2.BZ2Decompressor().decompress(head, _HEAD)
    if ending == "zst":
        with pa.CompressedInputStream(pa.BufferReader(head), "zstd") as stream:
            return bytes(stream.read(_HEAD))
    return head
