"""List every source of a dataset file: files, or the state of a table."""

from collections.abc import Callable, Mapping

from pyspark.sql import SparkSession

from recsys_spark.sources.dataset_file import SESSION_TABLE, Dataset, Source
from recsys_spark.sources.delta import delta_listing
from recsys_spark.sources.files import list_source
from recsys_spark.sources.iceberg import iceberg_listing
from recsys_spark.sources.listing import FileListing, Listing
from recsys_spark.sources.postgres import postgres_listing
from recsys_spark.sources.whole_tables import WholeTable, jdbc_listing

_TABLES: Mapping[str, Callable[[str, Source, str], Listing]] = {
    "delta": delta_listing,
    "iceberg": iceberg_listing,
    "postgres": postgres_listing,
    "jdbc": jdbc_listing,
    SESSION_TABLE: lambda name, source, data: WholeTable(name, source),
}


def list_sources(dataset: Dataset, data: str, session: Callable[[], SparkSession]) -> dict[str, Listing]:
    """The files of every source below ``data``, sorted by path, or the newest state of a table.

    ``session`` is called only for file systems that Arrow does not know.

    Raises:
        UsageError: a source names what does not exist in its format, or needs a package that is missing.
        InputError: a source does not exist, holds nothing, or cannot be read rightly.
        RetryError: a store, a catalogue or a server does not answer.
    """
    return {name: _listing(name, source, data, session) for name, source in dataset.sources.items()}


def _listing(name: str, source: Source, data: str, session: Callable[[], SparkSession]) -> Listing:
    if source.format in _TABLES:
        return _TABLES[source.format](name, source, data)
    return FileListing(list_source(name, source, data, session))
