"""Accounts that act together, against a slow count over all pairs of events."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys_spark.risk.lockstep import SLOT_SECONDS, lockstep_figures

EVENT_DDL = "user_id string, item_id string, timestamp timestamp"


def slow(rows):
    cells = {(user, item, int(at.timestamp()) // SLOT_SECONDS) for user, item, at in rows}
    figures = {}
    for user in {one for one, *_ in rows}:
        mine = [cell[1:] for cell in cells if cell[0] == user]
        figures[user] = sum(cell[1:] in mine for cell in cells if cell[0] != user) / len(mine)
    return figures


@pytest.mark.parametrize("partitions", [1, 5])
def test_other_accounts_on_the_item_in_the_half_hour_are_counted(spark, partitions):
    random, start = np.random.default_rng(6), datetime(2024, 2, 1, tzinfo=UTC)
    rows = [
        (
            f"u{random.integers(0, 9)}",
            f"i{random.integers(0, 4)}",
            start + timedelta(minutes=int(random.integers(0, 200))),
        )
        for _ in range(150)
    ]
    rows += [(f"farm{n}", "i9", start + timedelta(days=1, minutes=n)) for n in range(5)]
    found = lockstep_figures(spark.createDataFrame(rows, EVENT_DDL).repartition(partitions)).collect()
    figures = {row["user_id"]: row["lockstep"] for row in found}
    assert figures == slow(rows)
    assert figures["farm0"] == 4
