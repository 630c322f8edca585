"""Atomic writes of small files."""

import os
import uuid

from pyarrow.fs import FileSystem, LocalFileSystem


def write_whole(filesystem: FileSystem, path: str, content: bytes) -> None:
    """Write or replace a file atomically. Object stores show a file once it is complete; on a local disk a
    complete draft is renamed."""
    draft = path if not isinstance(filesystem, LocalFileSystem) else f"{path}.{uuid.uuid4().hex}.draft"
    try:
        with filesystem.open_output_stream(draft) as stream:
            stream.write(content)
        if draft != path:
            os.replace(draft, path)
    except BaseException:
        if draft != path and os.path.exists(draft):
            os.remove(draft)
        raise
