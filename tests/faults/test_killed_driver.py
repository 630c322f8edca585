"""kill -9 of the driver and its process group: readers keep the last published version, the next run completes."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.conftest import ROOT
from tests.test_submit import last_json, submit


def rows_of(lake: Path) -> list[dict]:
    table = DeltaTable(str(lake / "recommendations")).to_pyarrow_table()
    return table.sort_by([("user_id", "ascending"), ("rank", "ascending")]).to_pylist()


def refresh(source: Path, lake: Path, model: Path) -> list[str]:
    asked = [f"--dataset={source / 'shop.toml'}", f"--data={source}", f"--lake={lake}", f"--model={model}"]
    return ["refresh_lake", *asked, "--run_date=2024-03-01", "--k=3"]


CLEAN = ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")


def kill_after(step: str, arguments: list[str]) -> None:
    """Start a run and kill its process group when it says that ``step`` is done: amid the next one."""
    command = [str(ROOT / "spark-submit.sh"), *arguments]
    clean = {k: v for k, v in os.environ.items() if k not in CLEAN}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=clean) as run:
        for line in run.stderr:
            if step in line:
                os.killpg(run.pid, signal.SIGKILL)
                break
        assert run.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def published(shop: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("published") / "lake"
    done = submit(*refresh(shop, lake, tiny_bert))
    assert done.returncode == 0, done.stderr
    return lake


@pytest.fixture(scope="module")
def changed(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop of the next day: one more item, one more event."""
    folder = tmp_path_factory.mktemp("changed") / "shop"
    shutil.copytree(shop, folder)
    with (folder / "products.csv").open("a") as products, (folder / "log.csv").open("a") as log:
        products.write("a7,green tea pot,ada,kitchen/tea,13\n")
        log.write("u3,a4,purchase,2024-02-20 08:00:00\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(changed: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    done = submit(*refresh(changed, lake, tiny_bert))
    assert done.returncode == 0, done.stderr
    return rows_of(lake)


@pytest.mark.parametrize(
    "step",
    [
        "build_profiles",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("ingest_tables", "embed_texts", "build_item_vectors")),
    ],
)
def test_a_killed_refresh_leaves_the_old_lists_and_the_next_run_completes(
    step: str, published: Path, changed: Path, undisturbed: list[dict], tiny_bert: Path, tmp_path: Path
):
    lake = tmp_path / "lake"
    shutil.copytree(published, lake)
    before = rows_of(lake)
    kill_after(step, refresh(changed, lake, tiny_bert))
    assert rows_of(lake) == before
    again = submit(*refresh(changed, lake, tiny_bert))
    assert again.returncode == 0, again.stderr
    assert last_json(again)["status"] == "done"
    assert rows_of(lake) == undisturbed
    assert rows_of(lake) != before
