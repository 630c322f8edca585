"""The section of online metrics."""

from datetime import date

from recsys_spark.lake.lake import Lake
from recsys_spark.report.steps.online import online
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import ONLINE_METRICS
from tests.bench.stored_rows import commit_rows


def test_a_report_shows_the_newest_online_metrics_or_no_section(spark, tmp_path):
    run, day = Run("bench", Lake(str(tmp_path)), Progress()), date(2024, 3, 1)
    assert online(run) is None
    rows = [(day, "off_policy", "ips", 0.25, 0.125, 0.375, 0.95, 60, 41.5, n) for n in (1, 30)]
    rows.append((day, "interleave", "preference_b", None, None, None, 0.95, 3, None, 29))
    commit_rows(run.lake, ONLINE_METRICS, rows, "online")
    section = online(run)
    assert (section.name, section.title) == ("online", "Online")
    [table] = section.elements
    assert table.rows == [
        ["2024-03-01", "off_policy", "ips", 0.25, "0.1250 to 0.3750 (95 %)", 60, 41.5],
        ["2024-03-01", "interleave", "preference_b", None, None, 3, None],
    ]
