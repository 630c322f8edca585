"""Column lineage names columns that exist, for every table that is made from others."""

import pytest

from recsys_spark.tables.origins import origins
from recsys_spark.tables.schemas import TABLES

OF_SOURCES = {
    "items", "users", "user_rules", "quarantine", "streamed_events", "streamed_quarantine", "forgotten",
    "attack_truth", "privacy_ledger", "changes",
}  # fmt: skip
"""Tables that no column of another table goes into: of sources, options or counts of rows."""


@pytest.mark.parametrize("name", sorted(TABLES))
def test_origins_are_columns_of_the_lake(name):
    table = TABLES[name]
    assert (name in OF_SOURCES) is not bool(origins(table)), "a new table needs its origins"
    assert set(origins(table)) <= set(table.columns)
    named = {pair for pairs in origins(table).values() for pair in pairs}
    assert not [pair for pair in named if pair[0] not in TABLES or pair[1] not in TABLES[pair[0]].columns]
    assert not [column for column, pairs in origins(table).items() if len(set(pairs)) < len(pairs)], "named twice"


def test_ids_come_from_ids():
    for table in TABLES.values():
        for column in ("user_id", "item_id", "neighbor_id"):
            assert {name for _, name in origins(table).get(column, [])} <= {"user_id", "item_id"}
