"""kill -9 amid encoding: what was committed stays, the next run encodes the rest, the one after that nothing."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps import embed_texts as step
from recsys_spark.lake.lake import Lake
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EMBEDDINGS
from tests.bench.encoded_texts import HASHES, published, write_texts
from tests.bench.refreshes import CLEAN
from tests.bench.spark_submit import last_json, submit
from tests.conftest import ROOT

TEXTS = 6  # as many as the shop has items; its users have none


def ingest(shop: Path, lake: Path) -> None:
    asked = [f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--lake={lake}", "--run_date=2024-03-01"]
    done = submit("ingest_tables", *asked)
    assert done.returncode == 0, done.stderr


def kill_after_the_first_commit(arguments: list[str]) -> None:
    """Start a run and kill its process group when it says that a part of the texts is done."""
    command = [str(ROOT / "spark-submit.sh"), *arguments]
    clean = {k: v for k, v in os.environ.items() if k not in CLEAN}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=clean) as run:
        for line in run.stderr:
            if f" of {TEXTS} texts" in line:
                os.killpg(run.pid, signal.SIGKILL)
                break
        assert run.wait() == -signal.SIGKILL


def embed(lake: Path, model: Path, **options: object) -> Report:
    asked = EncoderOptions(lake=str(lake), model=str(model), **options)
    return step.embed_texts(Run("embed_texts", Lake(str(lake)), Progress()), asked)


@pytest.mark.slow
def test_a_killed_encoding_resumes_with_what_was_missing(spark, shop: Path, tiny_bert: Path, tmp_path: Path):
    lake, undisturbed = tmp_path / "lake", tmp_path / "undisturbed"
    ingest(shop, lake)
    shutil.copytree(lake, undisturbed)
    asked = ["embed_texts", f"--lake={lake}", f"--model={tiny_bert}", "--texts_per_commit=2"]
    kill_after_the_first_commit(asked)
    kept = published(lake)
    assert 0 < len(kept) < TEXTS
    again = submit(*asked)
    assert again.returncode == 0, again.stderr
    assert (last_json(again)["status"], last_json(again)["cache_hits"]) == ("done", len(kept))
    assert last_json(again)["texts_encoded"] == TEXTS - len(kept)
    assert embed(undisturbed, tiny_bert)["texts_encoded"] == TEXTS
    assert set(kept) <= set(published(lake))
    assert published(lake) == published(undisturbed)
    third = embed(lake, tiny_bert)
    assert (third["status"], third["texts_encoded"], third["tables"]) == ("unchanged", 0, {"embeddings": TEXTS})


def test_a_run_with_nothing_new_loads_no_model(spark, tiny_bert: Path, tmp_path: Path, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a run with nothing new came here")

    write_texts(tmp_path, TEXTS)
    assert embed(tmp_path, tiny_bert)["texts_encoded"] == TEXTS
    for name in ("embedding_rows", "ship_model"):
        monkeypatch.setattr(step, name, forbidden)
    with monkeypatch.context() as closed:
        closed.setattr(Run, "spark", property(forbidden))
        same_inputs = embed(tmp_path, tiny_bert)
    write_texts(tmp_path, TEXTS)  # a new version with the same items
    same_texts = embed(tmp_path, tiny_bert)
    assert same_texts["cache_hits"] == TEXTS
    for report in (same_inputs, same_texts):
        assert (report["status"], report["texts_encoded"]) == ("unchanged", 0)
        assert not report.get("model_loads")
    assert Lake(str(tmp_path)).version(EMBEDDINGS) == 0
    write_texts(tmp_path, TEXTS + 1)
    with pytest.raises(AssertionError, match="came here"):
        embed(tmp_path, tiny_bert)


@pytest.mark.slow
def test_slices_that_no_text_falls_into_are_committed_like_the_others(spark, tiny_bert: Path, tmp_path: Path):
    for name, size in (("whole", 100), ("sliced", 1)):
        write_texts(tmp_path / name, TEXTS)
        report = embed(tmp_path / name, tiny_bert, texts_per_commit=size)
        assert report["texts_encoded"] == TEXTS
    assert len({int(name[:8], 16) % TEXTS for name in HASHES[:TEXTS]}) < TEXTS, "no slice is empty"
    assert Lake(str(tmp_path / "sliced")).version(EMBEDDINGS) == TEXTS - 1
    assert published(tmp_path / "sliced") == published(tmp_path / "whole")
