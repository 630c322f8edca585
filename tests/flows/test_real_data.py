"""The shipped dataset files on the real data: the counts that each data set states, and texts that read well."""

from datetime import date, datetime
from types import SimpleNamespace

import pytest
from pyspark.sql import functions as F

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, ITEMS
from tests.conftest import data_folder

BROKEN_TEXT = r"&[a-z]+;|&#|</?[a-z]+>|\"\"|\s\s|^\"[^\"]*\"$|^\s|\s$|\\[nt\"]"


@pytest.fixture(scope="module")
def ingested(spark, tmp_path_factory):
    """Ingest a real data set: its report, and its items and events as frames. Batches of 3 rows would take minutes."""
    batch = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(batch)
    spark.conf.set(batch, "10000")

    def ingest(dataset, folder):
        data = data_folder(folder)
        lake = Lake(str(tmp_path_factory.mktemp(dataset)))
        options = IngestOptions(lake=lake.uri, run_date=date(2020, 1, 1), dataset=dataset, data=str(data))
        report = ingest_tables(Run("ingest_tables", lake, Progress()), options)
        return SimpleNamespace(report=report, items=lake.read(spark, ITEMS), events=lake.read(spark, EVENTS))

    yield ingest
    spark.conf.set(batch, before)


def text_figures(items):
    """How many items there are, have a text, and have one with remains of quoting, markup or white space."""
    broken = F.count_if(F.col("text").rlike(BROKEN_TEXT))
    return tuple(items.agg(F.count("*"), F.count("text"), broken).collect()[0])


def tables(items, users, events, quarantine=0):
    return {"quarantine": quarantine, "items": items, "users": users, "events": events, "user_rules": 0}


def test_movielens_small(ingested):
    found = ingested("movielens_small", "movielens-small")
    assert found.report["tables"] == tables(9742, 610, 100_836)
    assert text_figures(found.items) == (9742, 9742, 0)
    texts = {row["item_id"]: row for row in found.items.where("item_id IN ('2571', '162968', '32456')").collect()}
    matrix = texts["2571"]
    assert matrix["title"] == "The Matrix (1999)"
    assert matrix["text"].startswith("The Matrix (1999). Action, Sci-Fi, Thriller.")
    assert matrix["category"] == ["Action", "Sci-Fi", "Thriller"]
    assert '"King of Apparitions."' in texts["162968"]["text"]
    assert found.items.where("title RLIKE ', (The|A|An) [(][0-9]{4}[)]$'").isEmpty()
    times = found.events.agg(F.min("timestamp"), F.max("timestamp"), F.min("value"), F.max("value")).collect()[0]
    assert times[0].date() == date(1996, 3, 29)
    assert times[1].date() == date(2018, 9, 24)
    assert tuple(times)[2:] == (0.5, 5.0)


def test_amazon_giftcards(ingested):
    found = ingested("amazon_giftcards", "amazon-giftcards-2018")
    assert found.report["tables"] == tables(1547, 458, 2969, quarantine=3)
    assert found.report["quarantined"] == {"events: duplicate key": 3}
    assert text_figures(found.items) == (1547, 1547, 0)
    rows = found.items.select("brand", "price", "category").collect()
    assert sum(row["brand"] is not None for row in rows) == 527
    prices = [row["price"] for row in rows if row["price"] is not None]
    assert len(prices) == 358
    assert max(prices) == 1250.0
    names = {name for row in rows for name in row["category"]}
    assert {"Gift Cards", "Gift Card Accessories"} <= names
    assert not [name for name in names if "." in name or "<" in name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "folder", "expected"),
    [
        ("amazon_scientific", "amazon-scientific", tables(4385, 8442, 59_384)),
        ("amazon_beauty", "amazon-beauty-2014", tables(12_101, 22_363, 198_502)),
        ("amazon_games", "amazon-games-2018", tables(16_859, 50_546, 440_264)),
    ],
)
def test_histories_with_an_order_and_no_time(dataset, folder, expected, ingested):
    found = ingested(dataset, folder)
    assert found.report["tables"] == expected
    items = expected["items"]
    assert text_figures(found.items) == (items, items, 0)
    assert found.events.join(found.items, "item_id", "left_anti").isEmpty()
    assert found.events.agg(F.min("timestamp")).collect()[0][0] < datetime(2000, 1, 3)


@pytest.mark.slow
def test_online_retail(ingested):
    found = ingested("online_retail", "online-retail")
    figures = found.report["tables"]
    assert figures == tables(3803, 4363, 394_753, quarantine=81)
    assert found.report["quarantined"] == {"events: duplicate key": 81}
    assert text_figures(found.items) == (3803, 3803, 0)
    types = {row["event_type"]: row["count"] for row in found.events.groupBy("event_type").count().collect()}
    assert set(types) == {"purchase", "cancel"}
    assert 8_000 < types["cancel"] < 9_288
    assert found.events.where("user_id RLIKE '[^0-9]' OR value < 0").isEmpty()
