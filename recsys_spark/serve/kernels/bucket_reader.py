"""Find a document in the memory-mapped Arrow file of its bucket."""

import zlib
from bisect import bisect_left

import pyarrow as pa


def bucket_of(name: bytes, buckets: int) -> int:
    """The bucket of an id: CRC-32 of its UTF-8 bytes, as ``export.documents.bucket``."""
    return zlib.crc32(name) % buckets


class BucketFile:
    """An Arrow file of one record batch, ``id, value`` (large_binary), sorted by ``id``.

    Nothing is read until it is looked up: the search touches about log2(n) ids, then one value.
    """

    def __init__(self, path: str) -> None:
        with pa.memory_map(path) as file:
            batch = pa.ipc.open_file(file).get_batch(0)  # its buffers keep the mapping
        self._rows = batch.num_rows
        (_, starts, names), (_, value_starts, values) = (batch[column].buffers() for column in ("id", "value"))
        self._starts, self._names = memoryview(starts).cast("q"), memoryview(names)
        self._value_starts, self._values = memoryview(value_starts).cast("q"), memoryview(values)

    def value(self, name: bytes) -> bytes | None:
        """The value of an id; None if the file does not have it."""
        row = bisect_left(range(self._rows), name, key=self._name)
        if row == self._rows or self._name(row) != name:
            return None
        return bytes(self._values[self._value_starts[row] : self._value_starts[row + 1]])

    def _name(self, row: int) -> bytes:
        return bytes(self._names[self._starts[row] : self._starts[row + 1]])


class BucketFiles:
    """The files of one version of a table, by bucket. Files that the last version has too stay mapped."""

    def __init__(self, folder: str, names: dict[int, str], buckets: int, last: "BucketFiles | None" = None) -> None:
        self._buckets, self._names = buckets, names
        mapped = {} if last is None else {name: last._files[number] for number, name in last._names.items()}
        self._files: dict[int, BucketFile] = {
            number: mapped[name] if name in mapped else BucketFile(f"{folder}/{name}") for number, name in names.items()
        }

    def value(self, name: str) -> bytes | None:
        """The value of an id; None if there is none."""
        content = name.encode("utf-8", "surrogatepass")
        file = self._files.get(bucket_of(content, self._buckets))
        return None if file is None else file.value(content)
