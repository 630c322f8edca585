"""Look into every file of a lake."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def files_that_name(lake: Path, name: str) -> list[str]:
    """Every file below the lake that holds the id, data files decoded."""
    files = []
    for path in (path for path in lake.rglob("*") if path.is_file()):
        text = json.dumps(pq.read_table(path).to_pylist(), default=str) if path.suffix == ".parquet" else ""
        if name in text or name.encode() in path.read_bytes():
            files.append(str(path.relative_to(lake)))
    return files
