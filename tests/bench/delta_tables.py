"""Delta tables as Spark's connector writes them and deltalake does not: deletion vectors, mapped columns."""

import json
import struct
import uuid
import zlib
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


class DeltaLog:
    """A table whose log is written action by action, as the protocol describes them."""

    def __init__(self, folder: Path, columns, partitions=(), features=(), **configuration):
        self.folder, self.version = folder, -1
        (folder / "_delta_log").mkdir(parents=True)
        protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [*features]}
        fields = [{"name": name, "type": kind, "nullable": True, "metadata": metadata}
                  for name, kind, metadata in columns]  # fmt: skip
        self.metadata = {
            "id": str(uuid.uuid4()),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": [*partitions],
            "configuration": {name.replace("_", "."): value for name, value in configuration.items()},
        }
        self.commit({"protocol": protocol | {"writerFeatures": [*features]}}, {"metaData": self.metadata})

    def commit(self, *actions):
        self.version += 1
        lines = "\n".join(map(json.dumps, actions))
        (self.folder / "_delta_log" / f"{self.version:020}.json").write_text(lines, encoding="utf-8")

    def file(self, rows: pa.Table, path: str, partition=None, **more):
        """Write a data file. Returns its action."""
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, place)
        stats = json.dumps({"numRecords": len(rows)})
        action = {"path": quote(path), "partitionValues": partition or {}, "size": place.stat().st_size, "stats": stats}
        return {"add": action | {"modificationTime": 0, "dataChange": True} | more}

    def vector(self, *rows: int):
        """A deletion vector in a file. Returns its descriptor."""
        name, body = uuid.uuid4(), bitmap(rows)
        content = b"\x01" + struct.pack(">I", len(body)) + body + struct.pack(">I", zlib.crc32(body))
        (self.folder / f"deletion_vector_{name}.bin").write_bytes(content)
        at = {"storageType": "u", "pathOrInlineDv": z85(name.bytes), "offset": 1}
        return at | {"sizeInBytes": len(body), "cardinality": len(rows)}


def inline(*rows: int):
    """A deletion vector within the log."""
    body = bitmap(rows)
    return {"storageType": "i", "pathOrInlineDv": z85(body), "sizeInBytes": len(body), "cardinality": len(rows)}


def bitmap(rows) -> bytes:
    """A roaring bitmap of row numbers below 65,536: a magic number, then one bitmap of one array container."""
    values = b"".join(struct.pack("<H", row) for row in sorted(rows))
    container = struct.pack("<II", 12346, 1) + struct.pack("<HH", 0, len(rows) - 1) + struct.pack("<I", 16) + values
    return struct.pack("<I", 1681511377) + struct.pack("<Q", 1) + struct.pack("<I", 0) + container


def z85(content: bytes) -> str:
    content += b"\0" * (-len(content) % 4)
    text = ""
    for (value,) in struct.iter_unpack(">I", content):
        digits = [value // 85**place % 85 for place in range(4, -1, -1)]
        text += "".join(_Z85[digit] for digit in digits)
    return text


def mapped(number: int, name: str):
    """Metadata of a mapped column."""
    return {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": name}
