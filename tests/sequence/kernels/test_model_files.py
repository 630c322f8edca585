"""The folder of a sequence encoder: what is written is read, and what is broken is refused in words."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from recsys_spark.errors import InputError
from recsys_spark.sequence.kernels.model_files import read_sequence_files, write_sequence_files
from tests.bench.sequence_models import random_model


@pytest.fixture
def folder(tmp_path):
    write_sequence_files(random_model(["a", "b", "c"], "abc", dimension=5), tmp_path / "model")
    return tmp_path / "model"


def test_a_model_is_read_as_it_was_written(folder, tmp_path):
    written, read = random_model(["a", "b", "c"], "abc", dimension=5), read_sequence_files(folder)
    assert (read.shape, read.encoder, read.shrink) == (written.shape, "abc", 0.1)
    assert read.ids.equals(written.ids)
    for name, values in written.transformer.items():
        np.testing.assert_array_equal(read.transformer[name], values)
    texts = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    ids = pa.array(["c", "new", "a"])
    np.testing.assert_array_equal(read.item_vectors(ids, texts), written.item_vectors(ids, texts))
    shutil.copytree(folder, tmp_path / "copy")
    assert read_sequence_files(tmp_path / "copy").fingerprint == read.fingerprint
    write_sequence_files(random_model(["a", "b", "c"], "abc", dimension=5, seed=1), tmp_path / "other")
    assert read_sequence_files(tmp_path / "other").fingerprint != read.fingerprint


def test_an_item_has_the_vector_of_its_text_or_its_offset_or_both(folder):
    model = read_sequence_files(folder)
    texts = np.zeros((4, 5), np.float32)
    texts[[0, 2]] = np.random.default_rng(0).normal(size=5)
    both, offset, text, neither = model.item_vectors(pa.array(["b", "b", "x", "y"]), texts)
    np.testing.assert_allclose(both, offset + text, atol=1e-6)
    np.testing.assert_array_equal(offset, model.offsets[1])
    assert text.any()
    assert not neither.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "items.parquet").unlink(), "has no file items.parquet: give the folder of a model"),
        (lambda f: (f / "sequence.safetensors").write_bytes(b"no tensors"), "is broken"),
        (lambda f: (f / "sequence.json").write_text("{"), "is broken"),
        (lambda f: set_json(f, format=2), "has format 2, this release reads 1"),
        (lambda f: set_json(f, shape={"width": 4}), r"offsets is \(3, 8\), not \(3, 4\)|text_map is"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused(folder, change, message):
    change(folder)
    with pytest.raises(InputError, match=message):
        read_sequence_files(folder)


def set_json(folder, **values):
    path = folder / "sequence.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
