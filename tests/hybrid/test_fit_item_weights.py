"""fit_item_weights on a lake: its inputs, and the items that keep their weights from one night to the next."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from recsys_spark.hybrid.options import WeightOptions
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.lake.lake import Lake
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, FORGOTTEN, ITEM_VECTORS, ITEM_WEIGHTS, ITEMS
from tests.bench.stored_rows import commit_rows

FIRST = date(2024, 3, 1)
USERS_AT_FIRST, ITEMS_AT_FIRST = 12, 10


class Night:
    """The sources of a lake, and the step over them."""

    def __init__(self, spark, folder):
        self.spark, self.lake, self.nights, self.run_date = spark, Lake(str(folder)), 0, FIRST
        self.texts = {n: f"thing{n % 4} word{n} of{n % 3}" for n in range(ITEMS_AT_FIRST)}
        self.events = {(u, (u + n * n) % (ITEMS_AT_FIRST - 1), -1 - n) for u in range(USERS_AT_FIRST) for n in range(4)}
        self.space = "enc-blocks"

    def sources(self, space=None):
        self.nights += 1
        hashes = {text: f"h-{text}" for text in self.texts.values()}
        draws = {text: np.random.default_rng(list(text.encode())).standard_normal(4).tolist() for text in hashes}
        rows = {
            ITEMS: [(f"i{n}", None, text, hashes[text], *[None] * 8) for n, text in self.texts.items()],
            EVENTS: [(f"u{u}", f"i{i}", "view", _time(d), None) for u, i, d in self.events],
            EMBEDDINGS: [(hashes[text], "enc", draws[text]) for text in hashes],
            ITEM_VECTORS: [("i0", space or self.space, [1.0, 0.0])],
        }
        for table, table_rows in rows.items():
            commit_rows(self.lake, table, table_rows, f"sources-{self.nights}")

    def fit(self, *, force=False, **options):
        keys = {"lake": self.lake.uri, "run_date": self.run_date, "hybrid_ridge": 2.0} | options
        report = fit_item_weights(Run("fit_item_weights", self.lake, Progress()), WeightOptions(**keys), force=force)
        rows = self.lake.read(self.spark, ITEM_WEIGHTS).collect()
        return report, {(row["item_id"], row["neighbor_id"]): row["weight"] for row in rows}


def _time(days):
    return datetime(2024, 3, 1, 12, tzinfo=UTC) + timedelta(days=days)


def of(weights, *items):
    return {pair: weight for pair, weight in weights.items() if pair[0] in items}


@pytest.fixture
def night(spark, tmp_path):
    night = Night(spark, tmp_path)
    night.sources()
    return night


def test_new_items_are_fitted_and_the_others_keep_their_weights(night):
    first, before = night.fit()
    assert first["weights_made"] == "all: it is the first run"
    night.run_date += timedelta(days=1)  # and nothing else
    report, same = night.fit()
    assert (report["status"], report["weights_made"], same == before) == ("unchanged", "none", True)
    night.texts[20] = "thing1 word1 new"  # no user has it
    night.texts[3] = "another text"
    night.events.add((1, 20, 0))  # now a user has it
    del night.texts[5]
    night.run_date += timedelta(days=1)
    night.sources()
    report, after = night.fit()
    assert report["weights_made"] == "2 items that are new or have a changed text"
    unchanged = [f"i{n}" for n in range(ITEMS_AT_FIRST) if n not in (3, 5)]
    assert of(after, *unchanged) == {pair: w for pair, w in of(before, *unchanged).items() if pair[1] != "i5"}
    _, whole = night.fit(force=True)
    assert of(after, "i20", "i3") == of(whole, "i20", "i3") != {}
    assert of(whole, *unchanged) != of(after, *unchanged)
    assert night.fit()[0]["status"] == "unchanged"


@pytest.mark.slow
def test_all_items_are_fitted_when_a_refit_is_due(night):
    first = night.fit()[1]
    for n in range(2):  # a fifth of the items
        night.texts[20 + n] = f"thing{n} newcomer"
    night.sources()
    report, _ = night.fit(refit_share=0.5)
    assert report["weights_made"].startswith("all: refit was")
    night.texts[30] = "thing0 more"
    night.sources()
    assert night.fit(refit_share=0.5)[0]["weights_made"].startswith("1 items")
    night.events |= {(u, n, -9) for u in range(20, 30) for n in range(3)}
    night.sources()
    report, _ = night.fit(refit_share=0.5)
    assert report["weights_made"] == "all: 48 events at the last fit of all items, 78 now"
    night.run_date -= timedelta(days=2)
    report, earlier = night.fit(refit_share=0.5)
    assert report["weights_made"] == "all: run_date was 2024-03-01, is 2024-02-28"
    assert earlier != first


@pytest.mark.slow
def test_the_fit_is_that_of_the_evaluation_whatever_item_vectors_and_half_lives_are(night):
    _, before = night.fit()
    night.sources(space="enc-other-white")
    report, after = night.fit(half_life_days=7.0, half_life_steps=0.1)
    assert (report["status"], after) == ("unchanged", before)
    _, raw = night.fit(hybrid_whitening=1e9)
    assert raw != before


def test_weights_that_were_fitted_on_a_forgotten_user_are_not_kept(night):
    _, before = night.fit()
    night.events = {event for event in night.events if event[0] != 3}
    night.sources()
    commit_rows(night.lake, FORGOTTEN, [("user", "hash of u3")], "forget", append=True)
    report, after = night.fit()
    assert report["weights_made"].startswith("all: forgotten was None")
    assert after != before


def test_the_hybrid_scorer_counts_age_in_steps_by_default_and_ranked_lists_in_days():
    def half_lives(scorer="hybrid", **options):
        weights, history = TopKOptions(lake="-", run_date=FIRST, scorer=scorer, **options).hybrid_history
        return weights.half_life_days, history.half_life_steps

    assert half_lives() == (0.0, 3.0)
    assert half_lives(half_life_steps=1.5) == (0.0, 1.5)
    assert half_lives(half_life_days=30) == (30.0, None)
    assert half_lives("auto") == (180.0, None)
    assert half_lives("auto", half_life_days=7) == (7.0, None)
    assert TopKOptions(lake="-", run_date=FIRST).weights.half_life_days == 180.0
