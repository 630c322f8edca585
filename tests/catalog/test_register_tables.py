"""Comments in the log, SQL for catalogues, and other readers of the lists."""

import json
from datetime import date

import pytest
from deltalake import DeltaTable

from recsys_spark.catalog.options import CatalogOptions
from recsys_spark.catalog.statements import statements
from recsys_spark.catalog.steps.register_tables import register_tables
from recsys_spark.errors import InputError, UsageError
from recsys_spark.lake import commits
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.descriptions import TABLE_DESCRIPTIONS, column_comments, described_schema
from recsys_spark.tables.schemas import ITEMS, RECOMMENDATIONS, TABLES
from tests.bench.stored_rows import commit_rows
from tests.conftest import ROOT
from tests.test_pages import blocks

DAY = date(2024, 3, 1)
LISTS = [("u1", f"a{place}", 1.0 / place, place, DAY, "m", None, None) for place in (1, 2, 3)]
LISTS += [("u2", "a3", 0.5, 1, DAY, "m", None, None)]


@pytest.fixture
def lake(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    commit_rows(lake, RECOMMENDATIONS, LISTS, "recommend_items:1")
    return lake


def register(lake, **keys):
    return register_tables(Run("register_tables", None, Progress()), CatalogOptions(lake=lake.uri, **keys))


def comments_in(lake, table):
    return {field.name: field.metadata.get("comment") for field in DeltaTable(lake.table_uri(table)).schema().fields}


def test_every_table_and_column_is_described():
    assert set(TABLE_DESCRIPTIONS) == set(TABLES)
    for table in TABLES.values():
        assert all(column_comments(table).values())


def test_a_new_table_carries_its_comments_and_its_files_are_those_of_before(lake):
    assert comments_in(lake, RECOMMENDATIONS) == column_comments(RECOMMENDATIONS)
    assert DeltaTable(lake.table_uri(RECOMMENDATIONS)).metadata().description == TABLE_DESCRIPTIONS["recommendations"]
    assert described_schema(RECOMMENDATIONS).equals(RECOMMENDATIONS.arrow_schema)


def test_a_table_of_an_earlier_release_reads_on_and_gets_its_comments_with_other_rows(tmp_path, monkeypatch):
    old = Lake(str(tmp_path / "old"))
    with monkeypatch.context() as earlier:
        earlier.setattr(commits, "described_schema", lambda table: table.arrow_schema)
        commit_rows(old, RECOMMENDATIONS, LISTS, "recommend_items:1")
    before = old.last_commit(RECOMMENDATIONS)
    assert set(comments_in(old, RECOMMENDATIONS).values()) == {None}
    commit_rows(old, RECOMMENDATIONS, LISTS, "recommend_items:2")
    after = old.last_commit(RECOMMENDATIONS)
    assert (after.key, after.content_id) == ("recommend_items:2", before.content_id), "the same rows are no change"
    commit_rows(old, RECOMMENDATIONS, LISTS, "recommend_items:3", append=True)
    assert old.rows(RECOMMENDATIONS) == 2 * len(LISTS)
    assert set(comments_in(old, RECOMMENDATIONS).values()) == {None}
    commit_rows(old, RECOMMENDATIONS, LISTS[1:], "recommend_items:4")
    assert comments_in(old, RECOMMENDATIONS) == column_comments(RECOMMENDATIONS)


def test_statements_are_those_of_each_dialect():
    located = {ITEMS: "s3://b/it's/items"}
    place = "'s3://b/it''s/items'"
    create = "CREATE TABLE IF NOT EXISTS"
    assert (
        statements("unity", "main.shop", located)[-1] == f"{create} `main`.`shop`.`items` USING DELTA LOCATION {place};"
    )
    assert statements("spark", "shop", located) == [
        "CREATE SCHEMA IF NOT EXISTS `shop`;",
        f"{create} `shop`.`items` USING DELTA LOCATION {place};",
    ]
    assert statements("glue", "shop", located) == [
        "CREATE DATABASE IF NOT EXISTS `shop`;",
        "CREATE EXTERNAL TABLE IF NOT EXISTS `shop`.`items` LOCATION 's3://b/it''s/items/' "
        "TBLPROPERTIES ('table_type' = 'DELTA');",
    ]
    assert statements("trino", "delta.shop", located)[-1] == (
        "CALL \"delta\".system.register_table(schema_name => 'shop', table_name => 'items', "
        f"table_location => {place});"
    )
    hive = statements("hive", "shop", located)[-1]
    assert "  `category` array<string> COMMENT 'categories, from the widest to the narrowest',\n" in hive
    assert hive.endswith(f"STORED BY 'io.delta.hive.DeltaStorageHandler' LOCATION {place};")


@pytest.mark.parametrize(
    ("dialect", "target", "words"),
    [
        ("unity", "shop", "form catalog.schema that dialect 'unity'"),
        ("hive", "main.shop", "form schema that dialect 'hive'"),
        ("duckdb", "shop; DROP", "letters, digits, _"),
    ],
)
def test_a_schema_that_the_dialect_cannot_have_is_refused(dialect, target, words):
    with pytest.raises(UsageError, match=words):
        statements(dialect, target, {})


def test_the_job_prints_sql_or_writes_it_and_refuses_tables_that_are_not_there(lake, tmp_path, capsys):
    report = register(lake, dialect="unity", target="main.shop", location="s3://bucket/lake/")
    assert "USING DELTA LOCATION 's3://bucket/lake/recommendations';\n" in capsys.readouterr().out
    assert (report["registered"], report["statements"]) == (["recommendations"], 2)
    (tmp_path / "lake").rename(tmp_path / "the lake")
    lake = Lake(str(tmp_path / "the lake"))
    register(lake, dialect="duckdb", output=str(tmp_path / "tables.sql"))
    assert "the%20lake/recommendations" in (tmp_path / "tables.sql").read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""
    with pytest.raises(UsageError, match="there is no table 'lists'"):
        register(lake, dialect="duckdb", tables="lists")
    with pytest.raises(InputError, match="table 'items' is not in lake"):
        register(lake, dialect="duckdb", tables="recommendations,items")
    with pytest.raises(InputError, match="has no tables"):
        register(Lake(str(tmp_path / "empty")), dialect="duckdb")
    assert lake.version(RECOMMENDATIONS) == 0, "nothing is written to the lake"


# --- other readers ---


def of_u1(rows):
    return [(row["item_id"], row["score"], row["rank"]) for row in rows]


WANTED = [(item, pytest.approx(score), rank) for _, item, score, rank, *_ in LISTS[:3]]


def example(number, lake):
    return blocks(ROOT / "recsys_spark" / "catalog" / "README.md", "python")[number].replace("/data/lake", lake.uri)


def test_polars_and_pandas_read_the_lists_as_the_page_says(lake):
    pytest.importorskip("polars")
    names = {}
    exec(example(0, lake), names)
    assert of_u1(names["of_polars"].to_dicts()) == WANTED
    assert of_u1(names["of_pandas"].sort_values("rank").to_dict("records")) == WANTED


def test_spark_reads_the_lists_as_the_page_says(spark, lake, capsys):
    names = {"spark": spark}
    exec(example(1, lake), names)
    rows = names["of_spark"].where("user_id = 'u1'").orderBy("rank").collect()
    assert of_u1(row.asDict() for row in rows) == WANTED
    assert "a3" in capsys.readouterr().out


def test_duckdb_reads_the_views_and_shows_the_comments(lake, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        try:
            connection.execute("INSTALL delta; LOAD delta")
        except duckdb.Error:
            load = pytest.importorskip("duckdb_extensions", reason="DuckDB cannot fetch its extension delta")
            load.import_extension("delta", con=connection)
        register(lake, dialect="duckdb", output=str(tmp_path / "tables.sql"))
        sql = (tmp_path / "tables.sql").read_text(encoding="utf-8")
        connection.execute(sql.replace("INSTALL delta;\n", ""))
        query = "SELECT item_id, score, rank FROM recsys.recommendations WHERE user_id = 'u1' ORDER BY rank"
        assert connection.sql(query).fetchall() == WANTED
        comments = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'recommendations'"
        assert dict(connection.sql(comments).fetchall()) == column_comments(RECOMMENDATIONS)


def test_the_log_itself_is_plain_json_for_catalogues(lake):
    entry = (ROOT / lake.table_uri(RECOMMENDATIONS) / "_delta_log" / f"{0:020}.json").read_text(encoding="utf-8")
    (metadata,) = [line["metaData"] for line in map(json.loads, entry.splitlines()) if "metaData" in line]
    fields = json.loads(metadata["schemaString"])["fields"]
    assert {field["name"]: field["metadata"]["comment"] for field in fields} == column_comments(RECOMMENDATIONS)
