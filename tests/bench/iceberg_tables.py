"""Iceberg tables in a catalogue of SQLite, with deletes and compactions, which pyiceberg reads and does not write."""

import os
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

CATALOG = "testing"


def catalog(folder):
    """The catalogue of ``folder``, which tasks and other processes find by its name too."""
    from pyiceberg import catalog as module
    from pyiceberg.utils.config import Config

    (folder / "warehouse").mkdir(exist_ok=True)
    settings = {"TYPE": "sql", "URI": f"sqlite:///{folder}/catalog.db", "WAREHOUSE": f"file://{folder}/warehouse"}
    os.environ.update({f"PYICEBERG_CATALOG__{CATALOG.upper()}__{key}": value for key, value in settings.items()})
    module._ENV_CONFIG = Config()  # it reads the environment once, when it is imported
    made = module.load_catalog(CATALOG)
    made.create_namespace_if_not_exists("shop")
    return made


def delete_rows(table, positions, equality=False, puffin=False):
    """Commit a delete file for the rows ``positions`` of data files: paths and row numbers."""
    from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    place = f"{table.location()}/data/deletes-{uuid.uuid4()}.parquet"
    schema = pa.schema([
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
    ])  # fmt: skip
    rows = pa.Table.from_pylist([{"file_path": path, "pos": row} for path, row in positions], schema=schema)
    pq.write_table(rows, place.removeprefix("file://"))
    file = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES if equality else DataFileContent.POSITION_DELETES,
        file_path=place, file_format=FileFormat.PUFFIN if puffin else FileFormat.PARQUET, partition=Record(),
        record_count=len(rows), file_size_in_bytes=1, equality_ids=[1] if equality else None,
    )  # fmt: skip
    _commit(table, "delete", deletes=file)


def compact(table):
    """Rewrite all data files as one, which changes no row."""
    from pyiceberg.io.pyarrow import _dataframe_to_data_files

    old = [task.file for task in table.scan().plan_files()]
    new = list(_dataframe_to_data_files(table.metadata, table.scan().to_arrow(), table.io))
    _commit(table, "replace", new=new, old=old)


def _commit(table, operation, deletes=None, new=(), old=()):
    from pyiceberg.table.snapshots import Operation, Summary
    from pyiceberg.table.update.snapshot import _OverwriteFiles

    class Commit(_OverwriteFiles):
        def _manifests(self):
            if deletes is None:
                return super()._manifests()
            spec = self._transaction.table_metadata.specs()[0]
            with _delete_writer(self, spec) as writer:
                writer.add(_added(deletes, self._snapshot_id))
            return [*self._existing_manifests(), writer.to_manifest_file()]

        def _summary(self, properties):
            return Summary(operation=Operation(operation))

    with table.transaction() as transaction, Commit(Operation.OVERWRITE, transaction, table.io) as commit:
        for file in new:
            commit.append_data_file(file)
        for file in old:
            commit.delete_data_file(file)


def _delete_writer(commit, spec):
    from pyiceberg.manifest import ManifestContent, ManifestWriterV2

    class Writer(ManifestWriterV2):
        def content(self):
            return ManifestContent.DELETES

        @property
        def _meta(self):
            return super()._meta | {"content": "deletes"}

    schema = commit._transaction.table_metadata.schema()
    return Writer(spec, schema, commit.new_manifest_output(), commit._snapshot_id, commit._compression)


def _added(file, snapshot_id):
    from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus

    return ManifestEntry.from_args(
        status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, sequence_number=None, file_sequence_number=None,
        data_file=file,
    )  # fmt: skip
