"""The SQL of an export to PostgreSQL. Names are those of this program and a schema of small letters: none is quoted."""

from dataclasses import dataclass

from recsys_spark.export.steps.collections import Collection, VectorShape


@dataclass(frozen=True)
class Statements:
    """The statements for one collection; ``token`` names the staging table of one export."""

    schema: str
    collection: Collection
    token: str = ""
    shape: VectorShape | None = None

    @property
    def _table(self) -> str:
        return f"{self.schema}.{self.collection.table.name}"

    @property
    def _staging(self) -> str:
        return f"{self._table}_staging_{self.token}"

    @property
    def _column(self) -> str:
        return "embedding" if self.shape else "items"

    @property
    def _type(self) -> str:
        return f"public.vector({self.shape.dimension})" if self.shape else "jsonb"

    @property
    def lock(self) -> bytes:
        """Take the lock for a name, if nobody has it."""
        return b"SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"

    @property
    def are_there(self) -> bytes:
        """Whether both the record of exports and the table exist."""
        tables = (f"to_regclass('{name}') IS NOT NULL" for name in (f"{self.schema}.exports", self._table))
        return f"SELECT {' AND '.join(tables)}".encode()

    @property
    def version(self) -> bytes:
        """The record of a table."""
        return f"SELECT record::text FROM {self.schema}.exports WHERE collection = %s".encode()

    @property
    def prepare(self) -> list[bytes]:
        """Make what is missing, remove staging tables of exports that stopped, and make one."""
        prefix = f"{self.collection.table.name}_staging_".replace("_", r"\_")
        drop = (
            "DO $$ DECLARE name text; BEGIN FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r' "
            f"AND relnamespace = '{self.schema}'::regnamespace AND relname LIKE '{prefix}%' "
            f"LOOP EXECUTE format('DROP TABLE {self.schema}.%I', name); END LOOP; END $$"
        )
        extension = ["CREATE EXTENSION IF NOT EXISTS vector SCHEMA public"] if self.shape else []
        statements = [
            f"CREATE SCHEMA IF NOT EXISTS {self.schema}",
            f"CREATE TABLE IF NOT EXISTS {self.schema}.exports (collection text PRIMARY KEY, record jsonb NOT NULL)",
            *extension,
            drop,
            f"CREATE UNLOGGED TABLE {self._staging} (id text NOT NULL, value text)",
        ]
        return [statement.encode() for statement in statements]

    @property
    def copy(self) -> str:
        """Copy rows to the staging table."""
        return f"COPY {self._staging} (id, value) FROM STDIN (FORMAT csv)"

    @property
    def begin(self) -> list[bytes]:
        """The table, made again for vectors of another dimension."""
        key, column = self.collection.id_column, self._column
        statements = [
            f"ANALYZE {self._staging}",
            f"CREATE TABLE IF NOT EXISTS {self._table} ({key} text PRIMARY KEY, {column} {self._type} NOT NULL)",
        ]
        if self.shape:
            other = f"attrelid = to_regclass('{self._table}') AND attname = '{column}'"
            other += f" AND atttypmod <> {self.shape.dimension}"  # pgvector keeps the dimension there
            drop = f"IF EXISTS (SELECT FROM pg_attribute WHERE {other}) THEN DROP TABLE {self._table}; END IF"
            statements.insert(1, f"DO $$ BEGIN {drop}; END $$")
        return [statement.encode() for statement in statements]

    def remove(self, *, whole: bool) -> bytes:
        """Delete rows without a document. ``whole``: the staging table has all documents, not those that changed."""
        table, key, staging = self._table, self.collection.id_column, self._staging
        if whole:
            return f"DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM {staging} s WHERE s.id = t.{key})".encode()
        return f"DELETE FROM {table} t USING {staging} s WHERE s.id = t.{key} AND s.value IS NULL".encode()

    @property
    def upsert(self) -> bytes:
        """Insert or replace rows that differ. A task that was repeated may have copied its rows twice."""
        table, key, column = self._table, self.collection.id_column, self._column
        rows = (
            f"SELECT DISTINCT ON (id) id, value::{self._type} FROM {self._staging} WHERE value IS NOT NULL ORDER BY id"
        )
        update = f"UPDATE SET {column} = EXCLUDED.{column} WHERE t.{column} IS DISTINCT FROM EXCLUDED.{column}"
        return f"INSERT INTO {table} AS t ({key}, {column}) {rows} ON CONFLICT ({key}) DO {update}".encode()

    @property
    def finish(self) -> list[bytes]:
        """Drop the staging table; index vectors, and say what they are."""
        statements = [f"DROP TABLE {self._staging}"]
        if self.shape:
            index = f"{self.collection.table.name}_hnsw"
            on = f"{self._table} USING hnsw (embedding public.vector_cosine_ops)"
            about = f"{self.shape.dimension} dimensions, unit length, model {self.shape.model}".replace("'", "''")
            statements += [
                f"CREATE INDEX IF NOT EXISTS {index} ON {on}",
                f"COMMENT ON TABLE {self._table} IS '{about}'",
            ]
        return [statement.encode() for statement in statements]

    @property
    def record(self) -> bytes:
        """Write the record of a table."""
        update = "ON CONFLICT (collection) DO UPDATE SET record = EXCLUDED.record"
        return f"INSERT INTO {self.schema}.exports VALUES (%s, %s) {update}".encode()
