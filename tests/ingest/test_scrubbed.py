"""A dataset file with scrub = true: values are counted by kind, and are in no file of the lake."""

from datetime import timedelta
from pathlib import Path

import pytest

from recsys_spark.sources.dataset_file import load_dataset
from recsys_spark.tables.schemas import EVENTS, ITEMS, QUARANTINE
from tests.bench.event_files import DATASET, FIRST, Shop
from tests.bench.lake_files import files_that_name

TEXTS = 'select = { item_id = "sku", title = "name", brand = "brand", price = "price", updated_at = "at" }'

SCRUBBED = "scrub = true\n" + DATASET.replace('select = { item_id = "sku", title = "name", brand = "brand" }', TEXTS)

SECRETS = ("jo@example.de", "415-555-2671", "4111 1111 1111 1111", "Ann Miller", "12 Oak Road", "13812345678")


def products(shop, *lines):
    text = "\n".join(["sku,name,brand,price,at", *lines]) + "\n"
    (shop.folder / "products.csv").write_text(text, encoding="utf-8")


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path / "shop", SCRUBBED)
    products(
        made,
        'a1,"Dear Ann Miller, mail jo@example.de or call 415-555-2671",ada,"call 415-555-2671",2024-01-01',
        'a2,"pot, paid by 4111 1111 1111 1111",电话13812345678,3,jo@example.de',
        "a3,red tea pot,ada,3,",
        ',"seen at 12 Oak Road",ada,3,',
    )
    made.log(
        "1.csv", "u1,a1,2024-02-01,1", "13812345678,a2,2024-02-01,1", 'u3,a1,"mail jo@example.de",1', "u4,a1,x,1,2"
    )
    return made


def test_values_are_counted_by_kind_and_are_nowhere_in_the_lake(spark, shop, caplog, capsys):
    lake = shop.lake()
    report = shop.ingest(lake)
    assert report["scrubbed"] == {"items: email": 1, "items: name": 1, "items: card": 1, "items: phone": 2}
    titles = {row.item_id: (row.title, row.text, row.brand) for row in lake.read(spark, ITEMS).collect()}
    assert titles["a1"][0] == "Dear <name>, mail <email> or call <phone>"
    assert titles["a2"] == ("pot, paid by <card>", "pot, paid by <card>.", "电话<phone>")
    assert titles["a3"] == ("red tea pot", "red tea pot.", "ada")
    assert {row.user_id for row in lake.read(spark, EVENTS).collect()} == {"u1", "13812345678"}, "an id is no text"
    lost = report["losses"]["items: price is not a number"]
    assert (lost["rows"], lost["samples"]) == (1, ["aaaa 999-999-9999"])
    rows = "\n".join(row.row for row in lake.read(spark, QUARANTINE).collect())
    assert "seen at <address>" in rows
    for secret in SECRETS[:-1]:
        assert secret not in rows + caplog.text + "".join(capsys.readouterr()) + str(report)
        assert not files_that_name(Path(lake.uri), secret), secret


def test_turning_it_on_makes_only_the_affected_texts_again(spark, shop):
    lake, dataset = shop.lake(), shop.folder / "shop.toml"
    dataset.write_text(SCRUBBED.replace("scrub = true\n", ""), encoding="utf-8")
    assert "scrubbed" not in shop.ingest(lake)
    before = {row.item_id: row.text_hash for row in lake.read(spark, ITEMS).collect()}
    dataset.write_text(SCRUBBED, encoding="utf-8")
    report = shop.ingest(lake)
    assert (report["status"], report["items_changes"]["changed"]) == ("done", 2)
    after = {row.item_id: row.text_hash for row in lake.read(spark, ITEMS).collect()}
    assert {item for item in before if before[item] != after[item]} == {"a1", "a2"}
    assert shop.ingest(lake)["status"] == "unchanged"
    shop.log("2.csv", "u9,a1,2024-02-02,1")
    assert shop.ingest(lake, FIRST + timedelta(days=1))["log_read"] == "1 new files"


def test_a_dataset_file_without_it_has_the_run_key_of_before(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text(DATASET, encoding="utf-8")
    assert "scrub" not in load_dataset(str(path)).model_dump(mode="json")
