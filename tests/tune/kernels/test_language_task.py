"""Language modelling on tiny models: packing changes no loss, and the loss falls."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.errors import UsageError
from recsys_spark.training.kernels.checkpoints import Checkpoints
from recsys_spark.training.kernels.training_loop import Plan, train
from recsys_spark.tune.kernels.language_task import LanguagePlan, LanguageTask, mean_loss
from recsys_spark.tune.kernels.next_item_eval import FIT, TEST, VALID
from recsys_spark.tune.kernels.own_texts import OwnTexts
from recsys_spark.tune.kernels.packing import IGNORED, lay_out
from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder
from tests.bench.training import with_mask_token

PLAN = Plan(epochs=3, learning_rate=3e-3, checkpoint_steps=2, patience=5)


@pytest.fixture(scope="module")
def masked_bert(tiny_bert, tmp_path_factory):
    return with_mask_token(tiny_bert, tmp_path_factory.mktemp("masked") / "bert")


def own_texts(count=120):
    """Texts in which each word follows from the one before it."""
    texts = [" ".join(chr(97 + (start + 3 * step) % 26) for step in range(2 + start % 9)) for start in range(count)]
    return OwnTexts(texts, (np.arange(count) % 5 % 3).astype(np.int8))


def task_of(folder, *, tuning="full", own=None, **plan):
    encoder = TrainableEncoder(read_model(str(folder)), AdapterConfig(tuning, rank=2))
    return LanguageTask(own or own_texts(), encoder, LanguagePlan(**{"row": 32, "batch": 4, **plan}))


@pytest.mark.parametrize("causal", [False, True])
def test_a_packed_text_has_the_loss_that_it_has_alone(masked_bert, tiny_decoder, causal):
    task = task_of(tiny_decoder if causal else masked_bert, causal=causal)
    model = task.module.eval()
    assert model.packs
    texts = [(ids, np.where(np.arange(len(ids)) % 2, ids, IGNORED)) for ids in (task._texts[n].ids for n in (1, 5, 8))]
    with torch.no_grad():
        packed, row = model.token_losses(lay_out([texts, [texts[0]]], 0))
        alone = torch.cat([model.token_losses(lay_out([[text]], 0))[0] for text in texts])
    torch.testing.assert_close(packed[row == 0], alone, rtol=1e-4, atol=1e-5)


def test_the_loss_of_a_token_is_minus_its_log_probability(masked_bert):
    task = task_of(masked_bert)
    model = task.module.eval()
    states, ids, _ = model.predicted(task._laid_out([[0], [3]], 1))
    scores = model.head.norm(model.head.map(states)) @ model.embeddings()[model.head.tokens].T + model.head.bias
    expected = [
        -float(scores[n].log_softmax(0)[model.head.tokens.tolist().index(token)].detach())
        for n, token in enumerate(ids)
    ]
    np.testing.assert_allclose(model.token_losses(task._laid_out([[0], [3]], 1))[0].detach(), expected, rtol=1e-5)


def test_evaluation_masks_the_same_words_each_time_and_training_others_in_each_epoch(masked_bert):
    task = task_of(masked_bert, share=0.3)
    assert np.array_equal(task._laid_out([[8]], 0).labels, task._laid_out([[8]], 0).labels)
    drawn = {task._laid_out([[8]], epoch).labels.tobytes() for epoch in range(1, 9)}
    assert len(drawn) > 1


def test_batches_hold_every_training_text_once_and_depend_on_the_epoch_alone(masked_bert):
    own = own_texts()
    task = task_of(masked_bert, own=own)
    for epoch in (0, 1):
        batches = task.batches(epoch)
        assert (
            sorted(text for _, rows in batches for row in rows for text in row)
            == np.flatnonzero(own.part == FIT).tolist()
        )
        assert all(number == epoch and len(rows) <= 4 for number, rows in batches)
    assert task.batches(0) == task.batches(0) != task.batches(1)


@pytest.mark.parametrize(("causal", "tuning"), [(False, "full"), (True, "full"), (False, "lora")])
def test_the_loss_of_texts_that_were_not_trained_on_falls_below_that_of_the_head_alone(
    masked_bert, tiny_decoder, tmp_path, causal, tuning
):
    own = own_texts(200)
    task = task_of(tiny_decoder if causal else masked_bert, causal=causal, tuning=tuning, own=own)
    encoder = {name: weight.clone() for name, weight in task.module.encoder.named_parameters()}
    start, plan = mean_loss(*task.losses(TEST)), replace(PLAN, epochs=5, learning_rate=1e-2, checkpoint_steps=1000)
    train(task.head_task(), plan, Checkpoints(tmp_path / "head", "x"))
    head = mean_loss(*task.losses(TEST))
    assert head < start
    assert all(torch.equal(weight, encoder[name]) for name, weight in task.module.encoder.named_parameters())
    trained = train(task, plan, Checkpoints(tmp_path / "all", "x"))
    assert trained.best["valid_loss"] == pytest.approx(mean_loss(*task.losses(VALID)))
    assert mean_loss(*task.losses(TEST)) < 0.98 * head


def test_a_killed_training_ends_with_the_same_weights(masked_bert, tmp_path):
    whole = task_of(masked_bert)
    train(whole, PLAN, Checkpoints(tmp_path / "whole", "x"))

    class Killed(Exception):
        pass

    def kill(record):
        if record["step"] == 5:
            raise Killed

    with pytest.raises(Killed):
        train(task_of(masked_bert), PLAN, Checkpoints(tmp_path / "killed", "x"), kill)
    resumed = task_of(masked_bert)
    train(resumed, PLAN, Checkpoints(tmp_path / "killed", "x"))
    for one, other in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("causal", [False, True])
def test_an_objective_that_the_attention_makes_trivial_is_refused(masked_bert, tiny_decoder, causal):
    with pytest.raises(UsageError, match=f"--objective={'masked_lm' if causal else 'causal_lm'}"):
        task_of(masked_bert if causal else tiny_decoder, causal=causal)


def test_the_head_starts_at_the_frequencies_of_the_training_texts_alone(masked_bert):
    own = OwnTexts(["a a a", "b b", "c"], np.array([FIT, VALID, TEST], np.int8))
    task = task_of(masked_bert, own=own)
    counts = dict.fromkeys(("[CLS]", "[SEP]"), 2) | {"a": 4, "b": 1, "c": 1}  # each is counted once more
    names = task.module.encoder.tokenizer.convert_ids_to_tokens(task.module.head.tokens.tolist())
    assert sorted(names) == sorted(counts)
    expected = [np.log(counts[name] / sum(counts.values())) for name in names]
    np.testing.assert_allclose(task.module.head.bias.detach(), expected, rtol=1e-6)


def test_the_states_that_a_head_learns_from_are_bounded(masked_bert, monkeypatch):
    task = task_of(masked_bert, share=0.5)
    whole = len(task.head_task()._fitted.ids)
    monkeypatch.setattr("recsys_spark.tune.kernels.language_task._HEAD_TOKENS", 30)
    assert 20 <= len(task.head_task()._fitted.ids) <= 40 < whole


def test_a_prompt_is_never_predicted(masked_bert):
    spec = replace(read_model(str(masked_bert)), prompt="x y ")
    encoder = TrainableEncoder(spec, AdapterConfig("full"))
    task = LanguageTask(OwnTexts(["a b c", "d e"], np.array([FIT, FIT], np.int8)), encoder, LanguagePlan(share=1.0))
    labels = task._laid_out([[0]], 1).labels[0]
    assert encoder.tokenizer.convert_ids_to_tokens(labels[labels != IGNORED].tolist()) == ["a", "b", "c"]


def test_vectors_are_those_of_the_encoder(masked_bert):
    task = task_of(masked_bert)
    vectors = task.vectors(["a b", None, "c"])
    encoder = task.module.encoder
    expected = torch.nn.functional.normalize(encoder(encoder.token_ids(["a b", "c"])), dim=1).detach().numpy()
    np.testing.assert_allclose(vectors[[0, 2]], expected, rtol=1e-4, atol=1e-6)
    assert not vectors[1].any()
