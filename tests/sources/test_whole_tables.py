"""Tables that are read whole: of the session's catalogue, and through JDBC without a password in a dataset file."""

import pytest

from recsys_spark.errors import RetryError, UsageError
from recsys_spark.sources.dataset_file import Source
from recsys_spark.sources.reader import SourceReader
from recsys_spark.sources.whole_tables import WholeTable, jdbc_listing
from tests.bench.servers import free_port
from tests.ingest.test_forms import DRIVER

URL = {"url": "jdbc:postgresql://127.0.0.1/shop", "driver": "org.postgresql.Driver"}


def jdbc(**options):
    return jdbc_listing("log", Source(format="jdbc", table="shop.log", options=options), "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (URL | {"password": "canary-1"}, r'option password holds a secret.*password = "\$NAME"'),
        ({"url": "jdbc:postgresql://u:canary-1@h/d", "driver": "x"}, "option url holds a secret"),
        ({"url": "jdbc:postgresql://h/d?user=u&password=canary-1", "driver": "x"}, "option url holds a secret"),
        ({"url": "jdbc:x"}, "needs options driver, such as url"),
        (URL | {"password": "$NOT_SET"}, "the environment variable NOT_SET is not set"),
    ],
)
def test_a_password_is_taken_from_the_environment_alone(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        jdbc(**options)
    assert "canary" not in str(caught.value)


def test_no_text_of_a_listing_holds_the_password(monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "canary-1")
    listing = jdbc(**URL, password="$SHOP_PASSWORD")
    assert "canary" not in f"{listing!r} {listing.entries}"
    assert listing.entries != jdbc(**URL, password="$SHOP_PASSWORD").entries, "nothing says that the rows are the same"


def read(spark, listing):
    return SourceReader(spark, "data").read("log", listing.source, listing)


def test_a_server_that_is_down_is_a_passing_fault(spark, monkeypatch):
    if not DRIVER.is_file():
        pytest.skip(f"the JDBC driver is absent: {DRIVER} (Debian: libpostgresql-jdbc-java)")
    spark.sql(f"ADD JAR '{DRIVER}'")
    monkeypatch.setenv("SHOP_PASSWORD", "canary-1")
    url = f"jdbc:postgresql://127.0.0.1:{free_port()}/x"
    listing = jdbc(**URL | {"url": url}, password="$SHOP_PASSWORD")
    with pytest.raises(
        RetryError, match=rf"source 'log' \(shop\.log of {url}\): .*Connection to 127\.0\.0\.1:\d+ refused"
    ) as caught:
        read(spark, listing)
    assert "canary" not in str(caught.value)


def test_a_driver_or_a_table_that_is_not_there_is_a_mistake_of_the_dataset_file(spark):
    with pytest.raises(UsageError, match=r"source 'log' \(shop\.log of jdbc:.*\): .*org\.absent\.Driver"):
        read(spark, jdbc(url=URL["url"], driver="org.absent.Driver"))
    with pytest.raises(UsageError, match=r"source 'log' \(shop\.absent\): .*`shop`\.`absent` cannot be found"):
        read(spark, WholeTable("log", Source(table="shop.absent")))
