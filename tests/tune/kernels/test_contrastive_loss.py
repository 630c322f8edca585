"""Losses, examples and the two contrastive tasks, against slow oracles."""

import shutil

import numpy as np
import pytest
import torch

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.encode.kernels.dense_head import apply_head, read_head, write_head
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.tune.kernels.checkpoints import Checkpoints
from recsys_spark.tune.kernels.contrastive_loss import MOST_CONTEXT, examples, softmax_loss
from recsys_spark.tune.kernels.contrastive_task import ContrastiveTask
from recsys_spark.tune.kernels.next_item_eval import TEST, VALID, Histories, evaluate_next_item, gain
from recsys_spark.tune.kernels.projector_task import ProjectorTask, nearness
from recsys_spark.tune.kernels.rng_state import random_states, set_random_states
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder, copy_base
from recsys_spark.tune.kernels.training_loop import Plan, train


def histories(users=200, items=60, seed=0):
    """Users walk along a circle of items, so that the next one can be learned."""
    rng = np.random.default_rng(seed)
    walks = [(rng.integers(items) + np.arange(rng.integers(4, 8)) * 7) % items for _ in range(users)]
    roles = [np.r_[np.zeros(len(walk) - 2), VALID, TEST] for walk in walks]
    owner = np.repeat(np.arange(users), [len(walk) for walk in walks])
    return Histories(np.concatenate(walks), owner, np.concatenate(roles).astype(np.int8))


def vectors(items=60, width=24, seed=1):
    return unit_rows(np.random.default_rng(seed).normal(size=(items, width)))


def test_the_loss_is_a_softmax_over_what_is_not_masked():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(5, 9)), rng.integers(0, 9, 5)
    masked = rng.random((5, 9)) < 0.4
    expected = []
    for row in range(5):
        allowed = [c for c in range(9) if c == target[row] or not masked[row, c]]
        expected.append(np.log(np.exp(scores[row, allowed]).sum()) - scores[row, target[row]])
    found = softmax_loss(torch.tensor(scores), torch.tensor(target), masked=torch.tensor(masked))
    np.testing.assert_allclose(float(found), np.mean(expected), rtol=1e-9)


def test_log_q_makes_a_sampled_softmax_agree_with_the_full_one():
    """Candidates drawn by a skewed chance: subtracting ln q brings the expected gradient near the full one's, adding it
    would not. The sign is what is often shipped wrong."""
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
            drawn = rng.choice(items, draws, p=q)
            chosen = torch.tensor(np.r_[150, drawn])
            log_q = torch.tensor(np.log(np.r_[1.0, q[drawn] * draws])) * sign
            total = total + softmax_loss(scores[chosen][None], torch.tensor([0]), log_q)
        (total / 3000).backward()
        gradients[sign] = float((scores.grad - full.grad).abs().sum())
    assert gradients[1] < 0.3 * gradients[0]
    assert gradients[1] < 0.3 * gradients[-1]


@pytest.mark.parametrize("both_sides", [True, False])
def test_examples_are_each_event_and_those_around_it(both_sides):
    known = Histories(np.array([5, 6, 7, 5, 9]), np.array([0, 0, 0, 0, 1]), np.zeros(5, np.int8))
    found = examples(known, 0.5, both_sides=both_sides)
    expected = []
    for place, item in enumerate([5, 6, 7, 5]):
        around = [
            (other, 0.5 ** (abs(at - place) - 1))
            for at, other in enumerate([5, 6, 7, 5])
            if at != place and (both_sides or at < place)
        ]
        if around:
            expected.append((item, 0, around))
    listed = []
    for row in range(len(found.target)):
        _, context, weight = found.of(np.array([row]))
        pairs = [(int(c), float(w)) for c, w in zip(context, weight, strict=True)]
        listed.append((int(found.target[row]), int(found.user[row]), pairs))
    assert listed == expected


def test_judging_is_a_full_ranking_without_seen_items():
    known, rows = histories(users=30), vectors()
    for role in (VALID, TEST):
        found = evaluate_next_item(rows, known, 0.7, role)
        for place, user in enumerate(found.users):
            own = known.owner == user
            before, (target,) = known.items[own & (known.role < role)], known.items[own & (known.role == role)]
            profile = sum(0.7**age * rows[item] for age, item in enumerate(before[::-1]))
            scores = rows @ profile
            rank = 1 + sum(
                scores[item] > scores[target] for item in range(len(rows)) if item == target or item not in before
            )
            assert found.hit_rate[place] == (rank <= 10)
            np.testing.assert_allclose(found.ndcg[place], 1 / np.log2(rank + 1) if rank <= 10 else 0)


def test_the_interval_of_a_gain_holds_its_mean_and_tells_noise_from_gain():
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
    known, rows = histories(), vectors()
    task = ProjectorTask(rows, known, shrink=shrink, hidden=hidden, memory=memory, dropout=0.1, batch=64)
    found = train(task, Plan(epochs=6, learning_rate=1e-2), Checkpoints(tmp_path, "a"))
    assert found.best["valid_hit_rate@10"] > 2 * found.records[0]["valid_hit_rate@10"]
    np.testing.assert_allclose(apply_head(task.layers(), rows), task.projected(), atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(task.projected(), axis=1), 1, atol=1e-5)
    assert len(task.module.keys) == min(memory, 60)


def test_an_offset_is_of_its_item_and_of_texts_that_are_almost_the_same():
    keys = vectors(items=5, width=200)  # nearly orthogonal
    close, far = unit_rows(keys[:1] + 0.3 * vectors(1, 200, seed=2)), vectors(1, 200, seed=3)
    near = nearness(np.concatenate([keys, close, far]), keys).toarray()
    np.testing.assert_allclose(near[:5], np.eye(5), atol=1e-5)
    assert 0.8 < near[5, 0] < 1
    assert not near[5, 1:].any()
    assert not near[6].any()


def test_the_items_with_most_events_have_offsets(tmp_path):
    known, rows = histories(), vectors()
    task = ProjectorTask(rows, known, shrink=None, memory=7)
    counts = np.bincount(known.items[known.role == 0], minlength=60)
    expected = sorted(sorted(range(60), key=lambda item: (-counts[item], item))[:7])
    np.testing.assert_array_equal(task.module.keys, rows[expected])


@pytest.mark.parametrize("most", [1000, 20])
def test_items_of_the_same_user_are_no_negatives_of_a_projector(monkeypatch, most):
    """Also those after the target, where only what came before is the anchor."""
    monkeypatch.setattr("recsys_spark.tune.kernels.projector_task.MOST_CANDIDATES", most)
    known, seen = histories(users=40), {}
    task = ProjectorTask(vectors(), known, hidden=0, batch=16, both_sides=False)
    monkeypatch.setattr(
        "recsys_spark.tune.kernels.projector_task.softmax_loss",
        lambda scores, target, log_q, masked: seen.update(masked=masked) or scores.sum(),
    )
    number, rows = task.batches(0)[0]
    task.backward((number, rows), 1.0)
    candidates, fitted = task._candidates(number, task._examples.target[rows]), known.upto(0)
    for place, row in enumerate(rows):
        own = set(fitted.items[fitted.owner == task._examples.user[row]])
        assert seen["masked"][place].tolist() == [item in own for item in candidates]


def test_with_a_large_catalogue_drawn_candidates_teach_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("recsys_spark.tune.kernels.projector_task.MOST_CANDIDATES", 30)
    task = ProjectorTask(vectors(), histories(), hidden=0, dropout=0.1, batch=16)
    found = train(task, Plan(epochs=6, learning_rate=1e-2), Checkpoints(tmp_path, "a"))
    assert found.best["valid_hit_rate@10"] > 2 * found.records[0]["valid_hit_rate@10"]


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
    np.testing.assert_allclose(Encoder(spec).encode(texts).vectors, task.projected(), atol=1e-4)


def encoding_task(folder, tuning="lora", **options):
    texts = [f"{chr(97 + number % 26)} {chr(97 + number // 26)} thing" for number in range(60)]
    encoder = TrainableEncoder(read_model(str(folder)), AdapterConfig(tuning, rank=2, dropout=0.2))
    settings = {"batch": 32, "negatives": 10, "piece": 0} | options
    return ContrastiveTask(texts, histories(users=40), encoder, **settings)


def gradients(task):
    torch.manual_seed(3)
    task.module.train()
    loss = task.backward(task.batches(0)[0], 1.0)
    return loss, {name: p.grad for name, p in task.module.named_parameters() if p.grad is not None}


def test_gradients_in_pieces_are_those_of_the_whole_batch(tiny_bert):
    options = {"piece": 0}
    whole, pieces = encoding_task(tiny_bert, **options), encoding_task(tiny_bert, piece=7)
    for task in (whole, pieces):
        for layer in task.module.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0  # other pieces draw other dropout
    (loss, expected), (again, found) = gradients(whole), gradients(pieces)
    assert loss == pytest.approx(again, abs=1e-5)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-3)


def test_items_of_the_same_user_are_no_negatives(tiny_bert, monkeypatch):
    task = encoding_task(tiny_bert)
    seen = {}
    monkeypatch.setattr(
        "recsys_spark.tune.kernels.contrastive_task.softmax_loss",
        lambda scores, target, log_q, masked: seen.update(masked=masked, target=target) or scores.sum(),
    )
    number, rows = task.batches(0)[0]
    task.backward((number, rows), 1.0)
    known, learned = histories(users=40), task._learned
    for place, row in enumerate(rows):
        own = set(learned.items[learned.owner == task._examples.user[row]])
        expected = [item in own for item in task._candidates]
        assert seen["masked"][place].tolist() == expected
        assert task._candidates[seen["target"][place]] == task._examples.target[row]
    assert known.items.max() < 60


def test_an_encoder_learns_the_next_item(tmp_path, tiny_bert):
    task = encoding_task(tiny_bert, "full")
    found = train(task, Plan(epochs=8, learning_rate=2e-3, stop_after=8), Checkpoints(tmp_path, "a"))
    losses = [np.mean([one["loss"] for one in found.records if one["epoch"] == epoch]) for epoch in (0, 7)]
    assert losses[1] < losses[0] - 0.1


def test_hard_negatives_are_the_best_items_that_score_less_than_the_positive(tiny_bert):
    task = encoding_task(tiny_bert, hard=3, margin=0.02)
    number, rows = task.batches(1)[0]
    task.backward((number, rows), 1.0)
    rows_of_all = task.projected()
    for row in rows:
        owner, context, weight = task._anchors(np.array([row]))
        anchor = (rows_of_all[context] * weight[:, None]).sum(axis=0)
        scores = rows_of_all @ (anchor / np.linalg.norm(anchor))
        own = task._learned.items[task._learned.owner == task._examples.user[row]]
        allowed = [i for i in range(60) if i not in own and scores[i] <= scores[task._examples.target[row]] - 0.02]
        found = [item for item in task._hard[row] if item >= 0]
        assert len(found) == min(3, len(allowed))
        np.testing.assert_allclose(scores[found], sorted(scores[allowed])[::-1][:3], atol=1e-5)
        assert set(found) <= set(task._candidates)


def generators(monkeypatch):
    """A GPU's generator, played by one of the CPU."""
    own = torch.Generator().manual_seed(5)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: own.get_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: own.set_state(state))
    return own


def test_the_generator_of_a_gpu_is_kept_too(monkeypatch):
    own = generators(monkeypatch)
    content_ids = random_states("cuda:0")
    expected = torch.rand(3), torch.rand(3, generator=own)
    set_random_states(content_ids, "cuda:0")
    assert torch.equal(torch.rand(3), expected[0])
    assert torch.equal(torch.rand(3, generator=own), expected[1])
    assert list(random_states("cpu")) == ["random"]


@pytest.mark.parametrize("both_sides", [True, False])
def test_long_histories_use_the_nearest_events_alone(both_sides):
    lengths = [1, 130, 2, 51, 1, 52]
    rng = np.random.default_rng(3)
    items, owner = rng.integers(0, 40, sum(lengths)), np.repeat([2, 3, 5, 8, 9, 11], lengths)
    found = examples(Histories(items, owner, np.zeros(len(items), np.int8)), 0.9, both_sides=both_sides)
    expected = []
    for user in np.unique(owner):
        own = items[owner == user]
        for place, item in enumerate(own):
            around = [at for at in range(len(own)) if at != place and abs(at - place) <= MOST_CONTEXT]
            around = around if both_sides else [at for at in around if at < place]
            if around:
                context = [(int(own[at]), np.float32(0.9 ** (abs(at - place) - 1))) for at in around]
                expected.append((int(item), int(user), context))
    assert len(found.target) == len(expected)
    for row, (target, user, context) in enumerate(expected):
        _, own, weights = found.of(np.array([row]))
        assert (found.target[row], found.user[row]) == (target, user)
        assert own.tolist() == [item for item, _ in context]
        np.testing.assert_allclose(weights, [weight for _, weight in context], rtol=1e-6)


def test_examples_hold_a_history_once_however_many_neighbours_events_have():
    known = Histories(np.arange(2000) % 50, np.repeat([0, 1], 1000), np.zeros(2000, np.int8))
    found = examples(known, 0.9, both_sides=True)
    held = sum(part.nbytes for part in vars(found).values() if isinstance(part, np.ndarray))
    assert held < 2000 * 8 * 8
