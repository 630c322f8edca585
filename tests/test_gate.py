"""What is too bad to publish: bad rows by table, source and night, and what good rows lose."""

import pytest

from recsys_spark.bad_rows import Bad, advice
from recsys_spark.dataset import TableQuery
from recsys_spark.errors import QualityError
from recsys_spark.source_names import named_sources
from tests.test_ingest import DATASET, LOG, Shop

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


def test_a_malformed_line_counts_for_the_tables_that_name_its_source(shop):
    shop.write(log=json_lines(views(60)) + "not json\n", dataset=DATASET + RULES)
    (shop.folder / "rules.csv").write_text("user,sku\nu1,a1\n", encoding="utf-8")
    report = shop.ingest()
    assert report["quarantined"] == {"source log: malformed record": 1}
    assert report["tables"]["user_rules"] == 1


def test_a_malformed_line_counts_against_all_that_was_read_of_its_source(shop):
    few = DATASET.replace('from = "log"', 'from = "log"\nwhere = "what = \'purchase\'"')
    shop.write(log=json_lines([*views(60), LOG[0]]) + "not json\n", dataset=few)
    assert shop.ingest()["tables"]["events"] == 1
    shop.write(log=json_lines([*views(60), LOG[0]]) + "not json\n" * 5)
    with pytest.raises(QualityError) as caught:
        shop.ingest()
    for part in ("table 'events'", "malformed record (source log): 5", f"source 'log' ({shop.folder}/log.jsonl)"):
        assert part in str(caught.value)
    assert "not json" not in str(caught.value), "a line may name people"


@pytest.mark.parametrize("grows", ["by files", "as one file"])
def test_a_night_of_bad_rows_is_refused_however_many_good_ones_there_were(shop, grows):
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
    for part in ("table 'events': 100.0% of the rows that came since the last run are bad (40 of 40)",
                 "timestamp is null or not a time (events): 40, for example '1706781600000'",
                 "milliseconds", 'timestamp = "timestamp_millis(CAST(at AS bigint))"', "source 'log'"):  # fmt: skip
        assert part in message
    night(lines(1000, first=2000))
    assert shop.ingest()["tables"]["events"] == 1902, "40 of 1,040"


@pytest.mark.parametrize(
    ("sample", "said"),
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
def test_a_time_that_is_none_is_told_what_makes_one_of_it(sample, said):
    bad = Bad("events", "timestamp is null or not a time", 5, sample)
    found = advice([bad, Bad("events", "user_id is null or blank", 9)], {"timestamp": "at"})
    assert said in found
    assert bool(said) is bool(found)


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
