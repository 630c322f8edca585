"""SQL statements from the contracts of tables, in the dialects of catalogues.

No statement changes a table: a comment by ALTER TABLE would be a commit of another writer. Where the catalogue reads
the Delta log, columns and their comments come from there.
"""

import re
from collections.abc import Mapping

from recsys_spark.catalog.options import Dialect
from recsys_spark.errors import UsageError
from recsys_spark.tables.contract import Table
from recsys_spark.tables.descriptions import column_comments, description

_PARTS: dict[Dialect, tuple[int, ...]] = {
    "unity": (2,),
    "spark": (1, 2),
    "glue": (1,),
    "hive": (1,),
    "trino": (2,),
    "duckdb": (1,),
}
"""How many names the schema has: a schema, or a catalogue and a schema."""


def statements(dialect: Dialect, target: str, located: Mapping[Table, str]) -> list[str]:
    """The statements that register tables, given with the URIs of their folders.

    Raises:
        UsageError: ``target`` has not as many names as the dialect takes, or a name with other characters than letters,
            digits and underscores.
    """
    names = target.split(".")
    if not all(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) for name in names) or len(names) not in _PARTS[dialect]:
        form = "catalog.schema" if _PARTS[dialect] == (2,) else "schema"
        raise UsageError(
            f"target '{target}' is not of the form {form} that dialect '{dialect}' takes (letters, digits, _)"
        )
    mark = '"' if dialect in ("trino", "duckdb") else "`"
    schema = ".".join(f"{mark}{name}{mark}" for name in names)
    first = [f"CREATE {'DATABASE' if dialect == 'glue' else 'SCHEMA'} IF NOT EXISTS {schema};"]
    if dialect == "duckdb":
        first = ["INSTALL delta;", "LOAD delta;", *first]
    return first + [line for table, uri in located.items() for line in _of_table(dialect, schema, table, uri)]


def _of_table(dialect: Dialect, schema: str, table: Table, uri: str) -> list[str]:
    match dialect:
        case "unity" | "spark":
            return [f"CREATE TABLE IF NOT EXISTS {schema}.`{table.name}` USING DELTA LOCATION {_text(uri)};"]
        case "glue":
            properties = "TBLPROPERTIES ('table_type' = 'DELTA')"
            return [
                f"CREATE EXTERNAL TABLE IF NOT EXISTS {schema}.`{table.name}` LOCATION {_text(uri + '/')} {properties};"
            ]
        case "hive":
            return [_of_hive(schema, table, uri)]
        case "trino":
            catalog, name = schema.split(".")
            arguments = f"schema_name => {_text(name[1:-1])}, table_name => {_text(table.name)}"
            return [f"CALL {catalog}.system.register_table({arguments}, table_location => {_text(uri)});"]
        case "duckdb":
            return _of_duckdb(f'{schema}."{table.name}"', table, uri)


def _of_hive(schema: str, table: Table, uri: str) -> str:
    comments = column_comments(table)
    columns = ",\n".join(f"  `{name}` {kind} COMMENT {_text(comments[name])}" for name, kind in table.columns.items())
    handler = "STORED BY 'io.delta.hive.DeltaStorageHandler'"
    head = f"CREATE EXTERNAL TABLE IF NOT EXISTS {schema}.`{table.name}` (\n{columns}\n)"
    return f"{head}\nCOMMENT {_text(description(table))}\n{handler} LOCATION {_text(uri)};"


def _of_duckdb(view: str, table: Table, uri: str) -> list[str]:
    comments = [f'COMMENT ON COLUMN {view}."{name}" IS {_text(text)};' for name, text in column_comments(table).items()]
    create = f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM delta_scan({_text(uri)});"
    return [create, f"COMMENT ON VIEW {view} IS {_text(description(table))};", *comments]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
