"""The secret key of a lake for the hashes of forgotten ids. It is created once, next to the tables."""

import secrets

import pyarrow as pa
from pyarrow.fs import FileSystem, FileType

from recsys_spark.errors import InputError, RetryError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.conditional_writes import create_once

NAME = "_forgotten.key"

_BYTES = 32


def lake_key(lake: str, *, make: bool = False) -> bytes | None:
    """The key of the lake at this URI; None if it has none. ``make``: create the key if there is none; two runs that do
    so at once get the same key.

    Raises:
        InputError: the file cannot be read or written, or does not hold a key.
        RetryError: the store does not answer.
    """
    uri = f"{lake}/{NAME}"
    try:
        content = _content(uri)
        if content is None and make:
            content = create_once(uri, secrets.token_hex(_BYTES).encode())
    except (OSError, pa.ArrowException) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"key of the forgotten {uri} cannot be read or written: {one_line(error)}") from error
    if content is None:
        return None
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise InputError(f"key of the forgotten {uri} is not {2 * _BYTES} hexadecimal digits: restore the file")
    return key


def _content(uri: str) -> bytes | None:
    filesystem, path = FileSystem.from_uri(uri)
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    with filesystem.open_input_file(path) as stream:
        return bytes(stream.read()).strip()
