"""The re-ranker: its candidates by slow lines, what it learns, and that the place of an id tells it nothing."""

import numpy as np
import scipy.sparse as sp

from recsys_spark.evaluate.kernels import reranker
from recsys_spark.evaluate.kernels.labelled_events import LabelledEvents
from recsys_spark.evaluate.kernels.reranker import Parts, Reranked, examples, fit_reranker
from recsys_spark.evaluate.kernels.scorers import ItemVectors, ItemWeights, UserHistories

ITEMS = 40


def parts_of(seed=0, order=None):
    """Random scorers; those of the items in another order with ``order``."""
    rng = np.random.default_rng(seed)
    hybrid, sequential = (rng.normal(size=(ITEMS, ITEMS)).astype(np.float32) for _ in range(2))
    vectors, words = (np.linalg.qr(rng.normal(size=(ITEMS, ITEMS)))[0][:, :8].astype(np.float32) for _ in range(2))
    popularity = rng.integers(1, 50, ITEMS)
    order = np.arange(ITEMS) if order is None else order
    return Parts(
        ItemWeights(hybrid[np.ix_(order, order)]),
        ItemWeights(sequential[np.ix_(order, order)]),
        ItemVectors(vectors[order]),
        ItemVectors(words[order]),
        popularity[order],
    )


def histories_of(rows, decay=0.8):
    sizes = np.array([len(row) for row in rows])
    items = np.concatenate([np.array(row, np.int64) for row in rows])
    newer = np.concatenate([np.arange(size)[::-1] for size in sizes])
    weights = sp.csr_array((decay**newer, (np.repeat(np.arange(len(rows)), sizes), items)), shape=(len(rows), ITEMS))
    return UserHistories(weights, items, np.append(0, np.cumsum(sizes)))


def test_candidates_are_the_best_unseen_items(monkeypatch):
    monkeypatch.setattr(reranker, "CANDIDATES", 5)
    parts, rows = parts_of(), [[3, 7], [1]]
    items, features, mixed = parts.candidates(histories_of(rows))
    for user, row in enumerate(rows):
        weights = 0.8 ** np.arange(len(row))[::-1]
        unseen = np.setdiff1d(np.arange(ITEMS), row)
        total = 0
        for one, weight in ((parts.hybrid, 1), (parts.sequential, 0.4)):
            scores = weights @ one.weights[row]
            total = total + weight * scores / scores[unseen].std()
        np.testing.assert_allclose(mixed[user], total, rtol=1e-4, atol=1e-5)
        assert items[user].tolist() == unseen[np.argsort(-total[unseen])][:5].tolist()
    assert features.shape[:2] == (2, 5)
    assert np.isfinite(features).all()


def test_no_feature_knows_the_order_of_ids():
    order = np.random.default_rng(5).permutation(ITEMS)
    new_place = np.argsort(order)
    items, features, _ = parts_of().candidates(histories_of([[3, 7], [1]]))
    others, moved, _ = parts_of(order=order).candidates(histories_of([new_place[[3, 7]], new_place[[1]]]))
    assert order[others][0, :38].tolist() == items[0, :38].tolist()
    assert order[others][1, :39].tolist() == items[1, :39].tolist()
    np.testing.assert_allclose(moved, features, rtol=1e-4, atol=1e-4)
    assert np.isnan(features).any(axis=2).sum(axis=1).tolist() == [2, 1], "those of the history"


def test_trees_learn_which_candidates_are_chosen_and_seen_items_come_last(monkeypatch):
    """Users choose the most popular of their candidates, which the mixed score does not know."""
    monkeypatch.setattr(reranker, "CANDIDATES", 10)
    parts, rng = parts_of(), np.random.default_rng(2)
    rows = [rng.permutation(ITEMS)[:3].tolist() for _ in range(300)]
    items, _, _ = parts.candidates(histories_of(rows))
    chosen = [row[np.argmax(parts.popularity[row])] for row in items]
    events = np.concatenate([[*row, wanted] for row, wanted in zip(rows, chosen, strict=True)])
    is_last = np.arange(len(events)) % 4 == 3
    labelled = LabelledEvents(events, np.repeat(np.arange(300), 4), ~is_last, is_last, np.full(300, True))
    features, hits = examples(parts, labelled, 0.8)
    assert hits.sum(axis=1).tolist() == [1] * 300
    model = fit_reranker(features[:200], hits[:200])
    scorer = Reranked(parts.hybrid, parts.sequential, parts.vectors, parts.words, parts.popularity, model)
    scores = scorer.scores(histories_of([*rows[200:], []]))
    assert (scores[:100].argmax(axis=1) == chosen[200:]).mean() > 0.9
    for row, seen, best in zip(scores[:100], rows[200:], items[200:], strict=True):
        assert set(np.argsort(-row)[:10]) == set(best)
        assert row[seen].max() < row[best].min()
    assert not scores[100].any()
