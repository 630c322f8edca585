"""Delta tables as sources, without a connector: the log of the table names the files, and Spark reads them as
Parquet."""

import json
from urllib.parse import unquote, urlparse

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.commits import data_files_of
from recsys_spark.lake.paths import delta_uri

_SUPPORTED = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Reader features with which the files in the log hold exactly the rows of the table."""


def delta_entries(name: str, path: str) -> list[tuple[str, int, int]]:
    """The files of the newest version, sorted by path: path, size in bytes, time of modification.

    Raises:
        InputError: there is no Delta table, it is empty, or it uses a feature that only a Delta reader supports.
    """
    table = plain_table(name, path)
    actions = data_files_of(table).select(["path", "size_bytes", "modification_time"])
    modified = actions["modification_time"].cast(pa.int64(), safe=False).to_pylist()
    paths = [delta_file(path, uri) for uri in actions["path"].to_pylist()]
    if not paths:
        raise InputError(f"source '{name}': the Delta table {path} is empty")
    return sorted(zip(paths, actions["size_bytes"].to_pylist(), modified, strict=True))


def plain_table(name: str, path: str, version: int | None = None) -> DeltaTable:
    """A version of a table whose files hold exactly its rows, by default the newest.

    Raises:
        InputError: there is no Delta table, or it uses a feature that only a Delta reader supports.
    """
    table = _open_table(name, path, version)
    features = set(table.protocol().reader_features or []) - _SUPPORTED
    if features or table.protocol().min_reader_version == 2:
        unsupported = ", ".join(sorted(features)) or "columnMapping"
        raise InputError(
            f"source '{name}': the Delta table {path} uses {unsupported}, which is not supported. Rewrite the table "
            "without it (deletion vectors: REORG TABLE … APPLY (PURGE)), or export it as Parquet"
        )
    return table


def delta_schema(name: str, path: str) -> StructType:
    """The columns of the newest version, including partition columns."""
    return StructType.fromJson(json.loads(_open_table(name, path).schema().to_json()))


def delta_file(path: str, uri: str) -> str:
    """The path of a file in the log. The log escapes names as URIs do."""
    return uri if urlparse(uri).scheme else f"{path}/{unquote(uri)}"


def _open_table(name: str, path: str, version: int | None = None) -> DeltaTable:
    try:
        return DeltaTable(delta_uri(path), version=version)
    except TableNotFoundError as error:
        raise InputError(f"source '{name}': {path} is no Delta table: it has no _delta_log") from error
    except (DeltaError, OSError) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"source '{name}': {path} cannot be read as a Delta table: {one_line(error)}") from error
    except ValueError as error:
        raise UsageError(f"source '{name}': {path}: {error}") from error
