"""The DAG: exit codes without Airflow, and the real apache-airflow in an environment of its own (slow)."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from recsys_spark.errors import RecsysError, Terminated
from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "deploy" / "airflow"
AIRFLOW = "apache-airflow==3.3.2"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


end = load("recsys_outcome")


def line(**report):
    return "words\n" + json.dumps(report) + "\n"


@pytest.mark.parametrize(
    ("code", "output", "action", "words"),
    [
        (0, line(status="done"), "done", "refresh_lake: done"),
        (0, line(status="unchanged"), "skip", "unchanged"),
        (0, "", "done", "done"),
        (5, line(error="table 'events' was published by another run"), "retry", "another run committed"),
        (75, line(error="disk full"), "retry", "a transient fault): disk full"),
        (143, line(), "retry", "SIGTERM"),
        (137, "", "retry", "killed"),
        (-9, "no json", "retry", "killed"),
        (2, line(error="unknown key"), "stop", "usage or configuration): unknown key"),
        (4, line(error="no such file"), "stop", "an input is missing"),
        (1, "[1]", "stop", "exit code 1"),
    ],
)
def test_an_exit_code_is_an_action(code, output, action, words):
    found = end.outcome("refresh_lake", code, output)
    assert found.action == action
    assert words in found.message


def test_a_quality_gate_stops_with_the_place_of_its_figures():
    report = {"error": "9 % of events are bad", "lake": "s3://b/lake", "run_date": "2024-03-01"}
    found = end.outcome("refresh_lake", 3, line(**report))
    assert found.action == "stop"
    assert "9 % of events are bad. Figures: s3://b/lake/_status/refresh_lake/2024-03-01.json." in found.message
    assert found.message.endswith("Reports: s3://b/lake/_reports/")


def test_every_exit_code_of_the_project_has_an_action():
    codes = {kind.exit_code for kind in [*RecsysError.__subclasses__(), Terminated]}
    assert codes == set(end.RETRIED) | set(end.STOPPED)


def test_an_alert_is_posted_as_json():
    got = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        end.post_alert(f"http://127.0.0.1:{server.server_port}/hook", "it has stopped")
    assert got == [{"text": "it has stopped"}]


# --- with Airflow ---


@pytest.fixture(scope="module")
def airflow(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """The ``bin`` of an environment with Airflow, made once, and the variables that its commands need."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys-spark" / AIRFLOW
    if not (cache / "set-up-done").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(cache)], check=True)
        install = [str(cache / "bin" / "python"), "-I", "-m", "pip", "install", "-q", AIRFLOW]
        if subprocess.run(install, check=False).returncode:
            pytest.skip(f"{AIRFLOW} cannot be installed here")
        (cache / "set-up-done").touch()
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    for file in FOLDER.glob("*.py"):
        (home / "dags" / file.name).symlink_to(file)
    hidden = ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
    where = {name: value for name, value in os.environ.items() if name not in hidden}
    where |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "RECSYS_PYTHON": sys.executable,
    }
    subprocess.run([str(cache / "bin" / "airflow"), "db", "migrate"], env=where, check=True, capture_output=True)
    return cache / "bin", where


def run_dag(airflow, run_date, **params):
    tools, where = airflow
    command = [str(tools / "airflow"), "dags", "test", "recsys_nightly", run_date, "--conf", json.dumps(params)]
    done = subprocess.run(command, env=where, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_dag_is_imported_with_its_tasks(airflow):
    tools, where = airflow
    subprocess.run([str(tools / "airflow"), "dags", "reserialize"], env=where, check=True, capture_output=True)
    errors = subprocess.run(
        [str(tools / "airflow"), "dags", "list-import-errors"], env=where, capture_output=True, text=True, check=False
    )
    assert "No data found" in errors.stdout, errors.stdout + errors.stderr
    tasks = subprocess.run(
        [str(tools / "airflow"), "tasks", "list", "recsys_nightly"],
        env=where,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"refresh_lake", "render_report", "vacuum_lake"} <= set(tasks.stdout.split())


@pytest.mark.slow
def test_the_dag_runs_to_its_end_and_a_second_night_is_skipped(airflow, shop, tiny_bert, tmp_path):
    lake = tmp_path / "lake"
    params = {"command": str(ROOT / "spark-submit.sh"), "lake": str(lake), "data": str(shop)}
    params |= {"dataset": str(shop / "shop.toml"), "keys": {"model": str(tiny_bert), "k": 2}}
    code, output = run_dag(airflow, "2024-03-01T02:00:00+00:00", **params)
    assert code == 0, output[-4000:]
    status = json.loads((lake / "_status" / "refresh_lake" / "2024-03-01.json").read_text(encoding="utf-8"))
    assert status["status"] == "done"
    assert (lake / "_reports" / "2024-03-01.html").is_file()
    code, output = run_dag(airflow, "2024-03-01T03:00:00+00:00", **params)
    assert code == 0, output[-4000:]
    assert "refresh_lake: unchanged" in output
    assert "skipped" in output.lower()


@pytest.mark.slow
def test_a_mistake_stops_the_dag_at_once(airflow, shop, tmp_path):
    params = {"command": str(ROOT / "spark-submit.sh"), "lake": str(tmp_path / "lake"), "data": str(shop)}
    _, output = run_dag(airflow, "2024-03-02T02:00:00+00:00", **params, dataset="no_such_shop")
    assert "refresh_lake has stopped (usage or configuration)" in output
    assert "Immediate failure requested" in output or "AirflowFailException" in output
