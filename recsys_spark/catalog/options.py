"""Configuration keys of register_tables."""

from typing import Literal

from pydantic import Field

from recsys_spark.runtime.config import Configuration

Dialect = Literal["unity", "spark", "glue", "hive", "trino", "duckdb"]


class CatalogOptions(Configuration):
    """The catalogue."""

    lake: str = Field(description="folder or URI of the lake; nothing is written to it")
    dialect: Dialect = Field(
        description="who runs the SQL: unity (Databricks), spark with Delta's connector, glue (Athena), hive with "
        "Delta's storage handler, trino, duckdb"
    )
    target: str = Field(
        "recsys", description="schema of the tables: catalog.schema for unity and trino, a schema for the others"
    )
    location: str | None = Field(
        None,
        description="URI of the lake as the catalogue reads it, if it is another one: s3a://bucket/lake, /mnt/lake",
    )
    tables: str | None = Field(None, description="names of tables, separated by commas; default: all of the lake")
    output: str | None = Field(None, description="file for the SQL; default: standard output")
