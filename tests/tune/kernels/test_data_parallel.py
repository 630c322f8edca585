"""Training in two processes (gloo) equals training in one with the same batches."""

import os
import socket

import pytest
import torch

from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, train
from recsys_spark.tune.kernels.data_parallel import local_device, train_in_parallel
from recsys_spark.tune.kernels.projector_task import ProjectorTask
from tests.bench.training import histories, task_of, vectors

PLAN = Plan(epochs=2, learning_rate=1e-3, checkpoint_steps=3, patience=5, accumulate=2)


def without_dropout(task):
    for layer in task.module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    return task


def rating_task(model):
    return without_dropout(task_of(model, "full"))


def projector_task(model):
    return without_dropout(ProjectorTask(vectors(), histories(), hidden=8, memory=0, batch=50))


def run_process(rank, build_task, model, folder, port):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    train_in_parallel(build_task, (model,), PLAN, folder, "a", "cpu")


@pytest.mark.parametrize("build_task", [rating_task, pytest.param(projector_task, marks=pytest.mark.slow)])
def test_two_processes_have_the_losses_of_one(tmp_path, tiny_bert, build_task):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(run_process, (build_task, str(tiny_bert), str(tmp_path / "two"), port), nprocs=2)
    seen = []
    two = train(build_task(str(tiny_bert)), PLAN, Checkpoints(tmp_path / "two", "a"), seen.append)
    assert seen == []  # the checkpoint is of a finished training
    one = train(build_task(str(tiny_bert)), PLAN, Checkpoints(tmp_path / "one", "a"))
    assert len(one.records) == len(two.records)
    for expected, record in zip(one.records, two.records, strict=True):
        assert record == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_every_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device("cuda") == "cuda:1"
    assert local_device("cpu") == "cpu"
