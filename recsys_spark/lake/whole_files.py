"""Small files that are there whole or not at all."""

import os
import uuid

from pyarrow.fs import FileSystem, LocalFileSystem


def write_whole(filesystem: FileSystem, path: str, content: bytes) -> None:
    """Write a file in one step, over one that may be there. Object stores show a file when it is complete; elsewhere
    it gets its name then."""
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
