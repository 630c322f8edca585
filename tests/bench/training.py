"""Small trainings: histories, vectors, tasks and plans."""

import shutil

import numpy as np

from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.training.kernels.training_loop import Plan
from recsys_spark.tune.kernels.contrastive_task import ContrastiveTask
from recsys_spark.tune.kernels.next_item_eval import TEST, VALID, Histories
from recsys_spark.tune.kernels.rating_baselines import RatingPairs
from recsys_spark.tune.kernels.rating_task import RatingTask
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder


def histories(users=200, items=60, seed=0):
    """Each user follows a cycle of items, so that the next one can be learned."""
    rng = np.random.default_rng(seed)
    sequences = [(rng.integers(items) + np.arange(rng.integers(4, 8)) * 7) % items for _ in range(users)]
    roles = [np.r_[np.zeros(len(sequence) - 2), VALID, TEST] for sequence in sequences]
    owner = np.repeat(np.arange(users), [len(sequence) for sequence in sequences])
    return Histories(np.concatenate(sequences), owner, np.concatenate(roles).astype(np.int8))


def vectors(items=60, width=24, seed=1):
    return unit_rows(np.random.default_rng(seed).normal(size=(items, width)))


def contrastive_task(folder, tuning="lora", **options):
    texts = [f"{chr(97 + number % 26)} {chr(97 + number // 26)} thing" for number in range(60)]
    encoder = TrainableEncoder(read_model(str(folder)), AdapterConfig(tuning, rank=2, dropout=0.2))
    settings = {"batch": 32, "negatives": 10, "piece": 0} | options
    return ContrastiveTask(texts, histories(users=40), encoder, **settings)


PLAN = Plan(epochs=3, learning_rate=1e-3, checkpoint_steps=2, patience=5)


def rating_data(size=120):
    rng = np.random.default_rng(0)
    words = np.array(["good", "bad", "fine", "awful", "tea", "hat", "pot", "not"])
    worth = np.array([2.0, -2.0, 1.0, -1.5, 0, 0, 0, 0])
    rows = [rng.integers(0, 8, rng.integers(1, 5)) for _ in range(size)]
    scores = np.array([3 + worth[row].sum() / 2 * (-1 if 7 in row else 1) for row in rows])  # "not" negates
    part = np.arange(size) * 10 // size
    texts = [" ".join(words[row]) for row in rows]
    part = np.where(part < 7, 0, np.where(part < 8, 1, 2)).astype(np.int8)
    return RatingPairs(texts, scores, rng.integers(0, 9, size), rng.integers(0, 7, size), part)


def task_of(folder, tuning="lora", **options):
    adapters = AdapterConfig(tuning, rank=2, steps=3 * 11, **options)
    return RatingTask(rating_data(), TrainableEncoder(read_model(str(folder)), adapters), loss="mse", batch=8, seed=1)


def with_mask_token(base, folder):
    """A copy of a tiny model whose tokenizer has a mask token."""
    from transformers import AutoTokenizer

    shutil.copytree(base, folder)
    AutoTokenizer.from_pretrained(base, mask_token="~").save_pretrained(folder)
    return folder
