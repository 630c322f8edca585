"""Settings read from a model folder, and folders that are refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.errors import InputError, UsageError


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def folder(root, *, config=None, pooling=None, sentence=None, weights=("model.safetensors",)):
    (root / "config.json").write_text(json.dumps({"model_type": "bert"} | (config or {})))
    for name in weights:
        save_file({"weights": np.zeros(2, np.float32)}, root / name)
    if pooling is not None:
        (root / "1_Pooling").mkdir()
        (root / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if sentence is not None:
        (root / "sentence_bert_config.json").write_text(json.dumps(sentence))
    return str(root)


@pytest.mark.parametrize("name", ["absent", ""])
def test_a_missing_or_empty_folder_is_a_missing_input(tmp_path, name):
    with pytest.raises(InputError, match=r"no config\.json there"):
        read_model(str(tmp_path / name))


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"needs \*\.safetensors, found no weights"):
        read_model(folder(tmp_path, weights=()))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pkl"])
def test_pickled_weights_are_named_refused_and_never_opened(tmp_path, name):
    canary, root = tmp_path / "canary", tmp_path / "model"
    root.mkdir()
    (root / name).write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(UsageError, match=f"found {name}; pickled weights can run code"):
        read_model(folder(root, weights=()))
    assert not canary.exists()
    pickle.loads((root / name).read_bytes())
    assert canary.exists()  # the trap works


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (None, "mean"),
        ({}, "mean"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last_token"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls+mean"),
        ({"pooling_mode": "weightedmean"}, "weighted_mean"),
        ({"pooling_mode": ["mean_sqrt_len_tokens", "max"]}, "mean_sqrt_len+max"),
        ({"pooling_mode_mean_tokens": False}, "mean"),
    ],
)
def test_pooling_is_that_of_the_folder_and_the_mean_by_default(tmp_path, pooling, expected):
    assert read_model(folder(tmp_path, pooling=pooling)).pooling == expected


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_attention_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_attention_tokens": True},
        {"pooling_mode": ["mean", "attention"]},
    ],
)
def test_an_unsupported_pooling_is_refused_unless_the_options_override_it(tmp_path, pooling):
    root = folder(tmp_path, pooling=pooling)
    with pytest.raises(UsageError, match="not supported; set --pooling"):
        read_model(root)
    assert read_model(root, pooling="cls").pooling == "cls"


def test_an_unknown_pooling_is_refused_with_the_names_of_the_supported_ones(tmp_path):
    with pytest.raises(UsageError, match="pooling 'median' is not one of mean, cls, last_token"):
        read_model(folder(tmp_path), pooling="median")


@pytest.mark.parametrize(
    ("config", "sentence", "override", "expected"),
    [
        ({}, None, None, 512),
        ({"max_position_embeddings": 64}, None, None, 64),
        ({"n_positions": 64}, None, None, 64),
        ({"max_position_embeddings": 32768}, None, None, 512),
        ({"max_position_embeddings": 512}, {"max_seq_length": 256}, None, 256),
        ({"max_position_embeddings": 512}, {"max_seq_length": None}, None, 512),
        ({"max_position_embeddings": 512}, {"max_seq_length": 256}, 32, 32),
    ],
)
def test_the_maximum_length_is_the_override_then_the_setting_of_the_folder(
    tmp_path, config, sentence, override, expected
):
    assert read_model(folder(tmp_path, config=config, sentence=sentence), max_length=override).max_length == expected


def test_a_broken_file_is_named(tmp_path):
    root = folder(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text("{")
    with pytest.raises(InputError, match=r"sentence_bert_config\.json is not JSON"):
        read_model(root)


def test_the_fingerprint_names_what_changes_a_vector_and_nothing_else(tmp_path, tiny_bert):
    plain = read_model(str(tiny_bert))
    copied = read_model(shutil.copytree(tiny_bert, tmp_path / "elsewhere"))
    assert copied.folder != plain.folder
    assert copied.fingerprint == plain.fingerprint
    (tmp_path / "elsewhere" / "README.md").write_text("words")
    assert read_model(copied.folder).fingerprint == plain.fingerprint
    changed = [
        read_model(str(tiny_bert), pooling="cls"),
        read_model(str(tiny_bert), max_length=32),
        read_model(str(tiny_bert), prompt="query: "),
    ]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        file = tmp_path / "elsewhere" / name
        before = file.read_bytes()
        file.write_bytes(before[:-1] + b"?" if name == "model.safetensors" else before + b"\n")
        changed.append(read_model(copied.folder))
        file.write_bytes(before)
    assert len({plain.fingerprint, *(spec.fingerprint for spec in changed)}) == 7
