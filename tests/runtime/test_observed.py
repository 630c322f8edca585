"""What others see of a run: schema of the last line, Prometheus' file, alerts, spans, OpenLineage events."""

import gzip
import json
import subprocess
import sys
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recsys_spark.errors import QualityError
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.provenance import Provenance
from recsys_spark.runtime.alerts import alerts_of, checked_alerts
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


# --- alerts ---


def test_a_figure_outside_its_bound_is_said_everywhere_and_ends_no_run(validator, tmp_path, capsys):
    file = tmp_path / "recsys.prom"
    bounds = {"users": ">= 2", "tables.recommendations": ">= 1", "quarantined": "< 5"}
    report, code = outcome_of(publish, tmp_path, f"--metrics_file={file}", f"--alerts={json.dumps(bounds)}")
    sentences = [
        "users is 1, and should be >= 2",
        "the report has no figure quarantined, which should be < 5",
    ]
    assert (report["alerts"], code, report["status"]) == (sentences, 0, "done")
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("alert:")] == [
        f"alert: {sentence}" for sentence in sentences
    ]
    assert 'recsys_job_alerts{job="some_job"} 2' in file.read_text(encoding="utf-8")
    validator.validate(json.loads(json.dumps(report, default=str)))
    stored = json.loads((tmp_path / "lake" / "_status" / "some_job" / f"{DAY}.json").read_text(encoding="utf-8"))
    assert stored["alerts"] == sentences


def test_a_run_without_work_is_judged_by_the_figures_that_it_has(tmp_path):
    bounds = json.dumps({"users": ">= 2", "seconds": "< 0"})
    (alert,) = outcome_of(unchanged, tmp_path, f"--alerts={bounds}")[0]["alerts"]
    assert alert.startswith("seconds is ")


@pytest.mark.parametrize(
    ("words", "holds"),
    [("<= 5", True), ("< 5", False), (">=5", True), ("> 4.5", True), (" < 1e3 ", True), (">= 5.1", False)],
)
def test_bounds_mean_what_they_say(words, holds):
    report = {"status": "done", "nested": {"figure": 5}, "yes": True}
    assert (alerts_of(report, checked_alerts({"nested.figure": words})) == []) is holds
    assert len(alerts_of(report, checked_alerts({"yes": words}))) == 1, "true is no figure"


@pytest.mark.parametrize(
    "alerts", ["seconds < 3", '["seconds"]', '{"seconds": 5}', '{"seconds": "5"}', '{"a": "< nan"}']
)
def test_bounds_that_say_nothing_are_refused(tmp_path, alerts):
    report, code = outcome_of(publish, tmp_path, f"--alerts={alerts}")
    assert code == 2
    assert "alerts (command line)" in report["error"]
    assert '"seconds": "<= 3600"' in report["error"], "an example"


# --- spans ---


@pytest.fixture
def collector(monkeypatch):
    """A collector of OTLP over HTTP: the spans that it took, and the status that it answers."""
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    taken = SimpleNamespace(spans=[], answer=200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = service.ExportTraceServiceRequest()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request.ParseFromString(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            taken.spans += [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
            self.send_response(taken.answer)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://user:hunter22@127.0.0.1:{server.server_port}")
    yield taken
    server.shutdown()
    server.server_close()


def in_steps(run, options):
    for title in ("read", "write"):
        with run.progress.step(title):
            pass
    return {"status": "done", "tables": {"items": 3}}


def test_a_run_sends_a_span_with_its_steps_below_the_one_of_the_scheduler(collector, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACEPARENT", f"00-{'ab' * 16}-{'cd' * 8}-01")
    outcome_of(in_steps, tmp_path)
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"some_job", "read", "write"}
    job = spans["some_job"]
    assert (job.trace_id.hex(), job.parent_span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert {spans["read"].parent_span_id, spans["write"].parent_span_id} == {job.span_id}
    times = [job.start_time_unix_nano, spans["read"].start_time_unix_nano, spans["write"].end_time_unix_nano]
    assert sorted(times) == times
    assert times[-1] <= job.end_time_unix_nano
    values = {pair.key: pair.value for pair in job.attributes}
    assert values["recsys.status"].string_value == "done"
    assert values["recsys.tables.items"].int_value == 3


def test_a_failed_run_sends_its_error_without_secrets(collector, tmp_path):
    outcome_of(refuse, tmp_path)
    (job,) = [span for span in collector.spans if span.name == "some_job"]
    assert job.status.code == job.status.STATUS_CODE_ERROR
    assert "9 % of rows are bad" in job.status.message
    assert "abcdefgh1234" not in str(job)


def test_spans_that_nobody_takes_are_a_warning_without_the_password(collector, tmp_path, capfd):
    collector.answer = 400
    assert outcome_of(unchanged, tmp_path)[1] == 0
    written = capfd.readouterr().err
    assert "warning: the spans of this run were not sent" in written
    assert "hunter22" not in written


def test_a_dry_run_sends_no_spans(collector, tmp_path):
    outcome_of(publish, tmp_path, "--dry_run")
    assert collector.spans == []


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
    lineage = made["facets"]["columnLineage"]["fields"]
    assert [field["field"] for field in lineage["item_id"]["inputFields"]] == ["item_id"]
    assert {field["name"] for column in lineage.values() for field in column["inputFields"]} == {f"{lake.uri}/items"}
    assert "run_date" not in lineage, "a constant of the run"


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
    words += "sys.exit(any(name.startswith(('openlineage', 'prometheus', 'opentelemetry')) for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
