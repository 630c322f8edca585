"""Adapters: trainable share, merged equals unmerged, AdaLoRA prunes its ranks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import train
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder
from tests.bench.training import PLAN, task_of

TEXTS = ["a quiet film", "z", "one two three four five six seven"]


@pytest.mark.parametrize(
    "tuning", ["lora", "full", "head", *(pytest.param(one, marks=pytest.mark.slow) for one in ("adalora", "ia3"))]
)
def test_merged_weights_give_the_vectors_of_the_adapted_ones(tmp_path, tiny_bert, tuning):
    from recsys_spark.encode.kernels.encoder import Encoder

    task = task_of(tiny_bert, tuning)
    train(task, replace(PLAN, learning_rate=3e-2, stop_after=3), Checkpoints(tmp_path / "c", "a"))
    encoder = task.module.encoder
    encoder.eval()
    with torch.inference_mode():
        adapted = torch.nn.functional.normalize(encoder(encoder.token_ids(TEXTS)), dim=1).numpy()
    encoder.save(tmp_path / "merged")
    spec = read_model(str(tmp_path / "merged"))
    merged = Encoder(spec).encode(TEXTS).vectors
    np.testing.assert_allclose(merged, adapted, atol=1e-5)
    base = read_model(str(tiny_bert))
    changed = not np.allclose(Encoder(base).encode(TEXTS).vectors, merged, atol=1e-5)
    assert changed == (tuning != "head")
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_ranks_of_adalora_differ_between_layers_and_are_within_the_budget(tmp_path, tiny_bert):
    task = task_of(tiny_bert, "adalora")
    encoder = task.module.encoder
    start = encoder.ranks()
    assert set(start.values()) <= {0, 3}  # 1.5 × the budget of 2; peft starts them at zero
    train(task, PLAN, Checkpoints(tmp_path, "a"))
    ranks = encoder.ranks()
    assert len(ranks) == 4  # query and value of two layers
    assert sum(ranks.values()) == 2 * len(ranks)
    assert len(set(ranks.values())) > 1


def test_lora_trains_a_small_share_of_the_default_model():
    from recsys_spark.encode.options import DEFAULT_MODEL
    from recsys_spark.encode.steps.model_source import _folder

    folder = _folder(DEFAULT_MODEL, None)
    shares = {
        rank: TrainableEncoder(read_model(str(folder)), AdapterConfig("lora", rank)).trainable_share for rank in (4, 8)
    }
    assert 0 < shares[4] < shares[8] <= 0.015


def test_a_head_trains_nothing_of_the_encoder(tiny_bert):
    assert TrainableEncoder(read_model(str(tiny_bert)), AdapterConfig("head")).trainable_share == 0
    assert TrainableEncoder(read_model(str(tiny_bert)), AdapterConfig("full")).trainable_share == 1


def test_training_makes_the_factors_of_adalora_more_orthogonal(tmp_path, tiny_bert):
    task = task_of(tiny_bert, "adalora")
    encoder = task.module.encoder
    start = encoder.regulariser().item()
    assert start > 0
    assert TrainableEncoder(read_model(str(tiny_bert)), AdapterConfig("lora", 2)).regulariser() == 0
    train(task, replace(PLAN, learning_rate=1e-2, epochs=6, stop_after=6), Checkpoints(tmp_path, "a"))
    assert encoder.regulariser().item() < 0.5 * start
