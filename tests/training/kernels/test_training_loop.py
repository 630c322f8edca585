"""The training loop on tiny models: resumed after a kill, stopped by a loss that is not finite."""

import numpy as np
import pytest
import torch

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, train
from recsys_spark.tune.kernels.projector_task import ProjectorTask
from tests.bench.training import PLAN, contrastive_task, histories, task_of, vectors


class Killed(Exception):
    pass


def killed_after(records):
    def report(record):
        report.seen += 1
        if report.seen == records:
            raise Killed

    report.seen = 0
    return report


def weights(task):
    return {name: value.detach().clone() for name, value in task.module.state_dict().items()}


@pytest.mark.parametrize(
    "tuning", ["lora", *(pytest.param(one, marks=pytest.mark.slow) for one in ("adalora", "full"))]
)
def test_a_killed_training_resumes_exactly(tmp_path, tiny_bert, tuning):
    whole = task_of(tiny_bert, tuning)
    expected = train(whole, PLAN, Checkpoints(tmp_path / "whole", "a"))
    for records in (8, 9, 7):  # within an epoch, at a checkpoint, after it
        with pytest.raises(Killed):
            train(task_of(tiny_bert, tuning), PLAN, Checkpoints(tmp_path / "parts", "a"), killed_after(records))
    again = task_of(tiny_bert, tuning)
    assert train(again, PLAN, Checkpoints(tmp_path / "parts", "a")) == expected
    for name, value in weights(whole).items():
        assert torch.equal(weights(again)[name], value), name


def projector_task(folder):
    return ProjectorTask(vectors(), histories(users=60), hidden=8, memory=30, dropout=0.2, batch=20)


def encoder_task(folder):
    return contrastive_task(folder, hard=2, margin=0.0, piece=16, batch=20)


@pytest.mark.parametrize("build_task", [projector_task, pytest.param(encoder_task, marks=pytest.mark.slow)])
def test_a_killed_training_on_histories_resumes_exactly(tmp_path, tiny_bert, build_task):
    whole = build_task(tiny_bert)
    expected = train(whole, PLAN, Checkpoints(tmp_path / "whole", "a"))
    steps = len(whole.batches(0))
    for records in (3, steps, 4):
        with pytest.raises(Killed):
            train(build_task(tiny_bert), PLAN, Checkpoints(tmp_path / "parts", "a"), killed_after(records))
    again = build_task(tiny_bert)
    assert train(again, PLAN, Checkpoints(tmp_path / "parts", "a")) == expected
    for name, value in weights(whole).items():
        assert torch.equal(weights(again)[name], value), name


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, tiny_bert):
    expected = train(task_of(tiny_bert), PLAN, Checkpoints(tmp_path / "whole", "a"))
    with pytest.raises(Killed):
        train(task_of(tiny_bert), PLAN, Checkpoints(tmp_path / "parts", "a"), killed_after(15))
    first, second = sorted((tmp_path / "parts").glob("[0-9]*"))
    content = bytearray((second / "tensors").read_bytes())
    content[len(content) // 2] ^= 1
    (second / "tensors").write_bytes(content)
    checkpoints = Checkpoints(tmp_path / "parts", "a")
    assert len(checkpoints.load()[1]["records"]) < 15
    assert train(task_of(tiny_bert), PLAN, checkpoints) == expected
    assert first.name != second.name


def test_a_finished_training_is_not_repeated(tmp_path, tiny_bert):
    expected = train(task_of(tiny_bert), PLAN, Checkpoints(tmp_path, "a"))
    seen = []
    assert train(task_of(tiny_bert), PLAN, Checkpoints(tmp_path, "a"), seen.append) == expected
    assert seen == []


def test_checkpoints_of_other_settings_and_pickles_are_refused(tmp_path, tiny_bert):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(1, {"x": torch.ones(2)}, {})
    with pytest.raises(UsageError, match="other data or settings"):
        Checkpoints(tmp_path, "b").load()
    (tmp_path / "000000001" / "model.pt").write_bytes(b"pickle")
    with pytest.raises(UsageError, match="pickle"):
        checkpoints.load()


def test_a_loss_that_is_no_number_stops_with_the_last_good_weights(tmp_path, tiny_bert):
    task = task_of(tiny_bert)
    start = task.validate()
    plain, calls = task.backward, []

    def backward(batch, share):
        calls.append(batch)
        return float("nan") if len(calls) == 15 else plain(batch, share)

    task.backward = backward
    with pytest.raises(QualityError, match="loss is nan at step 14"):
        train(task, PLAN, Checkpoints(tmp_path, "a"))
    assert all(torch.isfinite(value).all() for value in weights(task).values() if value.is_floating_point())
    assert task.validate()["valid_mse"] <= start["valid_mse"]


def test_accumulated_batches_make_one_step_of_their_mean(tmp_path, tiny_bert):
    task = task_of(tiny_bert, dropout=0.0)
    task.module.eval()  # no dropout
    batch = np.arange(8)
    task.backward(batch, 1.0)
    whole = task.module.head.weight.grad.clone()
    task.module.zero_grad()
    for part in (batch[:4], batch[4:]):
        task.backward(part, 0.5)
    torch.testing.assert_close(task.module.head.weight.grad, whole, atol=1e-5, rtol=1e-4)


def test_training_learns_what_the_frozen_encoder_could_not(tmp_path, tiny_bert):
    task = task_of(tiny_bert, "full")
    records = train(task, Plan(epochs=12, learning_rate=3e-3, stop_after=12), Checkpoints(tmp_path, "a")).records
    losses = [np.mean([record["loss"] for record in records if record["epoch"] == epoch]) for epoch in (0, 11)]
    assert losses[1] < 0.6 * losses[0]
