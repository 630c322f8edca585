"""Two processes (gloo) train as one does with the same batches."""

import os
import socket

import pytest
import torch

from recsys_spark.tune.kernels.checkpoints import Checkpoints
from recsys_spark.tune.kernels.data_parallel import own_device, train_in_parallel
from recsys_spark.tune.kernels.projector_task import ProjectorTask
from recsys_spark.tune.kernels.training_loop import Plan, train
from tests.tune.kernels.test_contrastive_loss import histories, vectors
from tests.tune.kernels.test_training_loop import task_of

PLAN = Plan(epochs=2, learning_rate=1e-3, checkpoint_steps=3, patience=5, accumulate=2)


def quiet(task):
    for layer in task.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return task


def rating(model):
    return quiet(task_of(model, "full"))


def projecting(model):
    return quiet(ProjectorTask(vectors(), histories(), hidden=8, memory=0, batch=50))


def start(rank, make, model, folder, port):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    train_in_parallel(make, (model,), PLAN, folder, "a", "cpu")


@pytest.mark.parametrize("make", [rating, projecting])
def test_two_processes_have_the_losses_of_one(tmp_path, tiny_bert, make):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(start, (make, str(tiny_bert), str(tmp_path / "two"), port), nprocs=2)
    seen = []
    two = train(make(str(tiny_bert)), PLAN, Checkpoints(tmp_path / "two", "a"), seen.append)
    assert seen == []  # the checkpoint says that it is finished
    one = train(make(str(tiny_bert)), PLAN, Checkpoints(tmp_path / "one", "a"))
    assert len(one.records) == len(two.records)
    for expected, found in zip(one.records, two.records, strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("cuda") == "cuda:1"
    assert own_device("cpu") == "cpu"
