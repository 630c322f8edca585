"""Contrastive loss, training examples and the two contrastive tasks, against slow oracles."""

import shutil

import numpy as np
import pytest
import torch

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.encode.kernels.dense_head import apply_head, read_head, write_head
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.rng_state import random_states, set_random_states
from recsys_spark.training.kernels.sampled_softmax import softmax_candidates
from recsys_spark.training.kernels.training_loop import Plan, train
from recsys_spark.tune.kernels.contrastive_loss import MAX_CONTEXT, build_examples, softmax_loss
from recsys_spark.tune.kernels.next_item_eval import TEST, VALID, Histories, evaluate_next_item, gain
from recsys_spark.tune.kernels.projector_task import ProjectorTask, nearness
from recsys_spark.tune.kernels.trainable_encoder import copy_base
from tests.bench.training import contrastive_task, histories, vectors


def test_the_loss_is_a_softmax_over_unmasked_candidates():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(5, 9)), rng.integers(0, 9, 5)
    masked = rng.random((5, 9)) < 0.4
    expected = []
    for row in range(5):
        allowed = [c for c in range(9) if c == target[row] or not masked[row, c]]
        expected.append(np.log(np.exp(scores[row, allowed]).sum()) - scores[row, target[row]])
    loss = softmax_loss(torch.tensor(scores), torch.tensor(target), masked=torch.tensor(masked))
    np.testing.assert_allclose(float(loss), np.mean(expected), rtol=1e-9)


def test_log_q_makes_a_sampled_softmax_agree_with_the_full_one():
    """Candidates sampled from a skewed distribution: subtracting ln q brings the expected gradient close to that of the
    full softmax, adding it does not. The sign is often implemented wrong."""
    rng = np.random.default_rng(1)
    items, draws = 200, 60
    q = 1 / np.arange(1, items + 1)
    q /= q.sum()
    full = torch.tensor(rng.normal(size=items), requires_grad=True)
    softmax_loss(full[None], torch.tensor([150])).backward()
    gradients = {}
    for sign in (1, 0, -1):
        scores, total = full.detach().clone().requires_grad_(True), 0
        for _ in range(3000):
            sampled = rng.choice(items, draws, p=q)
            candidates = torch.tensor(np.r_[150, sampled])
            log_q = torch.tensor(np.log(np.r_[1.0, q[sampled] * draws])) * sign
            total = total + softmax_loss(scores[candidates][None], torch.tensor([0]), log_q)
        (total / 3000).backward()
        gradients[sign] = float((scores.grad - full.grad).abs().sum())
    assert gradients[1] < 0.3 * gradients[0]
    assert gradients[1] < 0.3 * gradients[-1]


@pytest.mark.parametrize("both_sides", [True, False])
def test_examples_are_each_event_and_those_around_it(both_sides):
    events = Histories(np.array([5, 6, 7, 5, 9]), np.array([0, 0, 0, 0, 1]), np.zeros(5, np.int8))
    examples = build_examples(events, 0.5, both_sides=both_sides)
    expected = []
    for position, item in enumerate([5, 6, 7, 5]):
        around = [
            (other, 0.5 ** (abs(at - position) - 1))
            for at, other in enumerate([5, 6, 7, 5])
            if at != position and (both_sides or at < position)
        ]
        if around:
            expected.append((item, 0, around))
    listed = []
    for row in range(len(examples.target)):
        _, context, weight = examples.contexts(np.array([row]))
        pairs = [(int(c), float(w)) for c, w in zip(context, weight, strict=True)]
        listed.append((int(examples.target[row]), int(examples.user[row]), pairs))
    assert listed == expected


def test_evaluation_is_a_full_ranking_without_seen_items():
    events, rows = histories(users=30), vectors()
    for role in (VALID, TEST):
        result = evaluate_next_item(rows, events, 0.7, role)
        for position, user in enumerate(result.users):
            of_user = events.owner == user
            before = events.items[of_user & (events.role < role)]
            (target,) = events.items[of_user & (events.role == role)]
            profile = sum(0.7**age * rows[item] for age, item in enumerate(before[::-1]))
            scores = rows @ profile
            rank = 1 + sum(
                scores[item] > scores[target] for item in range(len(rows)) if item == target or item not in before
            )
            assert result.hit_rate[position] == (rank <= 10)
            np.testing.assert_allclose(result.ndcg[position], 1 / np.log2(rank + 1) if rank <= 10 else 0)


def test_the_interval_of_a_gain_contains_its_mean_and_separates_noise_from_gain():
    rng = np.random.default_rng(0)
    base = rng.random(500)
    mean, low, high = gain(base + 0.1 + rng.normal(size=500) * 0.1, base, seed=0)
    assert 0 < low < mean < high
    _, low, high = gain(base + rng.normal(size=500) * 0.1, base, seed=0)
    assert low < 0 < high


@pytest.mark.parametrize(
    ("hidden", "memory", "shrink"), [(0, 0, None), (0, 0, 0.1), (40, 0, 0.1), (0, 60, 0.1), (40, 20, 0.1)]
)
def test_a_projector_learns_and_its_layers_are_the_same_function(tmp_path, hidden, memory, shrink):
    rows = vectors()
    task = ProjectorTask(rows, histories(), shrink=shrink, hidden=hidden, memory=memory, dropout=0.1, batch=64)
    trained = train(task, Plan(epochs=6, learning_rate=1e-2), Checkpoints(tmp_path, "a"))
    assert trained.best["valid_hit_rate@10"] > 2 * trained.records[0]["valid_hit_rate@10"]
    np.testing.assert_allclose(apply_head(task.layers(), rows), task.item_vectors(), atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(task.item_vectors(), axis=1), 1, atol=1e-5)
    assert len(task.module.keys) == min(memory, 60)


def test_an_offset_belongs_to_its_item_and_partly_to_texts_close_to_it():
    keys = vectors(items=5, width=200)  # nearly orthogonal
    close, far = unit_rows(keys[:1] + 0.3 * vectors(1, 200, seed=2)), vectors(1, 200, seed=3)
    near = nearness(np.concatenate([keys, close, far]), keys).toarray()
    np.testing.assert_allclose(near[:5], np.eye(5), atol=1e-5)
    assert 0.8 < near[5, 0] < 1
    assert not near[5, 1:].any()
    assert not near[6].any()


def test_the_items_with_most_events_have_offsets(tmp_path):
    events, rows = histories(), vectors()
    task = ProjectorTask(rows, events, shrink=None, memory=7)
    counts = np.bincount(events.items[events.role == 0], minlength=60)
    expected = sorted(sorted(range(60), key=lambda item: (-counts[item], item))[:7])
    np.testing.assert_array_equal(task.module.keys, rows[expected])


@pytest.mark.parametrize("max_candidates", [1000, 20])
def test_items_of_the_same_user_are_no_negatives_of_a_projector(monkeypatch, max_candidates):
    """Also items after the target, if the anchor has only those before it."""
    monkeypatch.setattr("recsys_spark.training.kernels.sampled_softmax.MAX_CANDIDATES", max_candidates)
    events, seen = histories(users=40), {}
    task = ProjectorTask(vectors(), events, hidden=0, batch=16, both_sides=False)
    monkeypatch.setattr(
        "recsys_spark.tune.kernels.projector_task.softmax_loss",
        lambda scores, target, log_q, masked: seen.update(masked=masked) or scores.sum(),
    )
    number, rows = task.batches(0)[0]
    task.backward((number, rows), 1.0)
    candidates = softmax_candidates(60, task._examples.target[rows], (0, 1, number))
    fitted = events.upto(0)
    for position, row in enumerate(rows):
        positives = set(fitted.items[fitted.owner == task._examples.user[row]])
        assert seen["masked"][position].tolist() == [item in positives for item in candidates]


def test_a_projector_learns_from_sampled_candidates_of_a_large_catalogue(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys_spark.training.kernels.sampled_softmax.MAX_CANDIDATES", 30)
    task = ProjectorTask(vectors(), histories(), hidden=0, dropout=0.1, batch=16)
    trained = train(task, Plan(epochs=6, learning_rate=1e-2), Checkpoints(tmp_path, "a"))
    assert trained.best["valid_hit_rate@10"] > 2 * trained.records[0]["valid_hit_rate@10"]


def test_the_model_folder_of_a_projector_gives_its_vectors_from_texts(tmp_path, tiny_bert):
    from recsys_spark.encode.kernels.encoder import Encoder

    texts = [f"item {number}" for number in range(60)]
    frozen = Encoder(read_model(str(tiny_bert))).encode(texts).vectors
    task = ProjectorTask(frozen, histories(), hidden=16, batch=64)
    train(task, Plan(epochs=2, learning_rate=1e-3), Checkpoints(tmp_path / "c", "a"))
    folder = tmp_path / "tuned"
    folder.mkdir()
    shutil.copyfile(tiny_bert / "model.safetensors", folder / "model.safetensors")
    copy_base(tiny_bert, folder)
    write_head(folder, [*read_head(tiny_bert), *task.layers()])
    spec = read_model(str(folder))
    assert spec.fingerprint != read_model(str(tiny_bert)).fingerprint
    np.testing.assert_allclose(Encoder(spec).encode(texts).vectors, task.item_vectors(), atol=1e-4)


def gradients(task):
    torch.manual_seed(3)
    task.module.train()
    loss = task.backward(task.batches(0)[0], 1.0)
    return loss, {name: p.grad for name, p in task.module.named_parameters() if p.grad is not None}


def test_gradients_in_pieces_are_those_of_the_whole_batch(tiny_bert):
    options = {"piece": 0}
    whole, pieces = contrastive_task(tiny_bert, **options), contrastive_task(tiny_bert, piece=7)
    for task in (whole, pieces):
        for layer in task.module.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0  # dropout differs between pieces of other sizes
    (loss, expected), (piece_loss, actual) = gradients(whole), gradients(pieces)
    assert loss == pytest.approx(piece_loss, abs=1e-5)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, atol=1e-5, rtol=1e-3)


def test_items_of_the_same_user_are_no_negatives(tiny_bert, monkeypatch):
    task = contrastive_task(tiny_bert)
    seen = {}
    monkeypatch.setattr(
        "recsys_spark.tune.kernels.contrastive_task.softmax_loss",
        lambda scores, target, log_q, masked: seen.update(masked=masked, target=target) or scores.sum(),
    )
    number, rows = task.batches(0)[0]
    task.backward((number, rows), 1.0)
    fitted = task._fitted
    for position, row in enumerate(rows):
        positives = set(fitted.items[fitted.owner == task._examples.user[row]])
        expected = [item in positives for item in task._candidates]
        assert seen["masked"][position].tolist() == expected
        assert task._candidates[seen["target"][position]] == task._examples.target[row]
    assert histories(users=40).items.max() < 60


def test_an_encoder_learns_the_next_item(tmp_path, tiny_bert):
    task = contrastive_task(tiny_bert, "full")
    records = train(task, Plan(epochs=8, learning_rate=2e-3, stop_after=8), Checkpoints(tmp_path, "a")).records
    losses = [np.mean([record["loss"] for record in records if record["epoch"] == epoch]) for epoch in (0, 7)]
    assert losses[1] < losses[0] - 0.1


def test_hard_negatives_are_the_best_items_that_score_less_than_the_positive(tiny_bert):
    task = contrastive_task(tiny_bert, hard=3, margin=0.02)
    number, rows = task.batches(1)[0]
    task.backward((number, rows), 1.0)
    item_vectors = task.item_vectors()
    for row in rows:
        owner, context, weight = task._anchors(np.array([row]))
        anchor = (item_vectors[context] * weight[:, None]).sum(axis=0)
        scores = item_vectors @ (anchor / np.linalg.norm(anchor))
        positives = task._fitted.items[task._fitted.owner == task._examples.user[row]]
        most = scores[task._examples.target[row]] - 0.02
        allowed = [i for i in range(60) if i not in positives and scores[i] <= most]
        hard = [item for item in task._hard[row] if item >= 0]
        assert len(hard) == min(3, len(allowed))
        np.testing.assert_allclose(scores[hard], sorted(scores[allowed])[::-1][:3], atol=1e-5)
        assert set(hard) <= set(task._candidates)


def generators(monkeypatch):
    """A CPU generator in place of a GPU's."""
    gpu = torch.Generator().manual_seed(5)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: gpu.get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: gpu.set_state(state))
    return gpu


def test_the_generator_state_of_a_gpu_is_restored_too(monkeypatch):
    gpu = generators(monkeypatch)
    states = random_states("cuda:0")
    expected = torch.rand(3), torch.rand(3, generator=gpu)
    set_random_states(states, "cuda:0")
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(torch.rand(3, generator=gpu), expected[1])
    assert list(random_states("cpu")) == ["random"]


@pytest.mark.parametrize("both_sides", [True, False])
def test_long_histories_use_only_the_nearest_events(both_sides):
    lengths = [1, 130, 2, 51, 1, 52]
    rng = np.random.default_rng(3)
    items, owner = rng.integers(0, 40, sum(lengths)), np.repeat([2, 3, 5, 8, 9, 11], lengths)
    examples = build_examples(Histories(items, owner, np.zeros(len(items), np.int8)), 0.9, both_sides=both_sides)
    expected = []
    for user in np.unique(owner):
        history = items[owner == user]
        for position, item in enumerate(history):
            around = [at for at in range(len(history)) if at != position and abs(at - position) <= MAX_CONTEXT]
            around = around if both_sides else [at for at in around if at < position]
            if around:
                context = [(int(history[at]), np.float32(0.9 ** (abs(at - position) - 1))) for at in around]
                expected.append((int(item), int(user), context))
    assert len(examples.target) == len(expected)
    for row, (target, user, context) in enumerate(expected):
        _, context_items, weights = examples.contexts(np.array([row]))
        assert (examples.target[row], examples.user[row]) == (target, user)
        assert context_items.tolist() == [item for item, _ in context]
        np.testing.assert_allclose(weights, [weight for _, weight in context], rtol=1e-6)


def test_examples_store_each_history_once():
    events = Histories(np.arange(2000) % 50, np.repeat([0, 1], 1000), np.zeros(2000, np.int8))
    examples = build_examples(events, 0.9, both_sides=True)
    size = sum(part.nbytes for part in vars(examples).values() if isinstance(part, np.ndarray))
    assert size < 2000 * 8 * 8
