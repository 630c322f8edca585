"""Two refreshes at once: whoever cannot commit says so, and no update is lost."""

import os
import subprocess
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.conftest import ROOT
from tests.faults.test_killed_driver import CLEAN, refresh, rows_of
from tests.test_submit import submit


def started(arguments: list[str]) -> subprocess.Popen[bytes]:
    clean = {k: v for k, v in os.environ.items() if k not in CLEAN}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([str(ROOT / "spark-submit.sh"), *arguments], env=clean, **quiet)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_of_two_refreshes_at_once_every_version_is_whole(attempt, shop, tiny_bert, tmp_path: Path):
    lake = tmp_path / "lake"
    runs = [started(refresh(shop, lake, tiny_bert)) for _ in range(2)]
    assert sorted(run.wait() for run in runs) in ([0, 0], [0, 5])
    done = submit(*refresh(shop, tmp_path / "alone", tiny_bert))
    assert done.returncode == 0, done.stderr
    for version in range(DeltaTable(str(lake / "recommendations")).version() + 1):
        rows = DeltaTable(str(lake / "recommendations"), version=version).to_pyarrow_table()
        shown = rows.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist()
        assert shown == rows_of(tmp_path / "alone")
