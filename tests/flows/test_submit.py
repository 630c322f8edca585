"""The command line as a user meets it: ./spark-submit.sh in a process of its own."""

import json
from pathlib import Path

import pytest

from tests.bench.jobs_here import run_job
from tests.bench.spark_submit import last_json, submit
from tests.conftest import ROOT

INGEST = ["ingest_tables", "--lake={lake}", "--run_date=2020-01-01"]
RECOMMEND = ["recommend_items", "--lake={lake}"]


def test_help_lists_every_job():
    done = submit("--help")
    assert done.returncode == 0
    for job in (ROOT / "jobs").glob("*.py"):
        assert f"  {job.stem} " in done.stdout


def test_an_unknown_job_is_refused_with_the_nearest():
    done = submit("recomend_items")
    assert done.returncode == 2
    assert "recommend_items" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_a_job_names_its_keys():
    done = submit("recommend_items", "--help")
    assert done.returncode == 0
    assert "--run_date=…" in done.stdout
    assert "--item_block_rows=…" in done.stdout


@pytest.mark.parametrize(
    ("run", "arguments", "code", "words"),
    [
        (run_job, [*RECOMMEND, "--run_dat=2020-01-01", "--k=many"], 2, ["run_dat", "run_date", "k ("]),
        (submit, [*RECOMMEND, "--run_date=2020-01-01"], 4, ["users", "item_vectors"]),
        (run_job, [*INGEST, "--dataset=online_retial", "--data=."], 2, ["online_retail"]),
        (run_job, [*INGEST, "--dataset=online_retail", "--data=/absent"], 4, ["/absent"]),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_readable_message(spark, tmp_path: Path, run, arguments, code, words):
    done = run(*(argument.format(lake=tmp_path / "lake") for argument in arguments))
    assert done.returncode == code
    assert all(word in done.stderr for word in words)
    assert "Traceback" not in done.stderr + done.stdout
    report = last_json(done)
    assert (report["status"], report["exit_code"]) == ("failed", code)


def test_a_job_by_spark_submit_says_one_line_and_keeps_its_status(tmp_path: Path, shop: Path):
    lake = tmp_path / "lake"
    arguments = ["ingest_tables", f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--lake={lake}"]
    done = submit(*arguments, "--run_date=2024-03-01", "--", "--master", "local[2,4]")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    report = last_json(done)
    assert (report["status"], report["tables"]["items"], report["tables"]["events"]) == ("done", 6, 7)
    kept = json.loads((lake / "_status" / "ingest_tables" / "2024-03-01.json").read_text())
    assert kept["status"] == "done"


@pytest.mark.slow
def test_a_refresh_runs_and_a_second_one_finds_nothing_new(spark, tmp_path: Path, tiny_bert: Path, shop: Path):
    arguments = ["refresh_lake", f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--lake={tmp_path / 'lake'}"]
    arguments += ["--run_date=2024-03-01", f"--model={tiny_bert}", "--k=2"]
    tried = run_job(*arguments, "--dry_run")
    assert (tried.returncode, last_json(tried)["status"]) == (0, "dry_run"), tried.stderr
    assert not list((tmp_path / "lake").rglob("*.*")), "a dry run writes no table and no status"
    first, second = submit(*arguments, "--", "--master", "local[2,4]"), run_job(*arguments)
    assert first.returncode == 0, first.stderr
    assert last_json(first)["tables"]["recommendations"] > 0
    assert last_json(first)["texts_encoded"] == 6
    assert second.returncode == 0, second.stderr
    assert (last_json(second)["status"], last_json(second)["texts_encoded"]) == ("unchanged", 0)
    assert len(first.stdout.splitlines()) == 1
    kept = json.loads((tmp_path / "lake" / "_status" / "refresh_lake" / "2024-03-01.json").read_text())
    assert kept["status"] == "unchanged"


@pytest.mark.slow
def test_a_value_that_fits_no_expression_of_the_dataset_file_shows_no_trace(tmp_path: Path, shop: Path):
    wrong = (shop / "shop.toml").read_text(encoding="utf-8").replace('price = "price"', 'price = "cast(name AS int)"')
    (tmp_path / "my.toml").write_text(wrong.replace("log.csv", "lo*.csv"), encoding="utf-8")
    arguments = ["ingest_tables", f"--dataset={tmp_path / 'my.toml'}", f"--data={shop}", f"--lake={tmp_path / 'lake'}"]
    done = submit(*arguments, "--run_date=2024-03-01")
    assert done.returncode == 3, done.stderr
    assert "[CAST_INVALID_INPUT] The value 'red tea pot'" in last_json(done)["error"]
    assert "TaskSetManager: Lost task" in done.stderr, "an operator sees that tasks were tried again"
    for noise in ("\tat ", "Traceback", "Executor: ", "FileStreamSink", "QueryContextLogger"):
        assert noise not in done.stderr
