"""The model that the options name: folder, package, hub cache or archive; and what is refused before it loads."""

import json
import shutil
from pathlib import Path

import pytest

from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import InputError, UsageError

REVISION = "0123456789abcdef0123456789abcdef01234567"


def resolve(model, **options):
    return resolve_model(EncoderOptions(lake="lake", model=str(model), **options))


@pytest.fixture
def folder(tiny_bert, tmp_path):
    """A copy of the tiny model that a test can change."""
    return shutil.copytree(tiny_bert, tmp_path / "models" / "tiny")


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_a_copy_of_a_folder_is_the_same_model_and_a_changed_copy_is_another(folder, tiny_bert):
    assert resolve(folder).fingerprint == resolve(tiny_bert).fingerprint
    write(folder, "tokenizer_config.json", {})
    assert resolve(folder).fingerprint != resolve(tiny_bert).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "cls"},
        {"max_length": 16},
        {"prompt": "x"},
        {"user_prompt": "x"},
        {"truncate_dim": 8},
        {"long_text": "chunk"},
        {"precision": "bf16"},
        {"precision": "int8"},
    ],
    ids=str,
)
def test_everything_that_changes_a_vector_changes_the_fingerprint(folder, changes):
    if changes.get("precision") == "int8":
        pytest.importorskip("onnxruntime")
    assert resolve(folder, **changes).fingerprint != resolve(folder).fingerprint


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, {"pooling": "cls"}),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, {"pooling": "weighted_mean"}),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, {"pooling": "last_token"}),
        ("sentence_bert_config.json", {"max_seq_length": 40}, {"max_length": 40}),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "query: ", "document": "passage: "}},
            {"prompt": "passage: ", "user_prompt": "query: "},
        ),
        ("config_sentence_transformers.json", {"prompts": None}, {"prompt": "", "user_prompt": ""}),
    ],
)
def test_a_folder_of_sentence_transformers_needs_no_configuration(folder, name, content, expected):
    write(folder, name, content)
    spec = resolve(folder)
    assert {key: getattr(spec, key) for key in expected} == expected
    assert resolve(folder, pooling="mean", max_length=9, prompt="p", user_prompt="u").prompt == "p"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Evil"}}, "config.json asks to run code"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["t.E", None]}}, "tokenizer_config.json asks to run"),
        ("modules.json", [{"type": "sentence_transformers.models.LSTM"}], "names LSTM"),
        ("1_Pooling/config.json", {"pooling_mode_median_tokens": True}, "'pooling_mode_median_tokens', which is not"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling 'median', which is not supported"),
    ],
)
def test_an_unsupported_setting_of_a_folder_is_refused(folder, name, content, message):
    write(folder, name, content)
    with pytest.raises(UsageError, match=message):
        resolve(folder)


@pytest.mark.parametrize("model", ["https://example.org/m", "file:///etc", "s3://b/m", "models/../../etc", "a\0b"])
def test_a_model_that_is_not_a_plain_path_is_refused(model):
    with pytest.raises(UsageError, match="is not a folder"):
        resolve(model)


def test_no_model_outside_of_models_root_is_accepted(folder, tiny_bert, tmp_path):
    root = folder.parent
    assert resolve(folder, models_root=str(root)) == resolve(folder)
    with pytest.raises(UsageError, match="outside of models_root"):
        resolve(tiny_bert, models_root=str(root))
    (root / "link").symlink_to(tiny_bert)
    with pytest.raises(UsageError, match="outside of models_root"):
        resolve(root / "link", models_root=str(root))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tiny_bert / "model.safetensors")
    with pytest.raises(UsageError, match="model.safetensors lies outside of models_root"):
        resolve(folder, models_root=str(root))


@pytest.mark.parametrize(
    ("precision", "engine", "message"),
    [
        ("int8", "torch", "engine 'torch' has no precision 'int8'; it has fp32, bf16"),
        ("int8", "openvino", "engine 'openvino' has no precision 'int8'"),
        ("bf16", "onnx", "engine 'onnx' has no precision 'bf16'"),
    ],
)
def test_a_precision_that_an_engine_does_not_have_is_refused(folder, precision, engine, message):
    with pytest.raises(UsageError, match=message):
        resolve(folder, precision=precision, engine=engine)


def test_a_model_is_converted_once_into_its_own_folder(folder, monkeypatch):
    pytest.importorskip("onnxruntime")
    first = resolve(folder, engine="onnx")
    assert Path(first.folder) == folder / f"recsys-onnx-fp32-{first.weights[:16]}"
    monkeypatch.setattr("recsys_spark.encode.kernels.engine_conversion.convert", None)
    assert resolve(folder, engine="onnx") == first
    assert first.fingerprint == resolve(folder).fingerprint


def test_a_folder_that_cannot_be_written_is_converted_into_the_cache(folder, monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Path(resolve(folder, engine="onnx").folder).parent == tmp_path / "cache" / "recsys-spark"
    assert not list(folder.glob("recsys-*"))


@pytest.mark.slow
def test_weights_that_are_replaced_in_place_are_converted_again(folder, tiny_bert):
    from safetensors.numpy import load_file, save_file

    from recsys_spark.encode.kernels.encoder import Encoder

    pytest.importorskip("onnxruntime")
    first = Encoder(resolve(folder, engine="onnx")).encode(["a film"]).vectors
    weights = {name: value[::-1].copy() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    second = Encoder(resolve(folder, engine="onnx")).encode(["a film"]).vectors
    assert abs(second - first).max() > 0.01
    assert abs(second - Encoder(resolve(folder)).encode(["a film"]).vectors).max() < 1e-5


@pytest.fixture
def hub(tiny_bert, tmp_path, monkeypatch):
    """A hub cache that holds the tiny model as acme/tiny, as a download leaves it."""
    import huggingface_hub.constants as constants

    cache = tmp_path / "hub"
    shutil.copytree(tiny_bert, cache / "models--acme--tiny" / "snapshots" / REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_a_pinned_revision_is_found_in_the_cache_without_a_network(hub, tiny_bert):
    assert resolve(f"hub:acme/tiny@{REVISION}").fingerprint == read_model(str(tiny_bert)).fingerprint


def test_a_revision_that_is_not_in_the_cache_is_named_with_the_remedy(hub):
    with pytest.raises(InputError, match="hub:acme/tiny@1111.*HF_HUB_OFFLINE=0"):
        resolve(f"hub:acme/tiny@{'1' * 40}")


@pytest.mark.parametrize("name", ["acme/tiny", "acme/tiny@main", "../x@" + "1" * 40, "acme/tiny@" + "1" * 39])
def test_a_revision_has_to_be_pinned(name):
    with pytest.raises(UsageError, match="40 hex digits"):
        resolve(f"hub:{name}")


def test_an_archive_is_found_in_the_working_folder_and_else_named(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert resolve("archive:tiny").fingerprint == resolve(folder).fingerprint
    with pytest.raises(InputError, match=r"--archives FILE\.zip#absent"):
        resolve("archive:absent")
