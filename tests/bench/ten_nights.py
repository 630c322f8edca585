"""A lake of nights without Spark: tables of a few rows, with the provenance that nights leave."""

from datetime import date, datetime, timedelta

from deltalake import DeltaTable

from recsys_spark.lake.lake import Lake
from recsys_spark.lake.paths import delta_uri
from recsys_spark.lake.provenance import Provenance
from recsys_spark.tables.schemas import (
    CHANGES,
    EVENTS,
    FORGOTTEN,
    ITEM_VECTORS,
    ITEMS,
    METRICS,
    QUARANTINE,
    RECOMMENDATIONS,
    USER_PROFILES,
    USER_RULES,
    USERS,
    Table,
)
from tests.bench.stored_rows import staged

FIRST = date(2024, 3, 1)

AT = datetime(2024, 2, 1)

PINNED = (ITEMS, USERS, EVENTS, ITEM_VECTORS)


def day(number: int) -> date:
    """The run date of a night, counted from 0."""
    return FIRST + timedelta(days=number)


def publish_night(lake: Lake, number: int) -> None:
    """Replace the tables of a night: items and vectors every other night, events and lists every night."""
    if not number % 2:
        put(lake, ITEMS, [(f"i{n}", *[None] * 11) for n in range(number + 2)], f"ingest_tables:{number}")
        put(lake, ITEM_VECTORS, [(f"i{n}", "m", [1.0, n]) for n in range(number + 2)], f"build_item_vectors:{number}")
    if not number:
        put(lake, USERS, [(f"u{n}", None, None, None, None) for n in range(3)], "ingest_tables:0")
        put(lake, USER_RULES, [], "ingest_tables:0")
        put(lake, QUARANTINE, [], "ingest_tables:0")
    events = [(f"u{n % 3}", f"i{n}", "purchase", AT, None) for n in range(number + 2)]
    stones = lake.last_commit(FORGOTTEN)
    forgotten = None if stones is None else stones.content_id
    put(lake, EVENTS, events, f"ingest_tables:{number}", Provenance(forgotten=forgotten))
    profiles = [(f"u{n}", "m", [1.0, number], 1, AT, AT) for n in range(3)]
    put(lake, USER_PROFILES, profiles, f"build_profiles:{number}", Provenance(run_date=day(number)))
    commits = {table.name: lake.last_commit(table) for table in PINNED}
    pinned = {
        "inputs": {name: commit.content_id for name, commit in commits.items()},
        "versions": {name: commit.version for name, commit in commits.items()},
        "identities": {name: commit.identity for name, commit in commits.items()},
    }
    lists = [(f"u{n}", f"i{number}", 0.5, 1, day(number), "m", None, None) for n in range(3)]
    put(lake, RECOMMENDATIONS, lists, f"recommend_items:{number}", Provenance(run_date=day(number), **pinned))
    metric = (day(number), "auto", "ndcg", 10, 0.1, 3, number + 1, AT)
    lake.commit(staged(lake, METRICS, [metric]), f"evaluate_recommendations:{number}", append=True)
    change = (day(number), "events", "all", number + 2, 1, 0, 0)
    lake.commit(staged(lake, CHANGES, [change]), f"ingest_tables:{number}", append=True)


def put(lake: Lake, table: Table, rows: list[tuple], key: str, provenance: Provenance | None = None) -> None:
    """Replace a table as the run ``key``."""
    lake.commit(staged(lake, table, rows), key, provenance=provenance)


def rows_of(lake: Lake, table: Table) -> list[dict]:
    """All rows, sorted."""
    stored = DeltaTable(delta_uri(lake.table_uri(table))).to_pyarrow_table()
    return sorted(stored.to_pylist(), key=str)
