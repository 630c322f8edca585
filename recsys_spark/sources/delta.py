"""Delta tables as sources, read without a connector: the table's log names the files, Spark reads them as Parquet."""

import json
from urllib.parse import unquote, urlparse

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError, RetryError, UsageError
from recsys_spark.errors.messages import is_transient, one_line
from recsys_spark.lake.paths import delta_uri

_UNDERSTOOD = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Reader features under which the files that the log names hold just the rows of the table."""


def delta_entries(name: str, path: str) -> list[tuple[str, int, int]]:
    """Path, bytes and time of modification of the files of the newest version.

    Raises:
        InputError: there is no Delta table, it is empty, or it uses a feature that only Delta's own reader knows.
    """
    table = _opened(name, path)
    features = set(table.protocol().reader_features or []) - _UNDERSTOOD
    if features or table.protocol().min_reader_version == 2:
        named = ", ".join(sorted(features)) or "columnMapping"
        raise InputError(
            f"source '{name}': the Delta table {path} uses {named}, which is not read here. Rewrite it without "
            "(deletion vectors: REORG TABLE … APPLY (PURGE)), or export it as Parquet"
        )
    actions = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes", "modification_time"])
    modified = actions["modification_time"].cast(pa.int64(), safe=False).to_pylist()
    paths = [_located(path, uri) for uri in actions["path"].to_pylist()]
    if not paths:
        raise InputError(f"source '{name}': the Delta table {path} is empty")
    return sorted(zip(paths, actions["size_bytes"].to_pylist(), modified, strict=True))


def delta_schema(name: str, path: str) -> StructType:
    """The columns of the newest version, those of its partitions among them."""
    return StructType.fromJson(json.loads(_opened(name, path).schema().to_json()))


def _located(path: str, uri: str) -> str:
    """Where a file lies that the log names: the log escapes names as URIs do."""
    return uri if urlparse(uri).scheme else f"{path}/{unquote(uri)}"


def _opened(name: str, path: str) -> DeltaTable:
    try:
        return DeltaTable(delta_uri(path))
    except TableNotFoundError as error:
        raise InputError(f"source '{name}': {path} is no Delta table: it has no _delta_log") from error
    except (DeltaError, OSError) as error:
        kind = RetryError if is_transient(error) else InputError
        raise kind(f"source '{name}': {path} cannot be read as a Delta table: {one_line(error)}") from error
    except ValueError as error:
        raise UsageError(f"source '{name}': {path}: {error}") from error
