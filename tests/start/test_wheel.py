"""The wheel: what is in it, and that it works alone, in an environment outside the checkout."""

import json
import re
import zipfile
from pathlib import Path

import pyspark
import pytest
from deltalake import DeltaTable

from tests.bench.spark_submit import last_json
from tests.bench.wheels import build_wheel, environment_with, run_outside
from tests.conftest import ROOT
from tests.test_pages import blocks

INGEST = ["ingest_tables", "--data=.", "--lake=x", "--run_date=2020-01-01"]
PAGE = ROOT / "recsys_spark" / "start" / "README.md"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_jobs_configuration_pages_and_the_command(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = archive.read("recsys_spark-0.1.0.dist-info/entry_points.txt").decode()
        mode = archive.getinfo("recsys_spark/conf/java-home/bin/java").external_attr >> 16
    package = [path for path in (ROOT / "recsys_spark").rglob("*") if path.suffix in (".py", ".html", ".md", ".json")]
    wanted = {path.relative_to(ROOT).as_posix() for path in package} | {"recsys_spark/LICENSE"}
    configured = (
        "*.toml",
        "*.conf",
        "*.properties",
        "datasets/*.toml",
        "presets/*.toml",
        "rules/*.toml",
        "deploy/**/*",
        "java-home/bin/java",
    )
    beside = [*(ROOT / "jobs").glob("*.py"), *(path for part in configured for path in (ROOT / "conf").glob(part))]
    wanted |= {f"recsys_spark/{path.relative_to(ROOT).as_posix()}" for path in beside if path.is_file()}
    assert names == wanted
    assert "recsys-spark = recsys_spark.start.command:main" in entry_points
    assert mode & 0o111, "the Java of Spark is started through this script"


@pytest.fixture(scope="module")
def tools(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(wheel, tmp_path_factory.mktemp("environment") / "an environment")


@pytest.mark.slow
def test_the_command_helps_and_refuses_as_spark_submit_does(tools: Path, tmp_path: Path):
    helped = run_outside([str(tools / "recsys-spark"), "--help"], tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert all(f"  {job.stem} " in helped.stdout for job in (ROOT / "jobs").glob("*.py"))
    script = (ROOT / "spark-submit.sh").read_text(encoding="utf-8")
    assert all(line in script for line in helped.stdout.partition("Exit codes:")[2].splitlines())
    keys = run_outside([str(tools / "python"), "-m", "recsys_spark", "recommend_items", "--help"], tmp_path)
    assert keys.stdout.startswith("recsys-spark recommend_items [--key=value …]")
    assert "--item_block_rows=…" in keys.stdout
    for words, code, part in [
        ([], 2, "Usage: recsys-spark JOB"),
        (["recomend_items"], 2, "Did you mean recommend_items?"),
        (["recommend_items", "--run_dat=1"], 2, "See: recsys-spark recommend_items --help"),
        ([*INGEST, "--dataset=online_retial"], 2, "online_retail"),
        (["lake_status", "--lake=/absent/lake"], 4, "/absent/lake"),
    ]:
        done = run_outside([str(tools / "recsys-spark"), *words], tmp_path)
        assert (done.returncode, part in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_refresh_outside_the_checkout_publishes_what_a_checkout_does(
    tools: Path, shop: Path, tiny_bert: Path, tmp_path: Path
):
    words = ["refresh_lake", f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--model={tiny_bert}", "--k=2"]
    words += ["--run_date=2024-03-01", f"--lake={tmp_path / 'lake'}"]
    done = run_outside([str(tools / "recsys-spark"), *words], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    report = last_json(done)
    assert (report["status"], report["texts_encoded"]) == ("done", 6)
    assert "incubator" not in done.stderr
    lists = DeltaTable(str(tmp_path / "lake" / "recommendations")).to_pyarrow_table()
    assert lists.num_rows == report["tables"]["recommendations"] > 0
    again = run_outside([str(tools / "recsys-spark"), *words], tmp_path, JAVA_HOME=str(tmp_path))
    assert (again.returncode, last_json(again)["status"]) == (0, "unchanged"), again.stderr


@pytest.mark.slow
def test_a_script_that_spark_submit_has_started_runs_a_job_in_its_session(tools: Path, shop: Path, tmp_path: Path):
    (script,) = [
        block for block in blocks(ROOT / "conf" / "deploy" / "README.md", "python") if "command import" in block
    ]
    (tmp_path / "run.py").write_text(script, encoding="utf-8")
    spark_submit = Path(pyspark.__file__).parent / "bin" / "spark-submit"
    command = [
        str(spark_submit),
        "--master",
        "local[2]",
        "run.py",
        "ingest_tables",
        f"--data={shop}",
        f"--lake={tmp_path}",
    ]
    where = {"PYSPARK_PYTHON": str(tools / "python"), "SPARK_LOCAL_IP": "127.0.0.1"}
    day = "--run_date=2024-03-01"
    done = run_outside([*command, f"--dataset={shop / 'shop.toml'}", day], tmp_path, **where)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert (json.loads(line)["status"], json.loads(line)["tables"]["items"]) == ("done", 6)
    refused = run_outside([*command, "--dataset=no_such_shop", day], tmp_path, **where)
    assert (refused.returncode, "unknown dataset 'no_such_shop'" in refused.stdout + refused.stderr) == (2, True)


NOTEBOOK = """
import json
from pathlib import Path
{session}
{refresh}
{lists}
from recsys_spark.errors import InputError
from recsys_spark.start import command
spark = SparkSession.getActiveSession()
zone = spark.conf.get("spark.sql.session.timeZone")
try:
    run_job("lake_status", lake="absent")
except InputError as error:
    missing = str(error).replace(str(Path.cwd()), "")
command.sys.argv = ["recsys-spark", "lake_status", "--lake=lake"]
command.main()
print(json.dumps([report["status"], spark.sparkContext.appName, zone, missing, spark.range(3).count()]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("owner", ["notebook", "run_job"])
def test_the_lines_of_the_page_run_in_a_notebook(tools: Path, shop: Path, tiny_bert: Path, tmp_path: Path, owner: str):
    refresh, lists = blocks(PAGE, "python")
    refresh = refresh.replace('"my_shop.toml"', repr(str(shop / "shop.toml"))).replace('"shop"', repr(str(shop)))
    refresh = refresh.replace("k=3", f"k=3, model={str(tiny_bert)!r}")
    builder = 'SparkSession.builder.master("local[2]").appName("notebook").config("spark.ui.enabled", "false")'
    session = f'{builder}.config("spark.sql.session.timeZone", "Asia/Tokyo").getOrCreate()'
    session = f"from pyspark.sql import SparkSession\n{session}" if owner == "notebook" else ""
    (tmp_path / "cells.py").write_text(NOTEBOOK.format(session=session, refresh=refresh, lists=lists), encoding="utf-8")
    where = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": str(tools / "python")} if owner == "notebook" else {}
    done = run_outside([str(tools / "python"), "cells.py"], tmp_path, **where)
    assert done.returncode == 0, done.stderr
    *_, status, facts = done.stdout.splitlines()
    assert json.loads(status)["status"] == "done"
    name, zone = ("notebook", "Asia/Tokyo") if owner == "notebook" else ("recsys-spark refresh_lake", "UTC")
    assert json.loads(facts) == ["done", name, zone, "lake /absent has no tables", 3]
    assert re.search(r"\|\s*u1\|\s*a2\|", done.stdout), "the list of the page's example"
