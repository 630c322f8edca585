"""The command line taken apart, and the process that a job gets: without starting one."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.start import java, submission
from recsys_spark.start.jobs import is_without_spark, job_script, job_scripts
from recsys_spark.start.submission import check, command_and_environment, parse, shipped_files
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def fixed_places(monkeypatch, tmp_path):
    """No zip is built, and Java is where this test says."""
    monkeypatch.setattr(submission, "package_zip", lambda: tmp_path / "recsys_spark.zip")
    monkeypatch.setattr(submission, "java_variables", lambda environment: {"JAVA_HOME": "/java"})
    return tmp_path


def of(words: str, **environment: str):
    name, *rest = shlex.split(words)
    return parse(job_script(name), rest, environment)


def options_of(environment: dict[str, str]) -> list[str]:
    """Options of spark-submit, as PySpark reads them."""
    return shlex.split(environment["PYSPARK_SUBMIT_ARGS"])


def after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def test_arguments_of_the_job_and_options_of_spark_are_told_apart():
    run = of("recommend_items --k=3 --help -- --master yarn --files a.txt,b.txt --py-files=x.zip --conf a=b")
    assert run.arguments == ("--k=3", "--help")
    assert run.options == ("--master", "yarn", "--conf", "a=b")
    assert (run.files, run.py_files) == (("a.txt", "b.txt"), ("x.zip",))
    assert run.wants_help
    assert not run.needs_spark


def test_a_job_gets_the_profile_the_package_and_its_files(fixed_places):
    run = of("recommend_items --lake=my lake")
    command, environment = command_and_environment(run, {"PATH": "/bin", "PYTHONPATH": "/mine"})
    assert command == [sys.executable, str(ROOT / "jobs" / "recommend_items.py"), "--lake=my", "lake"]
    words = options_of(environment)
    assert words[-1] == "pyspark-shell"
    assert after(words, "--properties-file") == str(ROOT / "conf" / "spark-local.conf")
    assert after(words, "--py-files") == str(fixed_places / "recsys_spark.zip")
    assert after(words, "--files").split(",")[0] == str(ROOT / "conf" / "recommend_items.toml")
    assert "--load-spark-defaults" not in words
    assert environment["PYTHONPATH"] == f"{fixed_places / 'recsys_spark.zip'}:/mine"
    assert (environment["PYTHONSAFEPATH"], environment["PYTHONHASHSEED"]) == ("1", "0")
    assert environment["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert (Path(environment["SPARK_HOME"]) / "bin" / "spark-submit").is_file()
    assert environment["LOG4J_CONFIGURATION_FILE"].endswith("/conf/log4j2.properties")


def test_what_the_user_has_set_wins():
    given = {"LOG4J_CONFIGURATION_FILE": "file:mine", "SPARK_LOCAL_IP": "10.0.0.1", "PYSPARK_PYTHON": "env/python"}
    given |= {"HF_HUB_OFFLINE": "0", "SPARK_HOME": "/opt/spark", "PYSPARK_DRIVER_PYTHON": "jupyter"}
    environment = command_and_environment(of("recommend_items"), given)[1]
    assert {name: environment.get(name) for name in given} == given | {"PYSPARK_DRIVER_PYTHON": None}
    assert "--load-spark-defaults" in options_of(environment)


def test_a_driver_within_the_cluster_is_started_by_spark_submit_and_gets_no_path_of_this_machine():
    run = of("refresh_lake --k=3 -- --deploy-mode cluster --archives env.tar.gz#env", SPARK_PROFILE="yarn")
    command, environment = command_and_environment(run, {"SPARK_HOME": "/opt/spark", "PATH": "/bin"})
    assert command[0] == "/opt/spark/bin/spark-submit"
    assert command[-2:] == [str(ROOT / "jobs" / "refresh_lake.py"), "--k=3"]
    assert after(command, "--archives") == "env.tar.gz#env"
    assert not {"PYSPARK_PYTHON", "PYTHONPATH", "PYSPARK_SUBMIT_ARGS"} & set(environment)


def test_a_job_without_spark_gets_no_options_and_needs_no_java(monkeypatch):
    def missing(environment):
        raise UsageError("no Java")

    monkeypatch.setattr(submission, "java_variables", missing)
    environment = command_and_environment(of("lake_status --lake=x"), {})[1]
    assert not {"PYSPARK_SUBMIT_ARGS", "SPARK_HOME", "JAVA_HOME"} & set(environment)
    without = {name for name, script in job_scripts().items() if is_without_spark(script)}
    assert without == {"serve_recommendations", "lake_status", "restore_lake", "clone_lake", "register_tables"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "yarn"),
        ("-- --conf spark.master=k8s://a", "k8s://a"),
        ("-- --conf=spark.master=k8s://a --conf spark.master=k8s://b", "k8s://b"),
        ("-- --master local[2] --conf spark.master=k8s://a", "local[2]"),
        ("-- --master=local[3]", "local[3]"),
        ("-- --name spark.master", "yarn"),
    ],
)
def test_an_option_wins_over_conf_and_conf_over_the_profile(words, expected):
    assert of(f"demo {words}", SPARK_PROFILE="yarn").setting("spark.master", "--master") == expected


def test_a_profile_is_a_name_or_a_file(tmp_path):
    mine = tmp_path / "mine.conf"
    mine.write_text("# spark.master yarn\nspark.master = local[1]\nspark.master.rest true\n", encoding="utf-8")
    assert of("demo", SPARK_PROFILE=str(mine)).setting("spark.master", "--master") == "local[1]"
    with pytest.raises(UsageError, match="there is no profile 'yarm'.*gpu k8s local standalone yarn"):
        of("demo", SPARK_PROFILE="yarm")


def test_a_cluster_without_a_master_is_refused_unless_the_site_names_one(tmp_path):
    where = {"SPARK_PROFILE": "standalone"}
    with pytest.raises(UsageError, match="profile 'standalone' needs to know the cluster"):
        check(of("demo", **where), where)
    check(of("demo --help", **where), where)
    check(of("demo -- --master spark://a:7077", **where), where)
    (tmp_path / "spark-defaults.conf").write_text("spark.master yarn\n", encoding="utf-8")
    check(of("demo", **where), where | {"SPARK_CONF_DIR": str(tmp_path)})


def test_a_missing_requirement_is_named(monkeypatch):
    monkeypatch.setattr(submission, "_NEEDED", ["pandas", "no_such_module"])
    with pytest.raises(UsageError, match=r"lacks no_such_module\. Install the requirements in setup.py"):
        check(of("demo"), {})


def test_the_users_file_of_a_name_travels_in_place_of_ours(tmp_path):
    mine = tmp_path / "refresh_lake.toml"
    mine.write_text("k = 3\n", encoding="utf-8")
    files = shipped_files(of(f"refresh_lake --config={mine} --dataset=absent.toml -- --files hdfs:///a/x.txt"))
    assert files[:2] == ["hdfs:///a/x.txt", str(mine)]
    names = [Path(file).name for file in files]
    assert names.count("refresh_lake.toml") == 1
    assert {"movielens_small.toml", "online_retail.toml"} < set(names)
    assert "absent.toml" not in names
    assert "gpu_discovery.sh" not in names
    gpu = shipped_files(of("embed_texts", SPARK_PROFILE="gpu"))
    assert str(ROOT / "conf" / "deploy" / "gpu_discovery.sh") in gpu


def test_an_unknown_job_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"no job 'recomend_items'\. Did you mean recommend_items\?"):
        job_script("recomend_items")


def fake_java(folder: Path, release: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text(f"#!/bin/sh\necho 'openjdk version \"{release}\"' >&2\n", encoding="utf-8")
    (folder / "bin" / "java").chmod(0o755)
    return folder / "bin"


def test_java_is_the_one_that_is_set_or_fits_or_came_with_pip(tmp_path, monkeypatch):
    good, old = fake_java(tmp_path / "good", "21.0.3"), fake_java(tmp_path / "old", "11.0.22")
    found = java.java_variables({"PATH": str(good)})
    assert found == {"JAVA_HOME": str(ROOT / "conf" / "java-home"), "RECSYS_JAVA": str(good / "java")}
    assert os.access(Path(found["JAVA_HOME"]) / "bin" / "java", os.X_OK)
    assert java.java_variables({"PATH": str(old), "JAVA_HOME": "/mine"}) == {}
    monkeypatch.setattr(java, "_java_of_python", lambda: None)
    assert java.java_variables({"PATH": str(old), "SPARK_HOME": "/opt/spark"}) == {}
    with pytest.raises(UsageError, match="Java 17 or newer.*JAVA_HOME"):
        java.java_variables({"PATH": str(old)})
    monkeypatch.setattr(java, "_java_of_python", lambda: Path("/pip/java"))
    assert java.java_variables({"PATH": str(old)})["RECSYS_JAVA"] == "/pip/java"
