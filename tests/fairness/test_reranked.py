"""Re-ranking of Arrow batches, without a JVM."""

from datetime import date
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.fairness.kernels.exposure import position_exposure
from recsys_spark.fairness.reranked import Rerank, reranked_rows
from recsys_spark.tables.contract import ARROW_TYPES, REASONS
from recsys_spark.tables.schemas import RECOMMENDATIONS

ENTRY = pa.struct(
    [
        ("rank", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float32()),
        ("group", pa.int32()),
        ("item_hash", pa.int64()),
        ("names", pa.list_(pa.int64())),
        ("source", pa.string()),
        ("reasons", ARROW_TYPES[REASONS]),
    ]
)
HISTORY = pa.list_(pa.struct([("name", pa.int64()), ("share", pa.float64())]))


def users(sizes, group_of, history=None):
    """Rows of ``candidate_lists``: item n of a user has the score −n, and a reason that names it."""
    reason = {"kind": "history", "item_id": None, "contribution": 1.0, "share": 1.0, "blocks": None}
    lists = [
        [
            {"rank": n + 1, "item_id": f"u{user}-{n}", "score": -float(n), "group": group_of(n), "item_hash": n}
            | {"names": [n % 2] if n else None, "source": "own", "reasons": [reason | {"sentence": f"u{user}-{n}"}]}
            for n in range(size)
        ]
        for user, size in enumerate(sizes)
    ]
    columns = [
        pa.array([f"u{user}" for user in range(len(sizes))]),
        pa.array(lists, pa.list_(ENTRY)),
        pa.array([history] * len(sizes), HISTORY),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["user_id", "candidates", "history"])


def made(batches, rerank):
    stats = {}
    constant = {"run_date": date(2024, 3, 1), "model": "m"}
    rows = list(reranked_rows(rerank, constant, list(RECOMMENDATIONS.columns))(iter(batches), stats))
    return pa.Table.from_batches(rows).cast(RECOMMENDATIONS.arrow_schema).to_pylist(), stats


def test_rows_keep_their_scores_and_reasons_in_any_batches():
    batch = users([6, 3, 0, 1, 6], lambda n: 0 if n == 4 else -1)
    rerank = Rerank(k=3, shares=(Fraction(1, 10),), prices=(1 << 20,))
    rows, stats = made([batch], rerank)
    assert [row["item_id"] for row in rows if row["user_id"] == "u0"] == ["u0-4", "u0-0", "u0-1"]
    assert [row["rank"] for row in rows if row["user_id"] == "u0"] == [1, 2, 3]
    for row in rows:
        assert row["reasons"][0]["sentence"] == row["item_id"]
        assert row["score"] == -float(row["item_id"].split("-")[1])
    weights = position_exposure(3)
    assert stats["lists"] == 5
    assert stats["unfilled_slots"] == 5
    assert stats["exposure"] == [2 * int(weights[0])]
    assert stats["total"] == 3 * int(weights.sum()) + int(weights[0])
    split, again = made([batch.slice(0, 2), batch.slice(2)], rerank)
    assert split == rows
    assert {name: value for name, value in again.items() if name != "kept"} == {
        name: value for name, value in stats.items() if name != "kept"
    }


def test_prices_of_items_reach_the_items_of_their_hash():
    rerank = Rerank(k=2, item_hashes=np.array([0, 9]), item_prices=np.array([-(1 << 21), 5]))
    rows, _ = made([users([4], lambda _: -1)], rerank)
    assert [row["item_id"] for row in rows] == ["u0-1", "u0-2"]


def test_a_calibrated_list_has_the_categories_of_the_history():
    history = [{"name": 1, "share": 1.0}]
    rows, stats = made([users([6, 0], lambda _: -1, history)], Rerank(k=3, calibration=1.0))
    assert [row["item_id"] for row in rows] == ["u0-1", "u0-3", "u0-5"]
    assert stats["divergence"][1] < stats["divergence"][0]
    plain, _ = made([users([6], lambda _: -1)], Rerank(k=3, calibration=1.0))
    assert [row["rank"] for row in plain] == [1, 2, 3], "without a history the order of the scorer stays"
    assert plain[0]["item_id"] == "u0-0"


@pytest.mark.parametrize("by", ["list", "test"])
def test_lists_that_miss_their_floor_are_counted(by):
    rerank = Rerank(k=3, shares=(Fraction(9, 10),), by=by, prices=(0,))
    _, stats = made([users([6, 6], lambda n: 0 if n > 4 else -1)], rerank)
    assert stats["missed"] == 2
