"""Airflow 3: refresh a lake every night, then its report; unused files go too. Both files of this folder go where the
DAGs are. Each task is one command of recsys-spark, which need not be in the Python of Airflow.
"""

import os
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import DAG, BaseOperator, Param
from airflow.timetables.trigger import CronTriggerTimetable
from recsys_outcome import outcome, post_alert

RUN_DATE = "{{ params.run_date or (data_interval_end | ds) }}"
"""The day of the trigger: lists are made from events before 00:00 UTC of it."""


class RecsysJob(BaseOperator):
    """Run one job; its exit code decides whether the task succeeds, is skipped, tried again or stopped."""

    template_fields = ("command", "keys", "more_keys", "spark_options")

    def __init__(self, *, job: str, keys: dict[str, str], takes_more_keys: bool = False, **settings: Any) -> None:
        super().__init__(task_id=job, **settings)
        self.job, self.keys = job, keys
        self.command = "{{ params.command }}"
        self.more_keys = "{{ params['keys'] }}" if takes_more_keys else {}
        self.spark_options = "{{ params.spark_options }}"
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        words = [f"--{key}={value}" for key, value in (self.keys | self.more_keys).items()]
        command = [self.command, self.job, *words, *(["--", *self.spark_options] if self.spark_options else [])]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
            assert self._process.stderr is not None
            for line in self._process.stderr:
                self.log.info(line.rstrip())
            code = self._process.wait()
            output.seek(0)
            end = outcome(self.job, code, output.read())
        self.log.info("%s", end.report)
        if end.action == "skip":
            raise AirflowSkipException(end.message)
        if end.action == "retry":
            raise AirflowException(end.message)
        if end.action == "stop":
            raise AirflowFailException(end.message)
        return end.report

    def on_kill(self) -> None:
        if self._process is not None:
            self._process.terminate()  # the job ends with 143, and nothing is half published


def alert(context: Any) -> None:
    """Post why a task has failed to the webhook of RECSYS_ALERT_URL, if it is set."""
    if url := os.environ.get("RECSYS_ALERT_URL"):
        post_alert(url, f"{context['dag'].dag_id}, {context['task_instance'].task_id}: {context.get('exception')}")


with DAG(
    "recsys_nightly",
    description=__doc__,
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # also of a backfill: nights of one lake run one after the other
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(hours=6),
        "on_failure_callback": alert,
    },
    params={
        "lake": Param("/data/lake", type="string", description="folder or URI of the lake"),
        "dataset": Param("/data/my_shop.toml", type="string", description="dataset file, or the name of a shipped one"),
        "data": Param("/data/shop", type="string", description="folder or URI of the sources"),
        "run_date": Param(None, type=["null", "string"], format="date", description="default: the day of the trigger"),
        "keys": Param({}, type="object", description="more keys of refresh_lake, such as k"),
        "spark_options": Param([], type="array", description="options of spark-submit, such as --master"),
        "command": Param("recsys-spark", type="string", description="the command, or the path of spark-submit.sh"),
    },
    render_template_as_native_obj=True,
) as dag:
    lake = {"lake": "{{ params.lake }}"}
    sources = {"dataset": "{{ params.dataset }}", "data": "{{ params.data }}"}
    refresh = RecsysJob(job="refresh_lake", keys=lake | sources | {"run_date": RUN_DATE}, takes_more_keys=True)
    report = RecsysJob(job="render_report", keys=lake | {"run_date": RUN_DATE})
    vacuum = RecsysJob(job="vacuum_lake", keys=lake | {"keep_hours": "168"}, trigger_rule="none_failed")
    refresh >> report
    refresh >> vacuum
