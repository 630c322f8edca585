"""What others see of a run: the schema of its last line, Prometheus' text file, OpenLineage events."""

import json
import subprocess
import sys
from datetime import date

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recsys_spark.errors import QualityError
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.runtime.lifecycle import Job, attempt
from recsys_spark.runtime.lineage import place
from recsys_spark.runtime.options import RunDate
from recsys_spark.runtime.run_metrics import metric_lines
from recsys_spark.tables.schemas import ITEMS, RECOMMENDATIONS
from tests.bench.stored_rows import commit_rows
from tests.conftest import ROOT

DAY = date(2024, 3, 1)
SCHEMA = ROOT / "recsys_spark" / "runtime" / "report_line.schema.json"


class SomeOptions(RunDate):
    """Keys."""

    data: str = "/raw"


def publish(run, options):
    rows = [("u1", "a1", 0.5, 1, DAY, "m", None, None)]
    record = Provenance(run_date=DAY, versions={"items": 0})
    commit_rows(run.lake, RECOMMENDATIONS, rows, "some_job:1", provenance=record)
    return {"status": "done", "tables": {"recommendations": 1}, "users": 1}


def refuse(run, options):
    raise QualityError("9 % of rows are bad; AWS_SECRET_ACCESS_KEY=abcdefgh1234", {"tables": {"items": 6}})


def unchanged(run, options):
    return {"status": "unchanged", "tables": {}}


def crash(run, options):
    raise ZeroDivisionError


def outcome_of(step, tmp_path, *more, options=SomeOptions):
    job = Job("some_job.py", "", options, step)
    return attempt(job, [f"--lake={tmp_path / 'lake'}", f"--run_date={DAY}", *more])


@pytest.fixture
def validator():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize(
    ("step", "more", "status", "code"),
    [
        (publish, [], "done", 0),
        (publish, ["--dry_run"], "dry_run", 0),
        (unchanged, [], "unchanged", 0),
        (refuse, [], "failed", 3),
        (crash, [], "failed", 1),
        (publish, ["--no_such_key=1"], "failed", 2),
    ],
)
def test_the_last_line_fits_its_schema(validator, tmp_path, step, more, status, code):
    report, exit_code = outcome_of(step, tmp_path, *more)
    line = json.loads(json.dumps(report, default=str))
    assert (line["status"], exit_code) == (status, code)
    validator.validate(line)
    broken = [line | {"status": "finished"}, line | {"seconds": "1"}, line | {"run_date": "today"}]
    broken += [{key: value for key, value in line.items() if key != "schema_version"}]
    broken += [line | {"exit_code": 3}] if status != "failed" else [{k: v for k, v in line.items() if k != "error"}]
    assert not [one for one in broken if validator.is_valid(one)]


def test_a_failed_run_says_which_lake(tmp_path):
    assert outcome_of(refuse, tmp_path)[0]["lake"] == str(tmp_path / "lake")


def test_the_figures_are_a_prometheus_file(tmp_path):
    file = tmp_path / "recsys.prom"
    outcome_of(publish, tmp_path, f"--metrics_file={file}")
    families = {family.name: family for family in text_string_to_metric_families(file.read_text(encoding="utf-8"))}
    values = {(s.name, *sorted(s.labels.items())): s.value for family in families.values() for s in family.samples}
    job = ("job", "some_job")
    assert values["recsys_job_status", job, ("status", "done")] == 1
    assert values["recsys_job_status", job, ("status", "failed")] == 0
    assert values["recsys_job_exit_code", job] == 0
    assert values["recsys_table_rows", job, ("table", "recommendations")] == 1
    assert values["recsys_job_figure", job, ("name", "users")] == 1
    outcome_of(refuse, tmp_path, f"--metrics_file={file}")
    assert 'recsys_job_exit_code{job="some_job"} 3' in file.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["recsys.prom"]


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, capsys):
    assert outcome_of(unchanged, tmp_path, f"--metrics_file={tmp_path / 'none' / 'recsys.prom'}")[1] == 0
    assert "the metrics of this run could not be written" in capsys.readouterr().err


def test_a_label_is_escaped():
    lines = list(metric_lines({"job": 'a"b\\c\nd', "status": "done", "seconds": 1}))
    assert r'recsys_job_seconds{job="a\"b\\c\nd"} 1' in lines


# --- lineage ---


@pytest.fixture
def events(tmp_path, monkeypatch):
    """Events go to a file; the function reads them."""
    pytest.importorskip("openlineage.client")
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(file))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    return lambda: [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_run_sends_its_inputs_outputs_and_versions(events, tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    commit_rows(lake, ITEMS, [("a1", *[None] * 11)], "ingest_tables:1")
    outcome_of(publish, tmp_path)
    start, end = events()
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == end["run"]["runId"]
    assert end["job"] | {"facets": None} == {"namespace": "recsys-spark", "name": "some_job", "facets": None}
    assert end["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2024-03-01T00:00:00Z"
    inputs = {data["name"]: data for data in end["inputs"]}
    assert set(inputs) == {f"{lake.uri}/items", "/raw"}
    assert inputs[f"{lake.uri}/items"]["facets"]["version"]["datasetVersion"] == "0"
    (made,) = end["outputs"]
    assert (made["namespace"], made["name"]) == ("file", f"{lake.uri}/recommendations")
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 1
    fields = {field["name"]: field["type"] for field in made["facets"]["schema"]["fields"]}
    assert fields == RECOMMENDATIONS.columns


def test_a_failed_run_says_why_without_secrets(events, tmp_path):
    outcome_of(refuse, tmp_path)
    assert events()[-1]["eventType"] == "FAIL"
    message = events()[-1]["run"]["facets"]["errorMessage"]["message"]
    assert "9 % of rows are bad" in message
    assert "abcdefgh1234" not in message


def test_events_that_cannot_be_sent_stop_no_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("openlineage.client")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "no_such_transport")
    assert outcome_of(unchanged, tmp_path)[1] == 0
    assert "lineage is off in this run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/path/lake/", ("s3://bucket", "path/lake")),
        ("/data/lake", ("file", "/data/lake")),
        ("file:///data/lake", ("file", "/data/lake")),
    ],
)
def test_a_dataset_is_named_as_others_name_it(uri, expected):
    assert place(uri) == expected


def test_nothing_is_imported_while_it_is_off(tmp_path):
    words = "import sys; from recsys_spark.runtime.lifecycle import *\n"
    words += "job = Job('some_job.py', '', JobConfig, lambda run, options: {'status': 'done', 'tables': {}})\n"
    words += f"attempt(job, ['--lake={tmp_path}/lake'])\n"
    words += "sys.exit(any(name.startswith(('openlineage', 'prometheus')) for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
