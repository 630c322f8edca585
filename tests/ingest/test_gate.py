"""Runs with too many bad rows or losses publish nothing: bad rows by table, source and run, and losses of good rows."""

import pytest

from recsys_spark.errors import QualityError
from recsys_spark.ingest.bad_rows import BadRows, advice
from recsys_spark.report.steps.data_health import lost_values
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.sources.dataset_file import TableQuery
from recsys_spark.sources.names import named_sources
from recsys_spark.tables.schemas import EVENTS
from tests.bench.shop import DATASET, LOG, PRODUCTS, Shop

RULES = """
[sources.denials]
path = "rules.csv"
options = { header = true }
[user_rules]
from = "denials"
select = { user_id = "user", item_id = "sku", rule = "'deny'" }
"""
CSV_LOG = DATASET.replace('format = "json"\nschema = "user string, sku string, what string, at string, amount string"',
                          "options = { header = true }")  # fmt: skip
HEADER = "user,sku,what,at,amount"


@pytest.fixture
def shop(spark, tmp_path):
    return Shop(tmp_path)


def views(number, first=0):
    return [LOG[1] | {"user": f"u{n}"} for n in range(first, first + number)]


def lines(number, first=0, at="2024-02-02 10:00:00"):
    return "".join(f"u{n},a2,view,{at},\n" for n in range(first, first + number))


def json_lines(rows):
    return "".join(str(row).replace("'", '"') + "\n" for row in rows)


@pytest.mark.slow
def test_a_malformed_line_counts_for_the_tables_that_name_its_source(shop):
    shop.write(log=json_lines(views(60)) + "not json\n", dataset=DATASET + RULES)
    (shop.folder / "rules.csv").write_text("user,sku\nu1,a1\n", encoding="utf-8")
    report = shop.ingest()
    assert report["quarantined"] == {"source log: malformed record": 1}
    assert report["tables"]["user_rules"] == 1


def test_a_malformed_line_counts_against_all_rows_of_its_source(shop):
    few = DATASET.replace('from = "log"', 'from = "log"\nwhere = "what = \'purchase\'"')
    shop.write(log=json_lines([*views(60), LOG[0]]) + "not json\n", dataset=few)
    assert shop.ingest()["tables"]["events"] == 1
    shop.write(log=json_lines([*views(60), LOG[0]]) + "not json\n" * 5)
    with pytest.raises(QualityError) as caught:
        shop.ingest()
    for part in ("table 'events'", "malformed record (source log): 5", f"source 'log' ({shop.folder}/log.jsonl)"):
        assert part in str(caught.value)
    assert "not json" not in str(caught.value), "a line may name people"
    assert caught.value.report == {PERSONAL: {"malformed": {"source log": "not json"}}}


def test_a_night_of_bad_rows_is_refused_however_many_good_ones_are_stored(shop):
    (shop.folder / "log").mkdir()
    shop.write(dataset=CSV_LOG.replace('"log.jsonl"', '"log"'))
    (shop.folder / "log" / "0.csv").write_text(f"{HEADER}\n{lines(900)}", encoding="utf-8")
    assert shop.ingest()["tables"]["events"] == 900
    (shop.folder / "log" / "1.csv").write_text(f"{HEADER}\n{lines(40, at='1706781600000')}", encoding="utf-8")
    with pytest.raises(QualityError, match=r"100\.0% of the rows added since the last run are bad \(40 of 40\)"):
        shop.ingest()


@pytest.mark.slow
@pytest.mark.parametrize("grows", ["by files", "as one file"])
def test_a_run_that_adds_bad_rows_is_refused_however_many_good_ones_are_stored(shop, grows):
    (shop.folder / "log").mkdir()
    shop.write(dataset=CSV_LOG.replace('"log.jsonl"', '"log"'))
    whole = [f"{HEADER}\n{lines(900)}"]

    def night(text):
        whole.append(text)
        if grows == "as one file":
            (shop.folder / "log" / "0.csv").write_text("".join(whole), encoding="utf-8")
        else:
            (shop.folder / "log" / f"{len(whole)}.csv").write_text(f"{HEADER}\n{text}", encoding="utf-8")

    (shop.folder / "log" / "0.csv").write_text(whole[0], encoding="utf-8")
    shop.ingest()
    night(lines(2, first=1000) + lines(1, at="soon"))
    assert shop.ingest()["tables"]["events"] == 902, "one bad row of three says little"
    night(lines(40, at="1706781600000"))
    with pytest.raises(QualityError) as caught:
        shop.ingest()
    message = str(caught.value)
    for part in ("table 'events': 100.0% of the rows added since the last run are bad (40 of 40)",
                 "timestamp is null or not a time (events): 40, for example '1706781600000'",
                 "milliseconds", 'timestamp = "timestamp_millis(CAST(at AS bigint))"', "source 'log'"):  # fmt: skip
        assert part in message
    night(lines(1000, first=2000))
    assert shop.ingest()["tables"]["events"] == 1902, "40 of 1,040"


@pytest.mark.parametrize(
    ("sample", "remedy"),
    [
        ("1709280000", "timestamp_seconds(CAST(at AS bigint))"),
        ("1709280000.5", "timestamp_seconds(CAST(at AS bigint))"),
        ("1706781600000", "timestamp_millis(CAST(at AS bigint))"),
        ("1.7067816E12", "timestamp_millis(CAST(at AS bigint))"),
        ("1706781600000000", "timestamp_micros(CAST(at AS bigint))"),
        ("1706781600000000000", "timestamp_micros(CAST(at AS bigint) DIV 1000)"),
        ("20240201", "to_timestamp(at, 'yyyyMMdd')"),
        ("01/02/2024 10:00", "to_timestamp(at, 'dd/MM/yyyy HH:mm:ss')"),
        ("09:15:00", "no date"),
        ("T10:15", "no date"),
        ("soon", ""),
        (None, ""),
    ],
)
def test_a_time_in_another_format_gets_a_remedy(sample, remedy):
    bad = BadRows("events", "timestamp is null or not a time", 5, sample)
    text = advice([bad, BadRows("events", "user_id is null or blank", 9)], {"timestamp": "at"})
    assert remedy in text
    assert bool(remedy) is bool(text)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"from": "log"}, {"log"}),
        ({"from": "LOG l JOIN `web-log` USING (sku)"}, {"log", "web-log"}),
        ({"from": "web-log"}, {"web-log"}),
        ({"from": "`web-log`"}, {"web-log"}),
        ({"from": "(SELECT * FROM products) -- log"}, {"products"}),
        ({"from": "products", "where": "sku IN (SELECT sku FROM log)"}, {"products", "log"}),
        ({"from": "products", "where": "kind = 'log' OR kind = \"log\""}, {"products"}),
        ({"from": "catalogue", "select": {"n": "(SELECT count(*) FROM log)"}}, {"log"}),
    ],
)
def test_a_query_names_its_sources(query, named):
    assert named_sources(TableQuery.model_validate({"select": {}} | query), ["log", "web-log", "products"]) == named


PRICED = DATASET.replace('brand = "brand" }', 'brand = "brand", price = "price" }')
PRICES = "sku,name,brand,price\n" + "".join(f"a{n},pot,ada,{price}\n" for n, price in enumerate(
    ['"$1,299.00"', "free", "9.99 - 14.99", "12.50", "7", "8", "NaN", "", "None"], 1))  # fmt: skip


def test_prices_that_are_no_numbers_are_counted_and_refused_where_most_are(shop, caplog):
    shop.write(products=PRICES, dataset=PRICED)
    report = shop.ingest()
    lost = {"rows": 3, "of": 6, "samples": ["$1,299.00", "9.99 - 14.99", "free"]}
    assert report["losses"]["items: price is not a number"] == lost
    section = lost_values(Run("render_report", shop.lake, Progress()))
    assert section.rows[0] == ["items", "price is not a number", 3, 0.5, "$1,299.00, 9.99 - 14.99, free"]
    assert "'$1,299.00'" in " ".join(caplog.messages)
    shop.write(products=PRICES + "b1,pot,ada,Infinity\nb2,pot,ada,1e999\n")
    with pytest.raises(QualityError) as caught:
        shop.ingest()
    for part in ("table 'items': price is not a number: 5 of 8 rows", "'$1,299.00', '1e999'", "source 'products'",
                 'price = "try_cast(', "--max_lost_share"):  # fmt: skip
        assert part in str(caught.value)
    assert caught.value.report["losses"]["items: price is not a number"]["rows"] == 5
    assert shop.ingest(max_lost_share=1)["tables"]["items"] == 11


def test_a_file_that_is_not_utf_8_is_reported(shop, caplog):
    rows = PRODUCTS + "a3,chaise en chêne,Große\n"
    (shop.folder / "products.csv").write_bytes(rows.encode("iso-8859-1"))
    (shop.folder / "log.csv").write_bytes(f"{HEADER}\n{lines(3)}zoé,a1,view,2024-02-02,\n".encode("iso-8859-1"))
    shop.write(dataset=CSV_LOG.replace("log.jsonl", "log.csv"))
    report = shop.ingest()
    lost = report["losses"]["items: characters that are not UTF-8 (U+FFFD)"]
    assert (lost["rows"], lost["of"]) == (1, 3)
    assert "chaise en ch\ufffdne" in lost["samples"][0]
    assert report["losses"]["events: characters that are not UTF-8 (U+FFFD)"] == {"rows": 1, "of": 4, "samples": []}
    for part in ("source 'products'", "source 'log'", 'encoding = "windows-1252"'):
        assert part in " ".join(caplog.messages)


@pytest.mark.slow
def test_a_file_is_read_in_the_encoding_that_is_named(shop):
    rows = PRODUCTS + "a3,chaise en chêne,Große\n"
    (shop.folder / "products.csv").write_bytes(rows.encode("iso-8859-1"))
    (shop.folder / "log.csv").write_bytes(f"{HEADER}\n{lines(3)}zoé,a1,view,2024-02-02,\n".encode("iso-8859-1"))
    named = CSV_LOG.replace("log.jsonl", "log.csv").replace("{ header", '{ encoding = "windows-1252", header')
    shop.write(dataset=named)
    assert shop.ingest()["losses"] == {}


def test_events_about_no_item_are_counted_and_refused_where_they_are_nearly_all(shop):
    shop.write(products="sku,name,brand\n10000001,tea pot,ada\n10000002,spade,\n")
    floats = [row | {"sku": f"1.000000{n % 2 + 1}E7"} for n, row in enumerate(views(30))]
    shop.write(log=json_lines(floats))
    with pytest.raises(QualityError) as caught:
        shop.ingest()
    for part in ("30 of 30 events are about items outside the catalogue", "'1.0000001E7'", "'10000001'",
                 'item_id = "CAST(CAST(sku AS decimal(38, 0)) AS string)"', "source 'log'"):  # fmt: skip
        assert part in str(caught.value)
    assert shop.lake.version(EVENTS) is None
    shop.write(log=json_lines([*floats, LOG[0] | {"sku": "10000001"}]))
    report = shop.ingest()
    assert report["losses"]["events: item_id is in no item"] == {"rows": 30, "of": 31, "samples": ["1.0000001E7"]}


@pytest.mark.slow
def test_events_about_no_item_that_is_like_them_are_refused_unless_allowed(shop):
    shop.write(products="sku,name,brand\n10000001,tea pot,ada\n10000002,spade,\n")
    unlike = [row | {"sku": "nothing of ours"} for row in views(5)]
    shop.write(log=json_lines(unlike))
    with pytest.raises(QualityError, match="which column of the log names an item, or raise --max_unknown_share"):
        shop.ingest()
    assert shop.ingest(max_unknown_share=1)["tables"]["events"] == 5


@pytest.mark.slow
def test_a_run_that_adds_events_about_no_item_is_refused(shop):
    (shop.folder / "log").mkdir()
    shop.write(dataset=CSV_LOG.replace('"log.jsonl"', '"log"'), products=PRODUCTS + "A7,cup,\n")

    def night(name, text):
        (shop.folder / "log" / name).write_text(f"{HEADER}\n{text}", encoding="utf-8")

    night("0.csv", lines(900))
    shop.ingest()
    night("1.csv", lines(3, first=1000).replace("a2", "withdrawn"))
    report = shop.ingest()
    assert report["log_read"] == "1 new files"
    assert report["losses"] == {"events: item_id is in no item": {"rows": 3, "of": 3, "samples": ["withdrawn"]}}
    night("2.csv", lines(40, first=2000).replace("a2", "a7"))
    with pytest.raises(QualityError, match="40 of 40 events .* They are the same in lower case"):
        shop.ingest()
