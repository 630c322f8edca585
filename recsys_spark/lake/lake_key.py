"""The secret of a lake under which the ids of the forgotten are hashed: made once, beside the tables."""

import secrets

import pyarrow as pa
from pyarrow.fs import FileSystem, FileType

from recsys_spark.errors import InputError, RetryError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.conditional_writes import kept_once

NAME = "_forgotten.key"

_BYTES = 32


def lake_key(lake: str, *, make: bool = False) -> bytes | None:
    """The key of the lake at this URI; None where there is none yet. ``make``: then one is made, and of two runs that
    do so at once both get the same.

    Raises:
        InputError: the file cannot be read or written, or holds no key.
        RetryError: the store does not answer.
    """
    uri = f"{lake}/{NAME}"
    try:
        found = _content(uri)
        if found is None and make:
            found = kept_once(uri, secrets.token_hex(_BYTES).encode())
    except (OSError, pa.ArrowException) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"key of the forgotten {uri} cannot be read or written: {one_line(error)}") from error
    if found is None:
        return None
    try:
        key = bytes.fromhex(found.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise InputError(f"key of the forgotten {uri} is not {2 * _BYTES} hexadecimal digits: bring the file back")
    return key


def _content(uri: str) -> bytes | None:
    filesystem, path = FileSystem.from_uri(uri)
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    with filesystem.open_input_file(path) as stream:
        return bytes(stream.read()).strip()
