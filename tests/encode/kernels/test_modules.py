"""Model folders of sentence-transformers: read to the same vectors as it makes, or refused by name before a task runs.

The oracle is a few lines of torch: transformer, pooling and layers as sentence-transformers 6 defines them.
"""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recsys_spark.encode.kernels.folder_settings import max_length_of, read_prompts
from recsys_spark.encode.kernels.model_folder import read_model
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import UsageError

TEXTS = ["a quiet film", "z", "Tea POT, blue", "one two three four five six seven", "x " * 40]
TYPE = "sentence_transformers.models"


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    """An empty cache, in which no model counts as checked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tiny_bert, tmp_path):
    return shutil.copytree(tiny_bert, tmp_path / "model")


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def modules(folder, *more, pooling="1_Pooling", transformer="", **settings):
    """modules.json, and the configuration of the pooling."""
    listed = [(transformer, "Transformer"), (pooling, "Pooling"), *more]
    write(folder, "modules.json", [{"idx": i, "path": p, "type": f"{TYPE}.{t}"} for i, (p, t) in enumerate(listed)])
    write(folder, f"{pooling}/config.json", {"word_embedding_dimension": 32, **settings})


def name_special_tokens(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder, "tokenizer_config.json", config | {"cls_token": "[CLS]", "sep_token": "[SEP]"})


def resolve(folder, **options):
    return resolve_model(EncoderOptions(lake="lake", model=str(folder), **options))


def vectors(folder, texts=TEXTS, **options):
    from recsys_spark.encode.kernels.encoder import Encoder

    return Encoder(resolve(folder, **options)).encode(texts).vectors


def oracle(folder, *modes, prompt="", skipped=0, lower=False, limit=64, layers=(), texts=TEXTS):
    """Unit vectors of texts, encoded one at a time without padding."""
    import torch
    from transformers import AutoModel, AutoModelForTextEncoding, AutoTokenizer

    kind = json.loads((folder / "config.json").read_text())["model_type"]
    model = (AutoModelForTextEncoding if kind == "t5" else AutoModel).from_pretrained(folder).eval()
    tokenizer, rows = AutoTokenizer.from_pretrained(folder), []
    for text in texts:
        text = (prompt + text).lower() if lower else prompt + text
        ids = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0][skipped:]
        positions = torch.arange(skipped + 1, skipped + 1 + len(hidden))[:, None].float()
        pooled = {
            "cls": lambda h, w: h[0],
            "max": lambda h, w: h.max(0).values,
            "mean": lambda h, w: h.mean(0),
            "mean_sqrt_len_tokens": lambda h, w: h.sum(0) / len(h) ** 0.5,
            "weightedmean": lambda h, w: (h * w).sum(0) / w.sum(),
            "lasttoken": lambda h, w: h[-1],
        }
        vector = torch.cat([pooled[mode](hidden, positions) for mode in modes])
        for layer in layers:
            vector = layer(vector)
        rows.append((vector / vector.norm()).detach().numpy())
    return np.array(rows)


@pytest.mark.parametrize(
    ("settings", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ["cls"]),
        ({"pooling_mode_max_tokens": True}, ["max"]),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ["mean_sqrt_len_tokens"]),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ["max", "mean"]),
        ({"pooling_mode": ["mean", "lasttoken", "cls"]}, ["mean", "lasttoken", "cls"]),
        ({"pooling_mode": "weightedmean"}, ["weightedmean"]),
        ({"pooling_mode": "lasttoken", "pooling_mode_mean_tokens": True}, ["lasttoken"]),
    ],
    ids=str,
)
def test_pooling_is_configured_in_the_folder_that_modules_json_names(folder, settings, modes):
    modules(folder, pooling="2_Pooling", **settings)
    np.testing.assert_allclose(vectors(folder), oracle(folder, *modes), atol=1e-5)


def test_several_poolings_are_written_as_they_were_read(folder):
    from recsys_spark.tune.steps.model_publishing import describe

    prompts = {"prompts": {"document": "the item: "}}
    write(folder, "config_sentence_transformers.json", prompts)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": True})
    modules(folder, pooling="2_Pooling", pooling_mode=["mean", "cls"], include_prompt=False)
    first = read_model(str(folder))
    describe(folder, first)
    assert read_model(str(folder)) == first
    assert (first.pooling, first.include_prompt, first.lower_case) == ("mean+cls", False, True)


@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean"])
@pytest.mark.parametrize("long_text", ["truncate", "chunk"])
def test_a_prompt_that_is_not_included_is_read_and_not_pooled(folder, mode, long_text):
    prompt = "shown to buyers: "
    name_special_tokens(folder)
    write(folder, "config_sentence_transformers.json", {"prompts": {"document": prompt, "query": ""}})
    modules(folder, pooling_mode=mode, include_prompt=False)
    expected = oracle(folder, mode, prompt=prompt, skipped=1 + len("showntobuyers:"))
    np.testing.assert_allclose(vectors(folder, TEXTS[:4], long_text=long_text), expected[:4], atol=1e-5)
    included = vectors(folder, TEXTS[:4], pooling="mean", prompt="")
    assert abs(included - expected[:4]).max() > 0.01
    assert resolve(folder).fingerprint != resolve(folder).for_users.fingerprint


def test_a_prompt_that_is_not_included_needs_a_role_for_the_token_that_ends_a_text(folder):
    modules(folder, include_prompt=False)
    resolve(folder)
    with pytest.raises(
        UsageError, match=r"include_prompt is false.*\[SEP\] ends each text.*name it there as sep_token"
    ):
        resolve(folder, user_prompt="to buyers: ")


def test_whether_the_prompt_is_pooled_is_part_of_the_name_where_there_is_a_prompt(folder):
    name_special_tokens(folder)
    modules(folder)
    names = [resolve(folder).fingerprint, resolve(folder, prompt="x", user_prompt="x").fingerprint]
    modules(folder, include_prompt=False)
    assert resolve(folder).fingerprint == names[0]
    assert resolve(folder, prompt="x", user_prompt="x").fingerprint != names[1]


def test_training_skips_the_same_tokens_in_pooling(folder):
    from recsys_spark.tune.kernels.trainable_encoder import AdapterConfig, TrainableEncoder

    write(folder, "sentence_bert_config.json", {"do_lower_case": True})
    name_special_tokens(folder)
    modules(folder, pooling_mode=["mean", "max"], include_prompt=False)
    tunable = TrainableEncoder(resolve(folder, prompt="Item: ", user_prompt=""), AdapterConfig("head"))
    pooled = tunable(tunable.token_ids(TEXTS)).detach().numpy()
    expected = oracle(folder, "mean", "max", prompt="Item: ", skipped=6, lower=True)
    np.testing.assert_allclose(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), expected, atol=1e-5)
    assert tunable.width == pooled.shape[1]


def test_texts_are_put_in_lower_case_where_the_folder_says_so(folder):
    plain = resolve(folder)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": True})
    np.testing.assert_allclose(vectors(folder), oracle(folder, "mean", lower=True), atol=1e-5)
    assert resolve(folder).fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("settings", "prompts"),
    [
        ({"prompts": {"query": "q: ", "document": "d: "}, "default_prompt_name": None}, ("d: ", "q: ")),
        ({"prompts": {"query": "q: ", "passage": "p: "}}, ("p: ", "q: ")),
        ({"prompts": {"cluster": "c: "}, "default_prompt_name": "cluster"}, ("c: ", "c: ")),
        ({"prompts": {"query": "q: ", "document": "", "any": "a: "}, "default_prompt_name": "any"}, ("a: ", "q: ")),
        ({"prompts": {"cluster": "c: "}}, ("", "")),
    ],
    ids=str,
)  # fmt: skip
def test_prompts_are_those_of_documents_and_queries_else_the_default(folder, settings, prompts):
    write(folder, "config_sentence_transformers.json", settings)
    assert read_prompts(folder) == prompts
    write(folder, "config_sentence_transformers.json", {**settings, "default_prompt_name": "absent"})
    with pytest.raises(UsageError, match="default_prompt_name 'absent'"):
        resolve(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "many"}, "max_seq_length is 'many', not a number of tokens"),
        ("sentence_bert_config.json", {"max_seq_length": -3}, "max_seq_length is -3, not a number"),
        ("tokenizer_config.json", {"model_max_length": "x"}, "model_max_length is 'x', not a number"),
        ("config.json", {"model_type": "bert", "max_position_embeddings": "x"}, "max_position_embeddings is 'x'"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "prompts are not an object"),
        ("model.safetensors.index.json", {"weight_map": [1]}, "weight_map names no file for each weight"),
    ],
)
def test_settings_of_another_type_are_refused(folder, name, content, message):
    if "index" in name:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    write(folder, name, content)
    with pytest.raises(UsageError, match=f"model file .*{name}: {message}"):
        resolve(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "1_Pooling/config.json"])
def test_settings_that_are_a_git_lfs_pointer_are_refused(folder, name):
    write(folder, name, {})
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UsageError, match=f"{name} is a git-lfs pointer .* git lfs pull"):
        resolve(folder)


def test_a_prompt_that_leaves_no_room_for_a_text_is_refused(folder):
    for options in ({"max_length": 2}, {"prompt": "x" * 62}, {"prompt": "", "user_prompt": "x" * 62}):
        with pytest.raises(UsageError, match="leaves no room for a text; set a shorter --prompt or a larger"):
            resolve(folder, **options)
    resolve(folder, prompt="x" * 61)


def put_layers(folder, dtype):
    """A dense layer in ``dtype`` without a bias, and a layer norm; as torch computes them."""
    import torch
    from safetensors.torch import save_file as save

    torch.manual_seed(3)
    modules(folder, ("2_Dense", "Dense"), ("3_LayerNorm", "LayerNorm"), ("4_Dropout", "Dropout"))
    weight, scale, shift = torch.randn(16, 32).to(dtype), torch.randn(16), torch.randn(16)
    activation = "torch.nn.modules.activation.Tanh"
    write(folder, "2_Dense/config.json",
          {"in_features": 32, "out_features": 16, "bias": False, "activation_function": activation})  # fmt: skip
    save({"linear.weight": weight}, folder / "2_Dense" / "model.safetensors")
    write(folder, "3_LayerNorm/config.json", {"dimension": 16})
    save({"norm.weight": scale, "norm.bias": shift}, folder / "3_LayerNorm" / "model.safetensors")
    return [
        lambda x: torch.tanh(weight.float() @ x),
        lambda x: torch.nn.functional.layer_norm(x, (16,), scale, shift),
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_layers_after_pooling_are_read_in_every_supported_type(folder, dtype):
    import torch

    layers = put_layers(folder, getattr(torch, dtype))
    np.testing.assert_allclose(vectors(folder), oracle(folder, "mean", layers=layers), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.GELU"},
            "activation '.*GELU' is not one of Identity, ReLU",
        ),
        ({"activation_function": "evil.module.ReLU"}, "activation 'evil.module.ReLU' is not one of"),
        ({"bias": True}, r"holds the tensors linear\.weight; expected: linear\.weight, linear\.bias"),
        ({"use_residual": True}, "use_residual True is not supported"),
        ({"module_input_name": "token_embeddings"}, "module_input_name token_embeddings is not supported"),
    ],
)
def test_a_dense_layer_with_an_unsupported_setting_is_refused(folder, change, message):
    import torch

    put_layers(folder, torch.float32)
    config = json.loads((folder / "2_Dense" / "config.json").read_text())
    write(folder, "2_Dense/config.json", config | change)
    with pytest.raises(UsageError, match=message):
        resolve(folder)


def test_a_dense_layer_of_another_width_or_type_is_refused(folder):
    modules(folder, ("2_Dense", "Dense"))
    write(folder, "2_Dense/config.json", {"bias": False})
    save_file({"linear.weight": np.zeros((8, 48), np.float32)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(UsageError, match="a Dense layer expects vectors of 48 dimensions, not 32"):
        resolve(folder)
    save_file({"linear.weight": np.zeros((8, 32), np.int8)}, folder / "2_Dense" / "model.safetensors")
    with pytest.raises(UsageError, match=r"linear\.weight has type I8"):
        resolve(folder)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([("", f"{TYPE}.Transformer"), ("1_Pooling", f"{TYPE}.Pooling"), ("../outside", f"{TYPE}.Dense")],
         r"path '\.\./outside' of Dense in modules.json leads out of the folder"),
        ([("/etc", f"{TYPE}.Transformer"), ("1_Pooling", f"{TYPE}.Pooling")], "path '/etc' of Transformer"),
        ([("", f"{TYPE}.Transformer"), ("1", f"{TYPE}.WordWeights"), ("2", f"{TYPE}.Pooling")], "names WordWeights"),
        ([("", f"{TYPE}.Transformer"), ("1", f"{TYPE}.Dense"), ("2", f"{TYPE}.Pooling")], "Transformer, Dense, P"),
        ([("", f"{TYPE}.Transformer"), ("1", f"{TYPE}.Normalize")], "lists Normalize before a Pooling"),
        ([("", f"{TYPE}.Transformer")], "lists no Pooling; set --pooling"),
        ([("", "custom_st.Transformer"), ("1_Pooling", f"{TYPE}.Pooling")], "code that comes with the model"),
    ],
)  # fmt: skip
def test_modules_that_are_unknown_out_of_order_or_outside_are_refused(folder, listed, message):
    modules(folder)
    write(folder, "modules.json", [{"path": path, "type": kind} for path, kind in listed])
    with pytest.raises(UsageError, match=message):
        resolve(folder)


def test_a_transformer_in_a_folder_of_its_own_is_the_same_model(folder, tmp_path):
    modules(folder, pooling="1_Pooling", transformer="0_Transformer", pooling_mode="cls")
    flat = shutil.copytree(folder, tmp_path / "flat")
    modules(flat, pooling_mode="cls")
    (folder / "0_Transformer").mkdir()
    for path in [*folder.glob("*.safetensors"), *folder.glob("tokenizer*"), folder / "config.json"]:
        path.rename(folder / "0_Transformer" / path.name)
    write(folder, "0_Transformer/sentence_bert_config.json", {"max_seq_length": 16})
    write(flat, "sentence_bert_config.json", {"max_seq_length": 16})
    assert resolve(folder).fingerprint == resolve(flat).fingerprint
    np.testing.assert_array_equal(vectors(folder), vectors(flat))


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_converted_folder_keeps_modules_in_any_folder(folder, engine):
    import torch

    pytest.importorskip("onnxruntime" if engine == "onnx" else "openvino")
    layers = put_layers(folder, torch.bfloat16)
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["path"], listed[2]["path"] = "encoder", "layers/first"
    for index, name in ((0, "encoder"), (2, "layers/first")):
        (folder / name).mkdir(parents=True)
        moved = (folder / "2_Dense").iterdir() if index else [*folder.glob("*.safetensors"), *folder.glob("*en*.json")]
        for path in [*moved, *([] if index else [folder / "config.json"])]:
            path.rename(folder / name / path.name)
    write(folder, "modules.json", listed)
    expected = oracle(folder / "encoder", "mean", layers=layers)
    np.testing.assert_allclose(vectors(folder, engine=engine), expected, atol=1e-4)


def test_the_encoder_of_t5_is_read(tiny_bert, tmp_path):
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **shape))
    folder = tmp_path / "t5"
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules(folder)
    long = "x " * 150  # T5 uses distances instead of positions
    write(folder, "sentence_bert_config.json", {"max_seq_length": 128})
    expected = oracle(folder, "mean", limit=128, texts=[*TEXTS, long])
    np.testing.assert_allclose(vectors(folder, [*TEXTS, long]), expected, atol=1e-5)


def test_an_unsupported_encoder_decoder_is_refused_by_its_name(tiny_bert, tmp_path):
    from transformers import AutoTokenizer, PegasusConfig, PegasusModel

    tokenizer, folder = AutoTokenizer.from_pretrained(tiny_bert), tmp_path / "pegasus"
    shape = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    PegasusModel(PegasusConfig(vocab_size=len(tokenizer), **shape, **heads)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(UsageError, match="PegasusModel is an encoder-decoder of type pegasus, which is not supported"):
        resolve(folder)


def rename_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    renamed = dict(pair for name, value in weights.items() if (pair := change(name, value)))
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, value: (f"model.bert.{name}", value),
         "37 weights of BertModel are missing: embeddings.*found instead model.bert.emb"),
        (lambda name, value: (name, value) if "layer.1" not in name else None, "16 weights of BertModel are missing"),
        (lambda name, value: (name, value[:8].copy() if "intermediate" in name else value),
         r"4 weights differ in shape .* encoder\.layer\.0\.intermediate\.dense\.bias: \(8,\), not \(64,\)"),
        (lambda name, value: (name, value[:50].copy() if "word_emb" in name else value), r"\(50, 32\), not \(192"),
    ],
)  # fmt: skip
def test_weights_that_would_be_random_are_refused(folder, change, message):
    rename_weights(folder, change)
    with pytest.raises(UsageError, match=message):
        resolve(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda name, value: (name, value) if "pooler" not in name else None,
        lambda name, value: (f"bert.{name}", value),
    ],
)
def test_a_missing_pooler_and_the_prefix_of_transformers_change_nothing(folder, tiny_bert, change):
    rename_weights(folder, change)
    np.testing.assert_array_equal(vectors(folder), vectors(tiny_bert))


def test_layers_that_config_json_leaves_out_are_warned_of(folder, caplog):
    config = json.loads((folder / "config.json").read_text())
    write(folder, "config.json", config | {"num_hidden_layers": 1})
    with caplog.at_level(logging.WARNING):
        resolve(folder)
    assert "16 weights are not used, such as encoder.layer.1.attention" in caplog.text


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_the_weights_is_refused(folder, name):
    (folder / name).write_text("{}")
    with pytest.raises(UsageError, match=f"an adapter lies beside the weights \\({name}\\).*merge"):
        resolve(folder)


def test_incomplete_weights_are_refused(folder):
    whole = (folder / "model.safetensors").read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90\n"
    for content, message in (
        (whole[:-100], "has [0-9]+ bytes, its header says"),
        (whole[:200], "does not begin with a safetensors header"),
        (b"", "does not begin with a safetensors header"),
        (pointer, "git lfs pull"),
    ):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(UsageError, match=f"model.safetensors .*{message}"):
            resolve(folder)


def test_a_shard_that_is_missing_is_named(folder):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    resolve(folder)
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[1].unlink()
    with pytest.raises(UsageError, match=f"{shards[1].name} is missing, found"):
        resolve(folder)


def test_a_configuration_that_names_no_architecture_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    write(folder, "config.json", config)
    with pytest.raises(UsageError, match=r"config\.json has no model_type"):
        resolve(folder)
    write(folder, "config.json", config | {"model_type": "of_tomorrow"})
    with pytest.raises(UsageError, match="transformers cannot read config.json .*of_tomorrow"):
        resolve(folder)


def test_a_tokenizer_that_exists_in_python_only_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]) + "\n")
    kind = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character", "do_lower_case": False}
    write(folder, "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer", **kind})
    with pytest.raises(UsageError, match=r"tokenizer.*a tokenizer\.json is needed"):
        resolve(folder)


def test_a_tokenizer_without_files_or_of_another_model_is_refused(folder, tmp_path):
    from transformers import AutoTokenizer

    bare = shutil.copytree(folder, tmp_path / "bare")
    for path in bare.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"a tokenizer\.json is needed"):
        resolve(bare)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["teapot", "teacup"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UsageError, match="has token ids up to 193, its weights have 192 token embeddings"):
        resolve(folder)


def test_a_tokenizer_without_a_token_to_pad_with_changes_nothing(folder, tiny_bert):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder, "tokenizer_config.json", {k: v for k, v in config.items() if k not in ("pad_token", "unk_token")})
    np.testing.assert_allclose(vectors(folder), vectors(tiny_bert), atol=1e-5)


def test_texts_are_cut_where_the_positions_of_the_model_end(folder, caplog):
    write(folder, "sentence_bert_config.json", {"max_seq_length": 512})
    with caplog.at_level(logging.WARNING):
        assert [resolve(folder).max_length, resolve(folder).max_length] == [64, 64]
    assert caplog.text.count("512, but its model has 64 positions: texts are truncated at 64 tokens") == 1
    np.testing.assert_allclose(vectors(folder, ["x " * 100]), oracle(folder, "mean", texts=["x " * 100]), atol=1e-5)
    with pytest.raises(UsageError, match="max_length 65 is more than the 64 positions"):
        resolve(folder, max_length=65)


def test_positions_of_roberta_begin_after_the_padding_token(tiny_bert, tmp_path):
    import torch
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    torch.manual_seed(2)
    tokenizer, folder = AutoTokenizer.from_pretrained(tiny_bert), tmp_path / "roberta"
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = RobertaModel(RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, pad_token_id=1, **shape))
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 512})
    assert resolve(folder).max_length == 64
    assert np.isfinite(vectors(folder, ["x " * 100])).all()
    with pytest.raises(UsageError, match="max_length 65 is more than the 64 positions"):
        resolve(folder, max_length=65)


@pytest.mark.parametrize(
    ("config", "longest"),
    [
        ({"model_type": "qwen2", "max_position_embeddings": 64, "rope_theta": 1e4}, 100),
        ({"model_type": "t5", "n_positions": 64}, 100),
        ({"model_type": "deberta-v2", "max_position_embeddings": 64, "position_biased_input": False}, 100),
        ({"model_type": "deberta-v2", "max_position_embeddings": 64}, 64),
        ({"model_type": "mpnet", "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ({"model_type": "gpt2", "n_positions": 64}, 64),
    ],
)
def test_only_a_table_of_positions_limits_the_length(tmp_path, config, longest):
    write(tmp_path, "config.json", config)
    write(tmp_path, "sentence_bert_config.json", {"max_seq_length": 100})
    assert max_length_of(tmp_path) == longest


def test_the_length_of_the_tokenizer_counts_where_no_other_is_set(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder, "tokenizer_config.json", config | {"model_max_length": 16})
    assert resolve(folder).max_length == 16


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "spiece.model", "special_tokens_map.json"])
def test_parts_of_a_tokenizer_count_where_there_is_no_tokenizer_json(folder, name):
    plain = read_model(str(folder)).fingerprint
    (folder / name).write_text("{}")
    assert read_model(str(folder)).fingerprint == plain
    (folder / "tokenizer.json").unlink()
    with_part = read_model(str(folder)).fingerprint
    (folder / name).write_text("{ }")
    assert read_model(str(folder)).fingerprint != with_part


def test_a_model_is_tried_once_and_a_dry_run_leaves_nothing(folder, monkeypatch, tmp_path):
    from recsys_spark.encode.kernels import model_check

    tried = []
    check = model_check.check_usable
    monkeypatch.setattr(model_check, "check_usable", lambda spec: tried.append(check(spec)))
    resolve(folder, dry_run=True)
    assert not (tmp_path / "cache").exists()
    resolve(folder)
    resolve(folder)
    assert len(tried) == 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_dry_run_converts_nothing(folder, precision, tmp_path):
    before = sorted(folder.rglob("*"))
    spec = resolve(folder, engine="onnx", precision=precision, dry_run=True)
    assert (spec.engine, spec.folder) == ("torch", str(folder))
    assert sorted(folder.rglob("*")) == before
    assert not (tmp_path / "cache").exists()


def test_unknown_tokens_are_counted(folder):
    from recsys_spark.encode.kernels.encoder import Encoder

    write(folder, "config_sentence_transformers.json", {"prompts": {"document": "a b: "}})
    for long_text in ("truncate", "chunk"):
        encoder = Encoder(resolve(folder, long_text=long_text))
        encoded = encoder.encode(["red tea", "日本語", "чай tea", "", "пароход и чай"])
        assert encoded.text_tokens.tolist() == [6, 1, 4, 0, 3]
        assert encoded.unknown.tolist() == [0, 1, 1, 0, 3]
    encoder = Encoder(resolve(folder, prompt="日本 a ", user_prompt=""))
    long = "日本 " * 100
    encoder.spec = replace(encoder.spec, max_length=16, long_text="chunk")
    encoded = encoder.encode(["tea", "日本", long])
    assert (encoded.text_tokens.tolist(), encoded.unknown.tolist()) == ([3, 1, 100], [0, 1, 100])
