"""The sequence encoder on small histories: what a state sees, what is learned; batches change nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.sequence.kernels.sequence_task import SequenceTask, user_states
from recsys_spark.sequence.kernels.transformer import SequenceModel, Shape, StateEncoder
from recsys_spark.sequence.kernels.windows import PAD, training_windows
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, train

SMALL = Shape(width=16, layers=2, heads=2, length=5, dropout=0.1)


def random_texts(items=30, width=12):
    rows = np.random.default_rng(3).normal(size=(items, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def circles(users=200, items=30):
    """Each user goes three items further with every event."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 9, users)
    starts = rng.integers(0, items, users)
    owner = np.repeat(np.arange(users), sizes)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (starts[owner] + 3 * step) % items, np.append(0, np.cumsum(sizes))


def next_hits(task):
    """The share of histories whose last event has the greatest score after the events before it."""
    items, offsets = circles()
    last = offsets[1:] - 1
    before = np.delete(items, last)
    states = task.user_states(task.item_vectors(), before, offsets - np.arange(len(offsets)))
    return {"valid_total": float(((states @ task.item_vectors().T).argmax(axis=1) == items[last]).mean())}


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.integers(1, 5))
def test_each_event_but_the_oldest_is_a_target_once(sizes, length):
    offsets = np.append(0, np.cumsum(sizes))
    items = np.arange(offsets[-1])
    windows = training_windows(items, offsets, length)
    assert windows.shape[1] <= length + 1
    expected = [item for first, last in zip(offsets, offsets[1:], strict=False) for item in range(first + 1, last)]
    assert sorted(windows[:, 1:][windows[:, 1:] != PAD].tolist()) == expected
    for row in windows:
        events = row[row != PAD]
        assert (np.diff(events) == 1).all(), "the events of a piece follow each other"


def test_a_state_sees_no_later_event():
    torch.manual_seed(0)
    model = SequenceModel(random_texts(), SMALL).eval()
    vectors = model.items()
    one, other = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[1, 2, 3, 9, PAD]])
    first, second = model(vectors, one)[0], model(vectors, other)[0]
    torch.testing.assert_close(first[:3], second[:3])
    assert not torch.allclose(first[3], second[3])


def test_the_order_of_events_counts_and_the_batch_does_not():
    torch.manual_seed(0)
    encoder, vectors = StateEncoder(SMALL), random_texts(width=SMALL.width)
    items, offsets = circles(users=50)
    together = user_states(encoder, SMALL, vectors, items, offsets)
    for user, (first, last) in enumerate(zip(offsets, offsets[1:], strict=False)):
        alone = user_states(encoder, SMALL, vectors, items[first:last], np.array([0, last - first]))
        np.testing.assert_array_equal(alone[0], together[user])
    swapped = user_states(encoder, SMALL, vectors, np.array([4, 3]), np.array([0, 2]))
    assert not np.allclose(swapped, user_states(encoder, SMALL, vectors, np.array([3, 4]), np.array([0, 2])))
    assert not user_states(encoder, SMALL, vectors, np.empty(0, np.int64), np.array([0, 0])).any()


def test_only_the_newest_events_count():
    encoder, vectors = StateEncoder(SMALL), random_texts(width=SMALL.width)
    items = np.array([9, 8, 1, 2, 3, 4, 5])
    whole = user_states(encoder, SMALL, vectors, items, np.array([0, 7]))
    np.testing.assert_array_equal(whole, user_states(encoder, SMALL, vectors, items[2:], np.array([0, 5])))


@pytest.mark.parametrize("max_candidates", [1000, 20])
def test_a_rule_of_succession_is_learned(tmp_path, monkeypatch, max_candidates):
    monkeypatch.setattr("recsys_spark.training.kernels.sampled_softmax.MAX_CANDIDATES", max_candidates)
    items, offsets = circles()
    task = SequenceTask(random_texts(), items, offsets, SMALL, next_hits, batch=32)
    trained = train(task, Plan(epochs=12, learning_rate=5e-3), Checkpoints(tmp_path, "a"))
    assert trained.records[0]["valid_total"] < 0.2
    assert trained.best["valid_total"] > 0.9


def test_an_item_without_events_is_found_by_its_text(tmp_path):
    """Item 29 has the text of item 3 and no event: where item 3 comes next, both are ranked first."""
    texts = random_texts()
    texts[29] = texts[3]
    items, offsets = circles(items=29)
    task = SequenceTask(texts, items, offsets, SMALL, lambda task: {"valid_total": 0.0}, batch=32)
    train(task, Plan(epochs=12, learning_rate=5e-3, stop_after=12), Checkpoints(tmp_path, "a"))
    states = task.user_states(task.item_vectors(), np.array([26, 0]), np.array([0, 2]))
    assert set(np.argsort(-(states @ task.item_vectors().T)[0])[:2]) == {3, 29}
