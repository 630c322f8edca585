"""Tables of a real PostgreSQL: every row of one snapshot, in ranges of a key, and no password in any message."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.sources.arrow_types import arrow_schema
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.postgres import _rows, key_ranges, postgres_listing
from tests.bench.servers import PASSWORD, free_port, postgres_server

VARIABLE = "SHOP_ADDRESS"


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("adbc_driver_postgresql")
    with postgres_server() as url:
        yield url


@pytest.fixture
def execute(address, monkeypatch):
    """Execute SQL in a schema that is removed afterwards."""
    import psycopg

    monkeypatch.setenv(VARIABLE, address)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET lock_timeout = '5s'")  # a listing of a test that failed holds its table
        connection.execute("CREATE SCHEMA shop")
        yield connection.execute
        connection.execute("DROP SCHEMA shop CASCADE")


def listing(table="shop.log", **options):
    source = Source(format="postgres", table=table, options={"url": f"${VARIABLE}"} | options)
    return postgres_listing("log", source, "")


def rows_here(listed):
    """The rows as tasks read them, read in this process."""
    schema = arrow_schema(listed.schema)
    queries = listed.queries(schema.names)
    batches = [batch for query in queries for batch in _rows(query, schema, listed.server, listed.snapshot)]
    return [row for batch in batches for row in batch.to_pylist()]


def test_every_type_arrives_as_spark_has_it_and_what_it_lacks_as_text(execute, spark):
    execute("CREATE TYPE shop.mood AS ENUM ('glad')")
    execute(
        """CREATE TABLE shop."Log ""1" AS SELECT 7::int2 AS small, -7::int4 AS "the number", 2^40::int8 AS big,
        0.1::float4 AS single, 'NaN'::float8 AS double, true AS yes, date '2024-03-01' AS day,
        'infinity'::date AS never,
        timestamp '2024-03-01 10:00:00.25' AS local, timestamptz '2024-03-01 10:00:00+02' AS at,
        'infinity'::timestamptz AS end_of_time, 12.50::numeric(6,2) AS price, 'NaN'::numeric(6,2) AS odd,
        1e50::numeric AS free, 'a "b"' || chr(10) AS text, ''::varchar(3) AS empty, NULL::text AS missing,
        array['x', 'y,'] AS tags, '{"a": 1}'::jsonb AS doc, 'glad'::shop.mood AS mood,
        '00000000-0000-0000-0000-000000000007'::uuid AS id"""
    )
    listed = listing('shop."Log ""1"')
    (row,) = listed.frame(spark).collect()
    expected = {
        "small": 7, "the number": -7, "big": 2**40, "single": pytest.approx(0.1, rel=1e-6),
        "double": pytest.approx(float("nan"), nan_ok=True), "yes": True, "day": date(2024, 3, 1), "never": None,
        "local": datetime(2024, 3, 1, 10, 0, 0, 250_000), "at": datetime(2024, 3, 1, 8), "end_of_time": None,
        "price": Decimal("12.50"), "odd": None, "free": "1" + "0" * 50, "text": 'a "b"\n', "empty": "", "missing": None,
        "tags": '["x","y,"]', "doc": '{"a": 1}', "mood": "glad", "id": "00000000-0000-0000-0000-000000000007",
    }  # fmt: skip
    assert row.asDict() == expected
    assert listed.frame(spark, wanted=lambda names: ["price", "id"]).columns == ["price", "id"]
    assert rows_here(listed)[0] == expected | {"at": datetime(2024, 3, 1, 8, tzinfo=UTC)}


def test_tasks_read_ranges_of_one_snapshot(execute):
    execute("CREATE TABLE shop.log AS SELECT NULLIF(i, 5) AS id, 'u' || i AS user FROM generate_series(1, 20) i")
    execute("CREATE VIEW shop.half AS SELECT * FROM shop.log WHERE id > 10")
    listed, half = listing(key="id", parts=3), listing("shop.half", key="id")
    execute("DELETE FROM shop.log WHERE id < 9")
    execute("INSERT INTO shop.log VALUES (21, 'u21')")
    assert len(listed.ranges) == 3
    assert sorted(row["user"] for row in rows_here(listed)) == sorted(f"u{i}" for i in range(1, 21))
    assert len(rows_here(half)) == 10
    assert listed.added(listed.entries) == "a table of PostgreSQL has no record of what was added"
    assert listing().entries != listing().entries, "nothing says that the rows are the same"


def test_the_snapshot_ends_with_the_listing(execute):
    execute("CREATE TABLE shop.log AS SELECT 1 AS id")
    count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    listed = listing()
    snapshot, server, query = listed.snapshot, listed.server, listed.queries(["id"])[0]
    assert execute(count).fetchone() == (1,)
    del listed
    assert execute(count).fetchone() == (0,)
    with pytest.raises(RetryError, match=r"PostgreSQL 127\.0\.0\.1"):
        list(_rows(query, None, server, snapshot))


@given(st.integers(1, 40), st.integers(-100, 100), st.integers(0, 200))
@example(8, -5, 0)
def test_ranges_of_a_key_have_each_row_once(parts, least, width):
    conditions = key_ranges(parts, least, least + width)
    assert len(conditions) <= parts
    for key in (least, least + width // 3, least + width, None):
        held = [_holds(condition.format("key"), key) for condition in conditions]
        assert sum(held) == 1


def _holds(condition, key):
    words = condition.removeprefix(" WHERE ").replace(" AND ", " and ")
    is_missing = words.endswith(" OR key IS NULL") or not words
    words = words.removesuffix(" OR key IS NULL") or "True"
    return is_missing if key is None else eval(words, {"key": key})  # noqa: S307


@pytest.mark.parametrize(
    ("more", "kind", "message"),
    [
        (
            {"table": "shop.absent"},
            InputError,
            r"\d+ \(SHOP_ADDRESS\) has no table shop.absent",
        ),
        ({"key": "user"}, UsageError, "key is user, which is no column of whole numbers in shop.log; columns: id int4"),
        ({"key": "id", "parts": "many"}, UsageError, "parts is 'many'"),
        ({"dbtable": "x"}, UsageError, "has options url, key, parts, not dbtable"),
        ({"url": "postgresql://u:canary-1@h/d"}, UsageError, "url names an environment variable"),
        ({"url": "$NOT_SET"}, UsageError, "export NOT_SET=postgresql://HOST"),
        ({"url": "$DOWN"}, RetryError, r"PostgreSQL 127\.0\.0\.1"),
        ({"url": "$WRONG"}, InputError, "password authentication failed"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(more, kind, message, execute, address, monkeypatch):
    execute('CREATE TABLE shop.log AS SELECT 1 AS id, 2 AS "user"')
    execute('ALTER TABLE shop.log ALTER COLUMN "user" TYPE text')
    monkeypatch.setenv("DOWN", f"postgresql://recsys:canary-1@127.0.0.1:{free_port()}/x")
    monkeypatch.setenv("WRONG", address.replace("canary-", "canary-1"))
    with pytest.raises(kind, match=message) as caught:
        listing(**more)
    assert "canary" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
