"""Raw rows to tables: cleaning, templates, duplicates, quarantine, the gate, and errors in a dataset file."""

import json
from datetime import date
from types import SimpleNamespace

import pytest
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from recsys_spark.errors import ConflictError, InputError, QualityError, UsageError
from recsys_spark.errors.messages import to_user_error
from recsys_spark.ingest.steps import ingest_tables as ingest_step
from recsys_spark.ingest.validation import (
    accepted,
    rejected,
    repeated_events,
    unique_events,
    users_of,
    validate_events,
    validate_items,
    validate_rules,
    validate_users,
)
from recsys_spark.tables.schemas import EVENTS, ITEMS, QUARANTINE, USER_RULES, USERS
from tests.bench.shop import DATASET, LOG, PRODUCTS, Shop

ITEM_DDL = "item_id string, title string, blurb string, category string, brand string, price string, updated_at string"


EVENT_DDL = "user_id string, item_id string, event_type string, timestamp string, value string"


# Spark takes the day on which it runs for some of these.
WITHOUT_A_DATE = [
    "09:15:00",
    "9:15",
    "T10:15",
    "\t09:15:00",
    "10:15 Europe/Berlin",
    "10:15:00Z",
    "now",
    "today",
    "epoch",
]


@pytest.fixture
def shop(spark, tmp_path):
    return Shop(tmp_path)


def split(frame, table):
    rows = frame.collect()
    good = [row for row in rows if row["reason"] is None]
    return SimpleNamespace(
        good=sorted(tuple(row[column] for column in table.columns) for row in good),
        reasons=sorted(row["reason"] for row in rows if row["reason"] is not None),
        by_id={row[table.key[0]]: row for row in good},
    )


@pytest.fixture(scope="module")
def items(spark):
    """One plan over every kind of good and bad item."""
    rows = [
        ("plain", "Tea pot", "For tea.", "kitchen", "ada", "12.50", None),
        ("dirty", "  <b>Tea</b>\u200b&amp; \n\t pot ", "<br/>", "  ", "<i></i>", "cheap", None),
        ("no brand", "Tea pot", "For tea.", None, None, None, None),
        ("nothing", None, "&nbsp;", None, None, "-1e3", None),
        ("  padded  ", "Tea", None, None, None, "NaN", None),
        ("emoji", "👩‍👩‍👧 tea 🫖", "שלום \u202eעולם", None, None, None, None),
        ("composed", "Cafe\u0301", None, None, None, None, None),
        ("huge", "x" * 1_000_000, None, None, None, None, None),
        ("twice", "old", None, None, None, None, "2024-01-01"),
        ("twice", "new", None, None, None, None, "2024-02-01"),
        ("twice", "undated", None, None, None, None, None),
        (None, "no id", None, None, None, None, None),
        ("", "empty id", None, None, None, None, None),
        (" \t ", "blank id", None, None, None, None, None),
    ]
    frame = spark.createDataFrame(rows, ITEM_DDL)
    return split(validate_items(frame, ["{title}.", "{brand} makes it.", "{blurb}"], 20_000), ITEMS)


def test_a_text_is_built_from_cleaned_fields(items):
    row = items.by_id["plain"]
    assert row["text"] == "Tea pot. ada makes it. For tea."
    assert (row["category"], row["brand"], row["price"]) == (["kitchen"], "ada", 12.5)
    assert len(row["text_hash"]) == 64
    assert items.by_id["dirty"]["title"] == "Tea & pot"


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("dirty", "Tea & pot."),
        ("no brand", "Tea pot. For tea."),
        ("nothing", None),
        ("padded", "Tea."),
        ("emoji", "👩‍👩‍👧 tea 🫖. שלום עולם"),
        ("composed", "Caf\u00e9."),
    ],
)
def test_a_piece_of_the_template_is_left_out_when_a_field_of_it_is_missing(item, text, items):
    assert items.by_id[item]["text"] == text


def test_no_text_has_no_hash_and_what_is_no_number_has_no_price(items):
    assert items.by_id["nothing"]["text_hash"] is None
    assert items.by_id["dirty"]["price"] is None
    assert items.by_id["dirty"]["category"] is None
    assert items.by_id["dirty"]["brand"] is None


def test_a_huge_text_is_cut(items):
    assert items.by_id["huge"]["text"] == "x" * 20_000
    assert len(items.by_id["huge"]["title"]) == 20_000


def test_items_without_an_id_are_rejected_each_on_its_own(items):
    assert items.reasons == ["duplicate key"] * 2 + ["item_id is null or blank"] * 3


def test_of_several_rows_of_one_item_the_newest_stays(items):
    assert items.by_id["twice"]["title"] == "new"


def test_texts_that_are_equal_share_a_hash_whoever_they_belong_to(spark, items):
    users = validate_users(spark.createDataFrame([("u1", "Tea")], "user_id string, title string"), ["{title}."], 100)
    assert users.collect()[0]["text_hash"] == items.by_id["padded"]["text_hash"]


@pytest.mark.parametrize("partitions", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_duplicates_fall_the_same_way_however_the_rows_lie(spark, partitions):
    rows = [("a", f"title {n % 7}", None, None, None, str(n), f"2024-01-0{n % 3 + 1}") for n in range(30)]
    expected = max((row[6], json.dumps(row[1]), row[5]) for row in rows if row[6] == "2024-01-03")
    for order in (rows, rows[::-1]):
        frame = spark.createDataFrame(order, ITEM_DDL).repartition(partitions)
        [row] = accepted(validate_items(frame, ["{title}"], 100), ITEMS).collect()
        assert [(row["title"], row["price"])] == [(json.loads(expected[1]), float(expected[2]))]


@pytest.fixture(scope="module")
def events(spark):
    """One plan over every kind of good and bad event; valid from 2024-01-01 to 2024-03-01."""
    rows = [
        (" u1 ", "a1", " view ", "2024-02-01 10:00:00", None),
        ("u1", "a1", "rating", "2024-01-01", "4.5"),
        ("u1", "a1", "rating", "2024-03-01 23:59:59.999999", "-2"),
        ("u1", "a2", "rating", "2024-02-01T12:00:00+02:00", "3"),
        ("u1", "a3", "rating", "2024-02-01 10:00:00", "3"),
        ("u1", "a3", "rating", "2024-02-01 10:00:00", "5"),
        ("u1", "a3", "rating", "2024-02-01 10:00:00", None),
        (None, "a1", "view", "2024-02-01 10:00:00", None),
        ("u1", " ", "view", "2024-02-01 10:00:00", None),
        ("u1", "a1", "", "2024-02-01 10:00:00", None),
        ("u1", "a1", "view", None, None),
        ("u1", "a1", "view", "yesterday", None),
        ("u1", "a1", "view", "2024-02-30 00:00:00", None),
        *(("u1", "a1", "view", at, None) for at in WITHOUT_A_DATE),
        ("u1", "a1", "view", "1970-01-01 00:00:00", None),
        ("u1", "a1", "view", "2023-12-31 23:59:59.999999", None),
        ("u1", "a1", "view", "2024-03-02 00:00:00", None),
        ("u1", "a1", "view", "9999-12-31 00:00:00", None),
        ("u1", "a1", "rating", "2024-02-01 10:00:00", "good"),
        ("u1", "a1", "rating", "2024-02-01 10:00:00", "NaN"),
        ("u1", "a1", "rating", "2024-02-01 10:00:00", "Infinity"),
        ("u1", "a1", "rating", "2024-02-01 10:00:00", "-inf"),
        ("u1", "a1", "rating", "2024-02-01 10:00:00", "1e999"),
    ]
    frame = validate_events(spark.createDataFrame(rows, EVENT_DDL), date(2024, 1, 1), date(2024, 3, 1))
    good = frame.where("reason IS NULL")
    bad = frame.where("reason IS NOT NULL").unionByName(repeated_events(good).select(*frame.columns))
    unique = unique_events(good).withColumns({"reason": F.lit(None).cast("string"), "row": F.lit(None).cast("string")})
    whole = bad.unionByName(unique.select(*bad.columns))
    return split(whole.withColumn("timestamp", F.col("timestamp").cast("string")), EVENTS)


def test_good_events_are_trimmed_and_keep_their_utc_time(events):
    assert events.good == [
        ("u1", "a1", "rating", "2024-01-01 00:00:00", 4.5),
        ("u1", "a1", "rating", "2024-03-01 23:59:59.999999", -2.0),
        ("u1", "a1", "view", "2024-02-01 10:00:00", None),
        ("u1", "a2", "rating", "2024-02-01 10:00:00", 3.0),
        ("u1", "a3", "rating", "2024-02-01 10:00:00", 5.0),
    ]


def test_bad_events_are_rejected_with_the_reason(events):
    assert events.reasons == sorted(
        ["duplicate key"] * 2
        + ["user_id is null or blank", "item_id is null or blank", "event_type is null or blank"]
        + ["timestamp is null or not a time"] * (3 + len(WITHOUT_A_DATE))
        + ["timestamp before 2024-01-01"] * 2
        + ["timestamp after 2024-03-01"] * 2
        + ["value is not a number"] * 5
    )


def test_numbers_and_times_of_other_types_are_understood(spark):
    frame = spark.sql("SELECT 7L AS user_id, 8 AS item_id, 'rating' AS event_type, date'2024-02-01' AS timestamp, "
                      "float(4.5) AS value")  # fmt: skip
    unique = unique_events(validate_events(frame, date(2024, 1, 1), date(2024, 3, 1))).drop("rows")
    assert dict(unique.dtypes) == EVENTS.columns
    assert tuple(unique.drop("timestamp").collect()[0]) == ("7", "8", "rating", 4.5)


def test_a_category_is_a_path_without_blank_names(spark):
    frame = spark.sql("SELECT 'a' AS item_id, 't' AS title, array(' home ', '', null, 'tea') AS category, "
                      "'b' AS brand, 1 AS price, null AS updated_at")  # fmt: skip
    [row] = accepted(validate_items(frame, [], 100), ITEMS).collect()
    assert (row["category"], row["text"]) == (["home", "tea"], None)


def test_names_within_names_are_names_of_the_category(spark):
    nested = "array(array('Home', ' Seat '), null, array(null, ''), array('Sale'))"
    frame = spark.sql(
        f"SELECT 'a' AS item_id, array('Tea', null, 'pot') AS title, {nested} AS category, 'b' AS brand, 1 AS price, "
        "null AS updated_at UNION ALL SELECT 'b', array(' '), array(array(' ')), 'b', 1, null"
    )
    rows = {row["item_id"]: row for row in accepted(validate_items(frame, ["{title}."], 100), ITEMS).collect()}
    assert (rows["a"]["category"], rows["a"]["title"], rows["a"]["text"]) == (
        ["Home", "Seat", "Sale"],
        "Tea pot",
        "Tea pot.",
    )
    assert (rows["b"]["category"], rows["b"]["title"], rows["b"]["text"]) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("array('solid oak', null, ' ', '45 cm')", "Of solid oak 45 cm."),
        ("array(1.5, null, 2)", "Of 1.5 2.0."),
        ("array(array('oak'), null, array('45', 'cm'))", "Of oak 45 cm."),
        ("array()", None),
        ("array(null)", None),
        ("CAST(null AS array<string>)", None),
    ],
)
def test_an_array_in_a_template_is_joined(given, read, spark):
    frame = spark.sql(f"SELECT 'u' AS user_id, {given} AS likes")
    assert accepted(validate_users(frame, ["Of {likes}."], 100), USERS).collect()[0]["text"] == read


@pytest.mark.parametrize(
    ("column", "given", "kind"),
    [
        ("blurb", "named_struct('en', 'tea')", "struct<en:string>"),
        ("blurb", "map('en', 'tea')", "map<string,string>"),
        ("title", "array(named_struct('en', 'tea'))", "array<struct<en:string>>"),
        ("category", "array(named_struct('name', 'tea'))", "array<struct<name:string>>"),
        ("category", "map('en', 'tea')", "map<string,string>"),
    ],
)
def test_values_with_parts_are_refused_by_name_and_type(column, given, kind, spark):
    frame = spark.createDataFrame([("a",) * 7], ITEM_DDL).withColumn(column, F.expr(given))
    with pytest.raises(UsageError) as caught:
        validate_items(frame, ["{title} {blurb}"], 100)
    assert f"table 'items': {column} is {kind}" in str(caught.value)


def test_the_newest_row_is_none_whose_time_has_no_date(spark):
    rows = [("a", "dated", None, None, None, None, "2024-01-01"), ("a", "undated", None, None, None, None, "09:15:00")]
    good = validate_items(spark.createDataFrame(rows, ITEM_DDL), ["{title}"], 100).where("reason IS NULL").collect()
    assert [(row["title"], row["losses"]) for row in good] == [("dated", [])]


def test_accepted_and_rejected_split_the_rows(spark):
    frame = spark.createDataFrame([("u1",), (None,), ("u1",)], "user_id string")
    users = validate_users(frame, [], 100)
    assert [tuple(row) for row in accepted(users, USERS).collect()] == [("u1", None, None, None, None, None)]
    bad = sorted(tuple(row) for row in rejected(users, USERS).collect())
    assert bad == [("users", "duplicate key", '{"user_id":"u1"}'), ("users", "user_id is null or blank", "{}")]


def test_groups_of_users_are_kept_without_their_gaps(spark):
    frame = spark.createDataFrame([("u1", ["gender: woman", None])], "user_id string, groups array<string>")
    assert accepted(validate_users(frame, [], 100), USERS).collect()[0]["groups"] == ["gender: woman"]


def test_users_are_everybody_with_an_event(spark):
    events = spark.createDataFrame([("u1", "a"), ("u2", "a"), ("u1", "b")], "user_id string, item_id string")
    users = users_of(events)
    assert dict(users.dtypes) == USERS.columns
    assert sorted(tuple(row) for row in users.collect()) == [
        ("u1", None, None, None, None, None),
        ("u2", None, None, None, None, None),
    ]


def test_a_dataset_becomes_its_tables_and_only_what_changed_makes_a_new_version(shop, spark):
    report = shop.ingest()
    assert report == {
        "status": "done",
        "tables": {"quarantine": 0, "items": 2, "users": 2, "events": 2, "user_rules": 0},
        "log_read": "all: it is the first run",
        "log_rows": 2,
        "log_bytes": 165,
        "log_bytes_of": 165,
        "quarantined": {},
        "losses": {},
        **{f"{name}_changes": {"added": 2, "changed": 0, "removed": 0} for name in ("items", "users", "events")},
    }  # fmt: skip
    texts = {row["item_id"]: row["text"] for row in shop.rows(spark, ITEMS)}
    assert texts == {"a1": "red tea pot. Made by ada.", "a2": "garden spade."}
    assert sorted(row["user_id"] for row in shop.rows(spark, USERS)) == ["u1", "u2"]
    again = shop.ingest(run_date=date(2024, 4, 1))  # the dataset file states its own latest day
    assert again == {"status": "unchanged", "tables": report["tables"]}
    assert shop.lake.version(ITEMS) == 0
    shop.write(products=PRODUCTS + "a3,tea cup,ada\n")
    assert shop.ingest(max_text_chars=5)["tables"]["items"] == 3
    assert {row["text"] for row in shop.rows(spark, ITEMS)} == {"red t", "garde", "tea c"}
    assert shop.lake.version(ITEMS) == 1


@pytest.mark.slow
def test_a_run_over_older_sources_does_not_replace_a_newer_one(shop, spark, monkeypatch):
    shop.ingest()
    validate = ingest_step._validate

    def overtaken(*given):
        monkeypatch.setattr(ingest_step, "_validate", validate)
        validated = validate(*given)
        shop.write(products=PRODUCTS + "a3,tea cup,ada\n")
        shop.ingest()
        return validated

    shop.write(products=PRODUCTS + "a4,tea,ada\n")
    monkeypatch.setattr(ingest_step, "_validate", overtaken)
    with pytest.raises(ConflictError):
        shop.ingest()
    assert {row["item_id"] for row in shop.rows(spark, ITEMS)} == {"a1", "a2", "a3"}


@pytest.mark.slow
def test_new_changed_and_removed_files_of_a_pattern_are_noticed(shop, spark):
    clicks = shop.folder / "clicks" / "day=1"
    clicks.mkdir(parents=True)
    for number, row in enumerate(LOG):
        (clicks / f"{number}.json").write_text(json.dumps(row) + "\n", encoding="utf-8")
    shop.write(dataset=DATASET.replace('"log.jsonl"', '"clicks/*/*.json"'))
    assert shop.ingest()["tables"]["events"] == 2
    assert shop.ingest()["status"] == "unchanged"
    late = clicks.parent / "day=0"
    late.mkdir()
    (late / "late.json").write_text(json.dumps(LOG[0] | {"user": "u3"}) + "\n", encoding="utf-8")
    assert shop.ingest()["tables"]["events"] == 3
    (clicks / "1.json").write_text("".join(json.dumps(LOG[1] | {"sku": s}) + "\n" for s in ("a1", "a2")))
    assert shop.ingest()["tables"]["events"] == 4
    (late / "late.json").unlink()
    assert shop.ingest()["tables"]["events"] == 3
    assert shop.ingest()["status"] == "unchanged"
    shop.write(dataset=DATASET.replace('"log.jsonl"', '"clicks/*/*.csv"'))
    with pytest.raises(InputError, match="source 'log': no file matches .*clicks/"):
        shop.ingest()


def test_malformed_records_go_to_quarantine_and_the_rest_is_published(shop, spark):
    more = "a3,tea,cup,too many\na4,too few\n"
    lines = "".join(json.dumps(row) + "\n" for row in LOG)
    broken = '{"user": "u3", "sku": \nnot json\n[1, 2\n'
    shop.write(products=PRODUCTS + more, log=lines + broken)
    report = shop.ingest(max_bad_share=0.9)
    assert report["tables"] == {"quarantine": 5, "items": 2, "users": 2, "events": 2, "user_rules": 0}
    assert report["quarantined"] == {"source log: malformed record": 3, "source products: malformed record": 2}
    quarantined = " ".join(row["row"] for row in shop.rows(spark, QUARANTINE))
    for part in ("a3,tea,cup,too many", "a4,too few", "not json"):
        assert part in quarantined


@pytest.mark.slow
def test_json_without_a_schema_quarantines_malformed_lines_too(shop):
    shop.write(dataset=DATASET.replace('schema = "user string, sku string, what string, at string, amount string"', ""))
    shop.write(log="".join(json.dumps(row) + "\n" for row in LOG) + "not json\n")
    report = shop.ingest(max_bad_share=0.9)
    assert report["tables"] == {"quarantine": 1, "items": 2, "users": 2, "events": 2, "user_rules": 0}
    assert report["quarantined"] == {"source log: malformed record": 1}


def test_lone_surrogates_become_replacement_characters(shop, spark):
    rows = '{"sku": "a1", "name": "tea \\ud83d pot"}\n{"sku": "a2", "name": "\\ud83e\\uded6 tea"}\n'
    (shop.folder / "products.jsonl").write_text(rows, encoding="ascii")
    dataset = DATASET.replace('"products.csv"', '"products.jsonl"\nformat = "json"\nschema = "sku string, name string"')
    shop.write(dataset=dataset.replace(', brand = "brand"', "").replace(', "Made by {brand}."', "")
               .replace("options = { header = true }\n", ""))  # fmt: skip
    shop.ingest()
    titles = {row["item_id"]: row["title"] for row in shop.rows(spark, ITEMS)}
    assert titles["a2"] == "🫖 tea"
    assert titles["a1"] in ("tea \ufffd pot", "tea ? pot")


def test_above_the_gate_nothing_is_published(shop):
    shop.write(log=[*LOG, {"user": "u9", "sku": "a1", "what": "view", "at": "1970-01-01 00:00:00"}])
    with pytest.raises(QualityError) as caught:
        shop.ingest(max_bad_share=0.3)
    message = str(caught.value)
    for part in ("table 'events': 33.3% of the rows are bad", "max_bad_share 30.0%", "nothing was published",
                 "timestamp before 2024-01-01 (events): 1", "--max_bad_share"):  # fmt: skip
        assert part in message
    assert all(shop.lake.version(table) is None for table in (ITEMS, USERS, EVENTS, QUARANTINE))


def test_at_the_gate_and_with_duplicates_everything_is_published(shop):
    shop.write(log=[*LOG, LOG[0], LOG[0], {"user": "", "sku": "a1", "what": "view", "at": "2024-02-02 10:00:00"}])
    report = shop.ingest(max_bad_share=0.34)
    assert report["quarantined"] == {"events: duplicate key": 2, "events: user_id is null or blank": 1}
    assert report["tables"]["events"] == 2


def test_a_dry_run_writes_nothing(shop):
    assert shop.ingest(dry_run=True) == {"tables": {}}
    assert not (shop.folder / "lake").exists()


@pytest.mark.slow
def test_latest_run_date_believes_one_day_after_it(shop, spark):
    days = ["2024-02-29 23:59:59", "2024-03-01 12:00:00", "2024-03-02 12:00:00", "2024-03-03 00:00:00"]
    shop.write(
        dataset=DATASET.replace("latest = 2024-12-31", 'latest = "run_date"'), log=[LOG[0] | {"at": at} for at in days]
    )
    report = shop.ingest(max_bad_share=0.5)
    assert report["quarantined"] == {"events: timestamp after 2024-03-02": 1}
    later = shop.ingest(run_date=date(2024, 3, 2))
    assert (later["status"], later["tables"]["events"], later["quarantined"]) == ("done", 4, {})


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('title = "name"', 'title = "nmae"', ["table 'items'", "`nmae`", "`name`"]),
        ('from = "log"', 'from = "lgo"', ["table 'events'", "`lgo`"]),
        ('value = "amount"', 'value = "no_such(amount)"', ["table 'events'", "no_such"]),
        ('item_id = "sku", title', "title", ["[items.select]", "item_id"]),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                ('value = "amount"', 'value = "amount +"', ["table 'events'"]),
                ('"{title}."', '"{title} {colour}."', ["[items.select]", "colour"]),
                ('event_type = "what", ', "", ["[events.select]", "event_type"]),
                ('value = "amount"', 'value = "array(amount)"', ["table 'events'", "value"]),
                ('title = "name"', 'title = "name", price = "array(sku)"', ["table 'items'", "price"]),
            ]
        ),
    ],
)  # fmt: skip
def test_an_error_in_a_dataset_file_names_the_table_and_the_column(old, new, named, shop):
    shop.write(dataset=DATASET.replace(old, new))
    with pytest.raises(UsageError) as caught:
        shop.ingest()
    message = str(caught.value)
    assert len(message) < 500
    for part in ["dataset file", *named]:
        assert part in message


def test_a_missing_source_is_named_before_spark_is_asked(shop):
    (shop.folder / "log.jsonl").unlink()
    with pytest.raises(InputError, match=f"source 'log': {shop.folder}/log.jsonl does not exist"):
        shop.ingest()


@pytest.mark.parametrize("name", ["products", "log"])
def test_an_empty_source_is_named(name, shop):
    shop.write(**{name: ""})
    with pytest.raises(InputError, match=f"source '{name}': .* is empty"):
        shop.ingest()


def test_a_source_with_a_header_alone_makes_an_empty_table_and_is_refused(shop):
    shop.write(products="sku,name,brand\n")
    with pytest.raises(InputError, match="table 'items' would be empty"):
        shop.ingest()
    assert shop.lake.version(EVENTS) is None


def test_a_source_of_blank_lines_is_empty(shop):
    shop.write(products="\n\n")
    with pytest.raises(InputError, match=r"source 'products'|table 'items'"):
        shop.ingest()


def test_a_value_that_an_expression_cannot_take_is_explained(shop):
    shop.write(dataset=DATASET.replace('value = "amount"', 'value = "CAST(amount AS int)"'))
    shop.write(log=[LOG[0] | {"amount": "a lot"}, *LOG])
    with pytest.raises((PySparkException, Py4JError)) as caught:
        shop.ingest()
    error = to_user_error(caught.value)
    assert isinstance(error, QualityError)
    assert "try_cast" in str(error)
    assert "'a lot'" in str(error)
    assert "\n" not in str(error)
    assert shop.lake.version(ITEMS) is None


def test_columns_for_eligibility_rules_are_ingested_and_validated(spark):
    ddl = "item_id string, title string, category string, brand string, price string, updated_at string, "
    ddl += "locale string, available_from string, available_until string, boost string"
    rows = [
        ("a", "tea", None, None, None, None, " de ", "2024-02-01", "2024-03-01", "0.5"),
        ("b", "tea", None, None, None, None, None, None, " ", ""),
        ("c", "tea", None, None, None, None, None, "soon", None, None),
        ("d", "tea", None, None, None, None, None, None, None, "high"),
        ("e", "tea", None, None, None, None, None, "09:15:00", None, None),
        ("f", "tea", None, None, None, None, None, None, "today", None),
    ]
    result = split(validate_items(spark.createDataFrame(rows, ddl), ["{title}"], 100), ITEMS)
    about = ("locale", "available_from", "available_until", "boost")
    assert [result.by_id["a"][name] for name in about] == ["de", date(2024, 2, 1), date(2024, 3, 1), 0.5]
    assert [result.by_id["b"][name] for name in about] == [None] * 4
    dates = ["available_from is not a date"] * 2 + ["available_until is not a date"]
    assert result.reasons == [*dates, "boost is not a number"]


def test_user_rules_are_allow_or_deny(spark):
    rows = [("u1", "a", "Deny"), ("u1", "b", "allow "), ("u1", "c", "perhaps"), ("", "a", "deny"), ("u1", "a", "deny")]
    result = split(
        validate_rules(spark.createDataFrame(rows, "user_id string, item_id string, rule string")), USER_RULES
    )
    assert result.good == [("u1", "a", "deny"), ("u1", "b", "allow")]
    assert result.reasons == ["duplicate key", "rule is neither allow nor deny", "user_id is null or blank"]


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        ("array<double>", [[0.5, 1.0], [], None, [0.5, None], [1e300, 1.0]], [[0.5, 1.0], None, None]),
        ("array<string>", [["0.5", "1"], [], None, ["0.5", "x"], ["NaN", "1"]], [[0.5, 1.0], None, None]),
        ("string", ["[0.5, 1]", " ", None, "0.5, 1", "[0.5, null]"], [[0.5, 1.0], None, None]),
    ],
)
def test_vectors_that_come_with_items_are_arrays_or_json(spark, kind, given, read):
    ddl = "item_id string, title string, category string, brand string, price string, updated_at string, "
    ddl += f"image_vec {kind}"
    rows = [(f"i{n}", "tea", None, None, None, None, vector) for n, vector in enumerate(given)]
    result = split(validate_items(spark.createDataFrame(rows, ddl), ["{title}"], 100), ITEMS)
    assert [result.by_id[f"i{n}"]["image_vec"] for n in range(3)] == read
    assert result.reasons == ["image_vec is not a vector of numbers"] * 2


def test_a_vector_of_another_length_is_one_bad_row(spark):
    ddl = "item_id string, title string, category string, brand string, price string, updated_at string, "
    ddl += "image_vec array<double>"
    vectors = [[1.0, 2.0], [0.5, 1.0], [1.0, 2.0, 3.0], None, [1.0]]
    rows = [(f"i{n}", "tea", None, None, None, None, vector) for n, vector in enumerate(vectors)]
    result = split(validate_items(spark.createDataFrame(rows, ddl), ["{title}"], 100), ITEMS)
    assert sorted(result.by_id) == ["i0", "i1", "i3"]
    assert result.reasons == ["image_vec has another length than most: 2"] * 2


def test_a_price_that_is_no_finite_number_is_none_and_moves_no_other_row(spark):
    ddl = "item_id string, title string, category string, brand string, price string, updated_at string"
    rows = [("a", "tea", "k", None, "1.5", None), ("b", "pot", "k", None, "600", None)]
    prices = ["NaN", "inf", "-Infinity", "1e999", " ", "free"]
    bad = [(f"x{n}", "cup", "k", None, price, None) for n, price in enumerate(prices)]
    alone = split(validate_items(spark.createDataFrame(rows, ddl), ["{title}"], 100), ITEMS)
    beside = split(validate_items(spark.createDataFrame([*rows, *bad], ddl), ["{title}"], 100), ITEMS)
    assert [beside.by_id[row[0]]["price"] for row in bad] == [None] * len(prices)
    assert {name: beside.by_id[name] for name in alone.by_id} == alone.by_id


def test_a_group_that_is_one_name_is_a_group_of_one(spark):
    raw = spark.createDataFrame([("u1", "gender: x"), ("u2", None)], "user_id string, groups string")
    assert [user["groups"] for user in split(validate_users(raw, [], 100), USERS).by_id.values()] == [
        ["gender: x"],
        [],
    ]


def test_the_last_day_of_the_calendar_may_be_the_latest(spark):
    raw = spark.createDataFrame(
        [("u", "i", "view", "9999-12-31 23:00:00", None)],
        "user_id string, item_id string, event_type string, timestamp string, value double",
    )
    assert len(split(validate_events(raw, date(2020, 1, 1), date.max), EVENTS).good) == 1
