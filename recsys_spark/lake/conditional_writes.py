"""What a store must be able to do before a lake may lie on it."""

from obstore import delete, get, put
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url
from pyarrow.fs import FileSystem, LocalFileSystem


def refuses_to_overwrite(uri: str) -> bool:
    """Whether a store honours ``If-None-Match``: of two objects written to ``uri`` as new ones, the second is refused.

    Delta's commits on S3 rest on that. Credentials and endpoint come from the environment. The object is removed.

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


def kept_once(uri: str, content: bytes) -> bytes:
    """What the object at ``uri`` holds: ``content``, unless somebody else was there first. It appears whole or not at
    all.

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
