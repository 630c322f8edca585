"""A disk that is full in the middle of a run: exit 75, nothing half published, no partial files."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench.refreshes import grown, refresh, rows_of
from tests.bench.spark_submit import last_json, submit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_a_passing_fault_that_leaves_no_partial_files(small_disk, shop, tiny_bert, tmp_path):
    lake, changed = small_disk / "lake", grown(shop, tmp_path / "shop")
    first = submit(*refresh(shop, lake, tiny_bert))
    assert first.returncode == 0, first.stderr
    before = rows_of(lake)
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(b"x" * (free - 24 * 1024))  # room for a few small files
    full = submit(*refresh(changed, lake, tiny_bert))
    assert full.returncode == 75, full.stderr
    assert "the disk is full" in last_json(full)["error"]
    assert "Traceback" not in full.stderr
    assert rows_of(lake) == before, "the old version is whole"
    assert all(readable(path) for path in lake.glob("*/*.parquet")), "no half file is left"
    (small_disk / "filler").unlink()
    again = submit(*refresh(changed, lake, tiny_bert))
    assert again.returncode == 0, again.stderr
    assert rows_of(lake) != before


def readable(path: Path) -> bool:
    """Whether a file is whole: its footer is written last."""
    try:
        return pq.ParquetFile(path).metadata.num_rows > 0
    except pa.ArrowInvalid:
        return False
