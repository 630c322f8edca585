"""Dense layers after pooling: as sentence-transformers computes them, part of the fingerprint, repeatable."""

import json
import shutil

import numpy as np
import pytest

from recsys_spark.encode.kernels.dense_head import Dense, Unit, apply_head, read_head, write_head
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.errors import UsageError

TEXTS = ["a quiet film", "z", "one two three four five six seven", "x " * 60, "tea pot"]


def dense(seed, width, into, activation="Identity"):
    rng = np.random.default_rng(seed)
    return Dense(
        rng.normal(size=(into, width)).astype(np.float32), rng.normal(size=into).astype(np.float32), activation
    )


@pytest.fixture
def headed(tmp_path, tiny_bert):
    folder = tmp_path / "headed"
    shutil.copytree(tiny_bert, folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    write_head(folder, [Unit(), dense(1, 32, 50, "ReLU"), dense(2, 50, 20), Unit()])
    return folder


def encode(folder, texts, **options):
    from recsys_spark.encode.kernels.encoder import Encoder

    return Encoder(read_model(str(folder), **options)).encode(texts).vectors


def test_a_head_applies_its_layers_in_order(tiny_bert, headed):
    plain = encode(tiny_bert, TEXTS, max_length=48)
    first, second = dense(1, 32, 50), dense(2, 50, 20)
    hidden = np.maximum(plain @ first.weight.T + first.bias, 0)
    expected = hidden @ second.weight.T + second.bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encode(headed, TEXTS), expected, atol=1e-5)


def test_sentence_transformers_reads_the_same_folder_to_the_same_vectors(headed):
    library = pytest.importorskip("sentence_transformers")
    other = library.SentenceTransformer(str(headed), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(encode(headed, TEXTS), other, atol=1e-5)


def test_a_text_in_pieces_goes_through_the_head_as_a_mean(tiny_bert, headed):
    long = "x " * 60
    short = encode(headed, ["tea"])
    np.testing.assert_array_equal(encode(headed, ["tea", long], long_text="chunk")[0], short[0])


def test_only_the_layers_change_the_fingerprint(tiny_bert, headed, tmp_path):
    plain, with_head = read_model(str(tiny_bert), max_length=48), read_model(str(headed))
    assert plain.fingerprint != with_head.fingerprint
    other = tmp_path / "other"
    shutil.copytree(headed, other)
    assert read_model(str(other)).fingerprint == with_head.fingerprint
    config = other / "3_Dense" / "config.json"
    config.write_text(config.read_text().replace("ReLU", "Tanh"))
    assert read_model(str(other)).fingerprint != with_head.fingerprint


def test_the_bits_of_a_row_depend_only_on_that_row():
    layers = [Unit(), dense(1, 32, 50, "ReLU"), dense(2, 50, 20)]
    rows = np.random.default_rng(3).normal(size=(201, 32)).astype(np.float32)
    whole = apply_head(layers, rows)
    order = np.random.default_rng(4).permutation(201)
    np.testing.assert_array_equal(apply_head(layers, rows[order]), whole[order])
    for row in (0, 63, 64, 200):
        np.testing.assert_array_equal(apply_head(layers, rows[row : row + 1])[0], whole[row])


def test_pickled_unknown_and_broken_layers_are_refused(headed):
    (headed / "3_Dense" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UsageError, match=r"3_Dense/model\.safetensors is broken"):
        read_head(headed)
    (headed / "3_Dense" / "model.safetensors").rename(headed / "3_Dense" / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickled"):
        read_head(headed)
    modules = headed / "modules.json"
    modules.write_text(modules.read_text().replace("models.Dense", "models.WeightedLayerPooling"))
    with pytest.raises(UsageError, match="WeightedLayerPooling"):
        read_head(headed)
