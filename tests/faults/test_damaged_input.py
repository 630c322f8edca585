"""Raw files that are cut off, flipped or of another schema, and workers without memory: one message that names the
file, and nothing is published."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.errors import PySparkException

from recsys_spark.errors import InputError, QualityError, RecsysError, UsageError
from recsys_spark.errors.messages import to_user_error
from recsys_spark.events.weights import EventWeights, weigh_pairs
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.ingest.validation import unique_events, validate_events
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, QUARANTINE

DATASET = """
title = "Logs of Parquet"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log/*.parquet"
format = "parquet"
[items]
from = "products"
select = { item_id = "sku", title = "name" }
text = ["{title}."]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "'view'", timestamp = "at", value = "amount" }
earliest = 2024-01-01
latest = 2024-12-31
"""
ROWS = 2000


def log(**columns):
    rows = {
        "user": [f"u{n % 7}" for n in range(ROWS)],
        "sku": [f"a{n % 3}" for n in range(ROWS)],
        "at": pa.array([datetime(2024, 2, 1, tzinfo=UTC)] * ROWS, pa.timestamp("us", "UTC")),
        "amount": np.arange(ROWS, dtype=np.float64),
    }
    rows["at"] = pa.array(np.datetime64("2024-02-01", "us") + np.arange(ROWS), pa.timestamp("us", "UTC"))
    return pa.table({name: values for name, values in (rows | columns).items() if values is not None})


@pytest.fixture
def shop(spark, tmp_path):
    (tmp_path / "shop.toml").write_text(DATASET, encoding="utf-8")
    (tmp_path / "products.csv").write_text("sku,name\na0,tea\na1,pot\na2,cup\n", encoding="utf-8")
    (tmp_path / "log").mkdir()
    pq.write_table(log(), tmp_path / "log" / "1.parquet", write_page_checksum=True, compression="none")
    return tmp_path


def ingest(folder, **options):
    """The step; its failure as a person sees it."""
    asked = {"run_date": date(2024, 3, 1), "dataset": str(folder / "shop.toml"), "data": str(folder)}
    lake = Lake(str(folder / "lake"))
    try:
        return lake, ingest_tables(
            Run("ingest_tables", lake, Progress()), IngestOptions(lake=lake.uri, **asked | options)
        )
    except Exception as error:
        known = error if isinstance(error, RecsysError) else to_user_error(error)
        if known is None or lake.version(EVENTS) is not None:  # a stack trace, or something was published
            raise
        raise known from error


def test_a_raw_file_that_is_cut_off_is_named(shop):
    path = shop / "log" / "1.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"source 'log': .*log/1\.parquet is not a complete Parquet file"):
        ingest(shop)


def test_a_flipped_byte_in_a_raw_file_is_named_and_no_other_value(shop):
    path = shop / "log" / "1.parquet"
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(500, 504, dtype=np.float64).tobytes()) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"an input file is unreadable or damaged: .*log/1\.parquet"):
        ingest(shop)


def test_a_column_of_another_type_is_read_as_text_and_its_values_are_named(shop):
    words = pa.array(["many"] * ROWS)
    pq.write_table(log(amount=words), shop / "log" / "2.parquet")
    with pytest.raises(QualityError, match=r"not a number \(events\): 2000, for example 'many'.*source 'log' "):
        ingest(shop)


def test_a_file_without_a_wanted_column_is_quarantined_row_by_row(spark, shop):
    pq.write_table(log(user=None), shop / "log" / "2.parquet")
    with pytest.raises(QualityError, match=r"user_id is null or blank \(events\): 2000"):
        ingest(shop)
    lake, report = ingest(shop, max_bad_share=0.6)
    assert report["tables"]["events"] == ROWS
    assert lake.read(spark, QUARANTINE).where("reason = 'user_id is null or blank'").count() == ROWS


def test_events_delivered_twice_weigh_what_they_weigh_once(spark):
    rows = [(f"u{n % 3}", f"i{n % 4}", "purchase", datetime(2024, 2, 1 + n, tzinfo=UTC), None) for n in range(8)]
    weights = EventWeights({"purchase": 3.0}, 3.0, 30.0)
    pairs = [
        sorted(map(tuple, weigh_pairs(unique_events(judged), date(2024, 3, 1), weights).collect()))
        for log in (rows, rows[::-1] + rows + rows[:3])
        for judged in [validate_events(spark.createDataFrame(log, EVENTS.ddl), date(2024, 1, 1), date(2024, 12, 31))]
    ]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 8


def test_a_worker_without_memory_is_told_what_to_change(spark):
    def greedy(batches):
        for batch in batches:
            np.ones(1 << 50)
            yield batch

    with pytest.raises(PySparkException) as caught:
        spark.range(3).mapInArrow(greedy, "id bigint").collect()
    known = to_user_error(caught.value)
    assert isinstance(known, UsageError)
    assert "spark.executor.memoryOverhead" in str(known)
    assert "item_block_rows" in str(known)
