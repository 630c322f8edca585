"""No written byte holds a secret: commits, tables, status, reports, messages."""

import os

import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import RecsysError
from recsys_spark.errors.redaction import redacted
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import Job, attempt

CANARY = "cAnArY-7f3a9"
OPTIONS = (
    f'"fs.s3a.secret.key" = "{CANARY}", password = "{CANARY}", "fs.azure.account.key.x" = "{CANARY}", header = true'
)


def run_job(job, config, step, *argv):
    return attempt(Job(f"{job}.py", "", config, step), list(argv))


def bytes_below(folder):
    """Every byte of every file, the values of Parquet files unpacked."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                yield path, file.read()
            if name.endswith(".parquet"):
                yield path, str(pq.ParquetFile(path).read().to_pylist()).encode()


def test_no_secret_is_in_a_lake_a_report_or_a_message(shop, spark, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SHOP_DB_PASSWORD", f"env-{CANARY}")
    text = (shop / "shop.toml").read_text(encoding="utf-8").replace("header = true", OPTIONS)
    (tmp_path / "my.toml").write_text(text, encoding="utf-8")
    lake = tmp_path / "lake"
    arguments = [f"--lake={lake}", "--run_date=2024-03-01", f"--dataset={tmp_path / 'my.toml'}", f"--data={shop}"]
    report, code = run_job("ingest_tables", IngestOptions, ingest_tables, *arguments)
    assert code == 0, report
    assert run_job("render_report", ReportOptions, render_report, f"--lake={lake}", "--run_date=2024-03-01")[1] == 0

    def fails(run, options):
        raise RecsysError(f"PUT https://u:{CANARY}@host/x?sig={CANARY} password={CANARY} env-{CANARY}")

    def breaks(run, options):
        raise KeyError(f"jdbc:x://u:{CANARY}@host env-{CANARY}")

    reports = [run_job("ingest_tables", IngestOptions, step, *arguments) for step in (fails, breaks)]
    assert [code for _, code in reports] == [1, 1]
    assert CANARY not in str(reports)
    output = capfd.readouterr()
    assert CANARY not in output.err + output.out
    assert "KeyError" in output.err, "a bug shows its trace"
    leaks = [path for path, content in bytes_below(lake) if CANARY.encode() in content]
    assert not leaks
    assert sum(1 for _ in bytes_below(lake)) > 10


@pytest.mark.parametrize(
    "text", ["item 'token'", "unknown_tokens: 12", "keys: a, b", "s3://bucket/path", "secret garden"]
)
def test_ordinary_words_stay(text):
    assert redacted(text) == text
