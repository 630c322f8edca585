"""A Delta table that grows as a streaming source of Spark without a connector: the log names the files of a version."""

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.types import StructType

from recsys_spark.errors import InputError
from recsys_spark.lake.commits import data_files_of
from recsys_spark.sources.arrow_types import arrow_schema
from recsys_spark.sources.delta import plain_table
from recsys_spark.sources.delta_log import added_files, delta_file, log_actions, removes_rows
from recsys_spark.sources.kernels.delta_file import file_system

FORMAT = "recsys_delta"

_VERSION, _PARTITION = "version", "partition."


@dataclass
class AddedFile(InputPartition):
    """A data file, and the names and values of its partition columns."""

    path: str
    partition_values: dict[str, str | None]


class DeltaStreamSource(DataSource):
    """Streaming source: the rows that are appended to the Delta table at ``path``, with the requested columns.

    It starts with the rows that the table has.
    """

    @classmethod
    def name(cls) -> str:
        return FORMAT

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802  (the name that Spark calls)
        return DeltaReader(self.options, schema)


class DeltaReader(DataSourceStreamReader):
    """Positions are versions of the table; −1 before the first."""

    def __init__(self, options: MutableMapping[str, str], schema: StructType) -> None:
        self._path, self._schema = options["path"], arrow_schema(schema)

    def initialOffset(self) -> dict[str, int]:  # noqa: N802
        """Before the first version."""
        return {_VERSION: -1}

    def latestOffset(self, start: dict[str, int] | None = None, limit: Any = None) -> dict[str, int]:  # noqa: N802
        """The newest version."""
        return {_VERSION: plain_table("stream", self._path).version()}

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> Sequence[AddedFile]:
        """One task for each file that was added; of the first batch, for each file of the table.

        Raises:
            InputError: rows were removed or replaced meanwhile, or the log of these versions has been cleaned up.
        """
        if start[_VERSION] < 0:
            return self._files_of(end[_VERSION])
        return [file for version in range(start[_VERSION] + 1, end[_VERSION] + 1) for file in self._added(version)]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of a file, in a task. Columns that it lacks are null."""
        assert isinstance(partition, AddedFile)
        filesystem, path = file_system(delta_file(self._path, partition.path))
        with filesystem.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            stored = [name for name in self._schema.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=stored):
                columns = [self._column(field, batch, partition) for field in self._schema]
                yield pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _column(self, field: pa.Field, batch: pa.RecordBatch, partition: AddedFile) -> pa.Array:
        if field.name in batch.schema.names:
            return batch[field.name].cast(field.type)
        value = partition.partition_values.get(field.name)
        constant = pa.scalar(None, field.type) if value is None else pa.scalar(str(value)).cast(field.type)
        return pa.repeat(constant, batch.num_rows)

    def _files_of(self, version: int) -> list[AddedFile]:
        actions = data_files_of(plain_table("stream", self._path, version))
        keys = [name for name in actions.column_names if name.startswith(_PARTITION)]
        rows = actions.select(["path", *keys]).to_pylist()
        return [AddedFile(row["path"], {name.removeprefix(_PARTITION): row[name] for name in keys}) for row in rows]

    def _added(self, version: int) -> Iterator[AddedFile]:
        """The files that a version adds with new rows; files that an optimisation rewrote hold none."""
        actions = log_actions(self._path, version)
        if actions is None:
            raise InputError(
                f"[stream]: the log of {self._path} no longer has version {version}, which was not read yet. Start "
                "with a new --checkpoint, which begins with the rows that the table has"
            )
        if removes_rows(actions):
            raise InputError(
                f"[stream]: version {version} of {self._path} removes or replaces rows, and a stream can only add. Run "
                "a refresh, and start with a new --checkpoint"
            )
        for added in added_files(actions):
            yield AddedFile(added["path"], added.get("partitionValues") or {})
