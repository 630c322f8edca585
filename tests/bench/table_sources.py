"""One dataset of items and events in every form in which a source may be kept."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from tests.bench.iceberg_tables import CATALOG, catalog

DATASET = """
title = "Shop"
[sources.products]
{products}
[sources.log]
{log}
[items]
from = "products"
select = {{ item_id = "sku", title = "name", brand = "brand", price = "price" }}
text = ["{{title}}.", "{{brand}}."]
[events]
from = "log"
select = {{ user_id = "user", item_id = "sku", event_type = "what", timestamp = "at::timestamp", value = "value" }}
earliest = 2024-01-01
latest = 2024-12-31
"""

SCHEMA = pa.schema({"user": pa.string(), "sku": pa.string(), "what": pa.string(), "at": pa.timestamp("us", "UTC"),
                    "value": pa.float64()})  # fmt: skip


def items() -> pa.Table:
    return pa.table({
        "sku": [f"a{n}" for n in range(50)],
        "name": [f'pot "{n}", für Tee' for n in range(50)],
        "brand": [None if n % 7 == 0 else f"b{n % 5}" for n in range(50)],
        "price": [n / 8 for n in range(50)],
    })  # fmt: skip


def events(first: int, number: int) -> pa.Table:
    """Rows from the number ``first`` on, no two of which are the same event."""
    rng, start = np.random.default_rng(first), datetime(2024, 2, 1, tzinfo=UTC)
    return pa.table({
        "user": [f"u{n}" for n in rng.integers(0, 300, number)],
        "sku": [f"a{n}" for n in rng.integers(0, 50, number)],
        "what": rng.choice(["view", "purchase"], number),
        "at": [start + timedelta(seconds=first + n, microseconds=int(n) * 1000) for n in range(number)],
        "value": np.where(rng.random(number) < 0.5, rng.integers(0, 40, number) / 8, np.nan),
    }).set_column(4, "value", _without_nan(rng, number)).cast(SCHEMA)  # fmt: skip


def _without_nan(rng: np.random.Generator, number: int) -> pa.Array:
    return pa.array([None if one < 8 else one / 8 for one in rng.integers(0, 40, number).tolist()], pa.float64())


class Shop:
    """A dataset kept in one form, and lakes made of it."""

    def __init__(self, folder, spark, execute=None):
        self.folder, self.spark, self.execute, self.nights, self.lakes = folder, spark, execute, 0, 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shop.toml").write_text(
            DATASET.format(products=self.source("products"), log=self.source("log")), encoding="utf-8"
        )

    def add(self, name: str, rows: pa.Table) -> None:
        """Add rows to a source, in a file of its own where it is kept in files."""
        self.nights += 1
        self.write(name, rows)

    def source(self, name: str) -> str:
        """Its part of the dataset file."""
        raise NotImplementedError

    def write(self, name: str, rows: pa.Table) -> None:
        raise NotImplementedError

    def file(self, name: str, ending: str) -> str:
        (self.folder / name).mkdir(exist_ok=True)
        return str(self.folder / name / f"{self.nights}.{ending}")

    def ingest(self, lake: Lake, run_date) -> dict:
        options = IngestOptions(lake=lake.uri, run_date=run_date, dataset=str(self.folder / "shop.toml"),
                                data=str(self.folder))  # fmt: skip
        return ingest_tables(Run("ingest_tables", lake, Progress()), options)

    def lake(self) -> Lake:
        self.lakes += 1
        return Lake(str(self.folder / f"lake-{self.lakes}"))


class Csv(Shop):
    def source(self, name):
        return f'path = "{name}"\noptions = {{ header = true }}'

    def write(self, name, rows):
        pc.write_csv(_as_text(rows), self.file(name, "csv"))


class Json(Shop):
    def source(self, name):
        columns = "user string, sku string, what string, at string, value double"
        schema = columns if name == "log" else "sku string, name string, brand string, price double"
        return f'path = "{name}"\nformat = "json"\nschema = "{schema}"'

    def write(self, name, rows):
        lines = "\n".join(map(json.dumps, _as_text(rows).to_pylist()))
        with open(self.file(name, "json"), "w", encoding="utf-8") as file:
            file.write(lines + "\n")


class Parquet(Shop):
    def source(self, name):
        return f'path = "{name}"\nformat = "parquet"'

    def write(self, name, rows):
        pq.write_table(rows, self.file(name, "parquet"))


class Delta(Shop):
    def source(self, name):
        return f'path = "{name}"\nformat = "delta"'

    def write(self, name, rows):
        from deltalake import write_deltalake

        write_deltalake(str(self.folder / name), rows, mode="append")


class Iceberg(Shop):
    def source(self, name):
        return f'format = "iceberg"\ncatalog = "{CATALOG}"\ntable = "shop.{name}"'

    def write(self, name, rows):
        catalog(self.folder).create_table_if_not_exists(f"shop.{name}", schema=rows.schema).append(rows)


class Postgres(Shop):
    def source(self, name):
        key = ', key = "number", parts = 3' if name == "log" else ""
        return f'format = "postgres"\ntable = "shop.{name}"\noptions = {{ url = "$SHOP_ADDRESS"{key} }}'

    def write(self, name, rows):
        columns = {"at": "timestamptz", "value": "float8", "price": "float8"}
        ddl = ", ".join(f'"{column}" {columns.get(column, "text")}' for column in rows.column_names)
        self.execute(f"CREATE TABLE IF NOT EXISTS shop.{name} (number serial, {ddl})")
        names = ", ".join(f'"{column}"' for column in rows.column_names)
        lines = json.dumps(_as_text(rows).to_pylist())
        self.execute(
            f"INSERT INTO shop.{name} ({names}) SELECT {names} FROM json_populate_recordset(NULL::shop.{name}, %s)",
            [lines],
        )


class Jdbc(Postgres):
    def source(self, name):
        parts = ', partitionColumn = "number", lowerBound = 1, upperBound = 4000, numPartitions = 3'
        options = (
            'url = "$SHOP_JDBC", driver = "org.postgresql.Driver", user = "$SHOP_USER", password = "$SHOP_PASSWORD"'
        )
        return f'format = "jdbc"\ntable = "shop.{name}"\noptions = {{ {options}{parts if name == "log" else ""} }}'


class SessionTable(Shop):
    def source(self, name):
        return f'table = "spark_catalog.default.{name}"'

    def write(self, name, rows):
        kinds = {"at": "timestamp", "value": "double", "price": "double"}
        ddl = ", ".join(f"{column} {kinds.get(column, 'string')}" for column in rows.column_names)
        frame = self.spark.createDataFrame(rows.to_pylist(), ddl)
        frame.write.mode("append").saveAsTable(f"spark_catalog.default.{name}")


FORMS = {form.__name__.lower(): form for form in (Csv, Json, Parquet, Delta, Iceberg, Postgres, Jdbc, SessionTable)}


def _as_text(rows: pa.Table) -> pa.Table:
    """The rows with times as text, as a file of text has them."""
    if "at" not in rows.column_names:
        return rows
    place = rows.column_names.index("at")
    texts = [time.strftime("%Y-%m-%d %H:%M:%S.%f+00:00") for time in rows["at"].to_pylist()]
    return rows.set_column(place, "at", pa.array(texts))
