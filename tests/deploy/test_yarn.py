"""What YARN would be sent: spark-submit itself says so, before it looks for a resource manager that is not there."""

import re
import sys

import pytest

from tests.bench.spark_submit import submit

SITE = """<configuration>
<property><name>yarn.resourcemanager.address</name><value>127.0.0.1:1</value></property>
<property><name>yarn.resourcemanager.connect.max-wait.ms</name><value>1</value></property>
<property><name>yarn.resourcemanager.connect.retry-interval.ms</name><value>1</value></property>
<property><name>ipc.client.connect.max.retries</name><value>0</value></property>
</configuration>
"""


@pytest.mark.slow
def test_code_defaults_datasets_and_archives_travel_to_yarn(tmp_path):
    (tmp_path / "yarn-site.xml").write_text(SITE, encoding="utf-8")
    (tmp_path / "env.tar.gz").touch()
    (tmp_path / "mine.toml").write_text("k = 3\n", encoding="utf-8")
    where = {"SPARK_PROFILE": "yarn", "RECSYS_PYTHON": sys.executable, "PYSPARK_PYTHON": "./env/bin/python"}
    job = [
        "refresh_lake",
        "--dataset=movielens_small",
        "--data=hdfs:///raw",
        "--lake=hdfs:///lake",
        "--run_date=2024-03-01",
    ]
    spark = ["--deploy-mode", "cluster", "--archives", f"{tmp_path / 'env.tar.gz'}#env", "--verbose"]
    done = submit(*job, f"--config={tmp_path / 'mine.toml'}", "--", *spark, **where, HADOOP_CONF_DIR=str(tmp_path))
    assert done.returncode == 1, "there is no resource manager"
    said = dict(re.findall(r"^  (\w+) +(\S.*)$", done.stdout + done.stderr, re.MULTILINE))
    assert (said["master"], said["deployMode"], said["name"]) == ("yarn", "cluster", "refresh_lake")
    assert re.fullmatch(r"file:\S+/recsys_spark-\w+\.zip", said["pyFiles"])
    files = [file.rpartition("/")[2] for file in said["files"].split(",")]
    assert {"mine.toml", "refresh_lake.toml", "movielens_small.toml"} <= set(files)
    assert said["archives"].endswith("/env.tar.gz#env")
    assert said["primaryResource"].endswith("/jobs/refresh_lake.py")
    assert said["childArgs"].startswith("[--dataset=movielens_small --data=hdfs:///raw")
