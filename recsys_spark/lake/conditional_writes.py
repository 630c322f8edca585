"""Conditional writes: create an object only if there is none, and check that a store can."""

from obstore import delete, get, put
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url
from pyarrow.fs import FileSystem, LocalFileSystem


def refuses_to_overwrite(uri: str) -> bool:
    """Whether a store honours ``If-None-Match``: it must refuse to create an object at ``uri`` a second time.

    Delta commits on S3 depend on it. Credentials and endpoint come from the environment. The object is removed.

    Raises:
        OSError: the store cannot be reached or written.
    """
    folder, _, name = uri.rpartition("/")
    try:
        store = from_url(folder)
        put(store, name, b"", mode="create")
        try:
            put(store, name, b"", mode="create")
        except AlreadyExistsError:
            return True
        finally:
            delete(store, name)
    except BaseError as error:
        raise OSError(str(error)) from error
    return False


def create_once(uri: str, content: bytes) -> bytes:
    """Create the object at ``uri``, whole or not at all, unless it exists. Returns the content that it holds then.

    Raises:
        OSError: the store cannot be reached or written.
    """
    folder, _, name = uri.rpartition("/")
    filesystem, path = FileSystem.from_uri(folder)
    try:
        local = isinstance(filesystem, LocalFileSystem)
        store = LocalStore(path, mkdir=True) if local else from_url(folder)
        try:
            put(store, name, content, mode="create")
        except AlreadyExistsError:
            return bytes(get(store, name).bytes())
    except BaseError as error:
        raise OSError(str(error)) from error
    return content
