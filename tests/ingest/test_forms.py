"""One dataset gives the same lake in whatever form it is kept, and a second night reads what was added to it."""

from datetime import date
from pathlib import Path

import pytest

from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS
from tests.bench.iceberg_tables import catalog
from tests.bench.jobs_here import run_job
from tests.bench.lake_files import files_that_name
from tests.bench.servers import PASSWORD, QUOTED, free_port, postgres_server
from tests.bench.table_sources import DATASET, FORMS, Csv, events, items

FIRST, SECOND = date(2024, 12, 1), date(2024, 12, 2)

WHOLE = {
    "postgres": "all: a table of PostgreSQL has no record of what was added",
    "jdbc": "all: JDBC has no record of what was added",
    "sessiontable": "all: a table of the session's catalogue has no record of what was added",
}


DRIVER = Path("/usr/share/java/postgresql.jar")
"""Of Debian's package libpostgresql-jdbc-java."""


def contents(lake):
    return {table.name: lake.last_commit(table).content for table in (ITEMS, USERS, EVENTS)}


@pytest.fixture(scope="module")
def expected(tmp_path_factory, spark):
    """Content ids of the lake after both nights, from files of CSV read at once."""
    shop = Csv(tmp_path_factory.mktemp("expected") / "shop", spark)
    shop.add("products", items())
    shop.add("log", events(0, 4000))
    shop.add("log", events(4000, 40))
    shop.ingest(lake := shop.lake(), SECOND)
    return contents(lake)


@pytest.fixture
def shop(request, tmp_path, spark, monkeypatch):
    form = FORMS[request.param]
    if request.param not in ("postgres", "jdbc"):
        yield form(tmp_path / "shop", spark)
        for name in ("products", "log"):
            spark.sql(f"DROP TABLE IF EXISTS spark_catalog.default.{name}")
        return
    psycopg = pytest.importorskip("psycopg")
    if request.param == "jdbc":
        if not DRIVER.is_file():
            pytest.skip(f"the JDBC driver is absent: {DRIVER} (Debian: libpostgresql-jdbc-java)")
        spark.sql(f"ADD JAR '{DRIVER}'")
    with postgres_server() as address, psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA shop")
        monkeypatch.setenv("SHOP_ADDRESS", address)
        monkeypatch.setenv("SHOP_JDBC", f"jdbc:postgresql://{address.partition('@')[2]}")
        monkeypatch.setenv("SHOP_USER", "recsys")
        monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
        yield form(tmp_path / "shop", spark, connection.execute)


SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in FORMS if form != "delta"]


@pytest.mark.parametrize("shop", ["delta", *SLOW], indirect=True)
def test_every_form_gives_the_same_lake_and_a_second_night_reads_what_was_added(shop, expected):
    form, lake = type(shop).__name__.lower(), shop.lake()
    shop.add("products", items())
    shop.add("log", events(0, 4000))
    first = shop.ingest(lake, FIRST)
    assert (first["log_read"], first["log_rows"]) == ("all: it is the first run", 4000)
    assert contents(lake) != expected
    shop.add("log", events(4000, 40))
    second = shop.ingest(lake, SECOND)
    assert contents(lake) == expected, "bit by bit"
    assert second["events_changes"]["added"] == 40
    assert second["log_read"] == WHOLE.get(form, "1 new files")
    assert second["log_rows"] == (4040 if form in WHOLE else 40)
    if form not in WHOLE:
        assert second["log_bytes"] < second["log_bytes_of"] / 10
        assert shop.ingest(lake, SECOND)["status"] == "unchanged"
    assert "source_changes" not in second
    assert PASSWORD not in "".join(map(str, (first, second)))
    assert not files_that_name(Path(lake.uri), PASSWORD)


DOWN = {
    "iceberg": 'format = "iceberg"\ncatalog = "down"\ntable = "shop.log"',
    "postgres": 'format = "postgres"\ntable = "shop.log"\noptions = { url = "$SHOP_DOWN" }',
}


@pytest.mark.parametrize("form", DOWN)
def test_a_server_that_is_down_ends_a_job_with_75_and_its_name_and_without_its_password(form, tmp_path, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("SHOP_DOWN", f"postgresql://recsys:{QUOTED}@{address}/shop")
    monkeypatch.setenv("PYICEBERG_CATALOG__DOWN__URI", f"http://recsys:{QUOTED}@{address}")
    catalog(tmp_path)  # which reads the environment
    source = DOWN[form]
    (tmp_path / "shop.toml").write_text(DATASET.format(products=source, log=source), encoding="utf-8")
    done = run_job("ingest_tables", f"--lake={tmp_path}/lake", "--run_date=2024-12-01",
                   f"--dataset={tmp_path}/shop.toml", f"--data={tmp_path}")  # fmt: skip
    assert done.returncode == 75
    assert "127.0.0.1" in done.stderr
    assert "source 'products'" in done.stderr if form == "iceberg" else "PostgreSQL" in done.stderr
    for secret in (PASSWORD, QUOTED):
        assert secret not in done.stdout + done.stderr
        assert not files_that_name(tmp_path / "lake", secret)
