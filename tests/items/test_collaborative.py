"""The collaborative block of item vectors: who had an item, projected."""

from datetime import UTC, date, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from recsys_spark.errors import UsageError
from recsys_spark.events.options import HistoryOptions
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.items.vectors import FeatureBlocks, block_widths
from recsys_spark.lake.lake import Lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEM_VECTORS, ITEMS
from tests.bench.stored_rows import commit_rows


def test_items_of_the_same_users_are_alike_and_events_change_their_vectors(spark, tmp_path):
    run = Run("build_item_vectors", Lake(str(tmp_path)), Progress())
    day, ids = datetime(2024, 2, 1, tzinfo=UTC), "abcd"
    had = {"a": (1, 2, 3), "b": (1, 2, 3), "c": (4, 5)}  # nobody had d
    events = [(f"u{u}", item, "view", day, None) for item, users in had.items() for u in users]

    def put(table, rows, key):
        commit_rows(run.lake, table, rows, key)

    def build(**keys):
        options = BlockOptions(lake=run.lake.uri, **keys)
        history = HistoryOptions(lake=run.lake.uri, run_date=date(2024, 3, 1))
        report = build_item_vectors(run, options, SimpleNamespace(fingerprint="enc"), history)
        rows = run.lake.read(spark, ITEM_VECTORS).collect()
        return report["status"], {row["item_id"]: np.array(row["embedding"]) for row in rows}, rows[0]["model"]

    put(ITEMS, [(item, None, item, f"h{item}", *[None] * 8) for item in ids], "items")
    put(EMBEDDINGS, [(f"h{item}", "enc", np.eye(4)[n].tolist()) for n, item in enumerate(ids)], "texts")
    put(EVENTS, events, "events")
    weights = {"category_weight": 0, "brand_weight": 0, "price_weight": 0, "image_weight": 0}
    _, plain, space = build(**weights)
    assert plain["a"] @ plain["b"] == 0
    status, vectors, named = build(**weights, collaborative_weight=1.0)
    assert (status, len(vectors["a"]), named != space) == ("done", 4 + 128, True)
    assert vectors["a"] @ vectors["b"] == pytest.approx(0.5, abs=1e-6)
    assert abs(vectors["a"] @ vectors["c"]) < 0.2
    assert vectors["a"] @ vectors["d"] == 0
    widths = block_widths(FeatureBlocks(category=0, brand=0, price=0, image=0, collaborative=1.0), 4, 132)
    assert widths == {"text": 4, "collaborative": 128}
    put(EVENTS, [*events, ("u4", "a", "view", day, None)], "more events")
    status, later, same_space = build(**weights, collaborative_weight=1.0)
    assert (status, same_space) == ("done", named)
    assert (later["d"].tolist(), later["a"].tolist() != vectors["a"].tolist()) == (vectors["d"].tolist(), True)
    with pytest.raises(UsageError, match="use refresh_lake"):
        build_item_vectors(run, BlockOptions(lake="-", collaborative_weight=1.0), SimpleNamespace(fingerprint="enc"))
