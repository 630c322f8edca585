"""A disk that is full in the middle of a run: exit 75, nothing half published, no partial files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_killed_driver import refresh
from tests.test_submit import last_json, submit


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_a_passing_fault_that_leaves_no_partial_files(small_disk, shop, tiny_bert):
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (1024 * 1024 - 24 * 1024))  # room for a few small files
    full = submit(*refresh(shop, small_disk / "lake", tiny_bert))
    assert full.returncode == 75, full.stderr
    assert "the disk is full" in last_json(full)["error"]
    assert "Traceback" not in full.stderr
    filler.unlink()
    again = submit(*refresh(shop, small_disk / "lake", tiny_bert))
    assert again.returncode == 0, again.stderr
