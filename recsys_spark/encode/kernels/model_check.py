"""Try a model once on the driver, so that an unusable one fails before any data is read. Imports torch.

A model too large for the driver's memory is not tried; executors check its weights when they load it.
"""

import logging
import os
from pathlib import Path
from typing import Any

import torch

from recsys_spark.encode.kernels.dense_head import check_widths, read_head
from recsys_spark.encode.kernels.encoder import prompt_length
from recsys_spark.encode.kernels.loading import load_config, load_tokenizer, load_weights
from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.encode.kernels.modules import module_files
from recsys_spark.errors import UsageError

_TEXT = "one tea cup 2"

_LONGEST = 512  # tokens of the trial: with more, a large model needs minutes

_MEMORY = 4  # weights are tried if their files fill at most 1 / 4 of this machine's memory: they are loaded as fp32


def check_usable(spec: ModelSpec) -> None:
    """Load the model and encode a short text and one of the maximum length (512 tokens at most).

    Raises:
        UsageError: weights are missing, the tokenizer is not usable or belongs to another model, the widths of layers
            differ, a prompt leaves no room for a text, or the model cannot read texts.
    """
    width = int(load_config(spec.folder).get_text_config().hidden_size)
    check_widths(Path(spec.folder), read_head(Path(spec.folder)), width * len(spec.pooling.split("+")))
    tokenizer = load_tokenizer(spec.folder)
    for role in (spec, spec.for_users):
        _check_prompt(role, tokenizer)
    weights = sum(path.stat().st_size for path in module_files(Path(spec.folder)) if path.suffix == ".safetensors")
    if weights * _MEMORY > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return
    model, unused = load_weights(spec.folder, torch.float32)
    if unused:
        logging.getLogger("recsys_spark").warning(
            "warning: model folder %s: %d weights are not used, such as %s: config.json may belong to another model",
            *(spec.folder, len(unused), unused[0]),
        )
    _check_vocabulary(spec, model, tokenizer)
    _try(spec, model, tokenizer)


def _check_prompt(spec: ModelSpec, tokenizer: Any) -> None:
    overhead = len(tokenizer(spec.prepared(""))["input_ids"])
    if overhead >= spec.max_length:
        raise UsageError(
            f"model folder {spec.folder}: prompt and special tokens take {overhead} tokens and max_length is "
            f"{spec.max_length}, which leaves no room for a text; set a shorter --prompt or a larger --max_length"
        )
    if not spec.include_prompt:
        prompt_length(tokenizer, spec)


def _check_vocabulary(spec: ModelSpec, model: Any, tokenizer: Any) -> None:
    rows, special = len(model.get_input_embeddings().weight), set(tokenizer.all_special_tokens)
    # Special tokens such as [MASK] may have larger ids: transformers adds them to tokenizers that lack them.
    largest = max(token_id for token, token_id in tokenizer.get_vocab().items() if token not in special)
    if largest >= rows:
        raise UsageError(
            f"model folder {spec.folder}: its tokenizer has token ids up to {largest}, its weights have {rows} token "
            "embeddings; take tokenizer and weights of the same model"
        )


def _try(spec: ModelSpec, model: Any, tokenizer: Any) -> None:
    length = min(spec.max_length, _LONGEST)
    ids = tokenizer(_TEXT, truncation=True, max_length=length)["input_ids"] or [tokenizer.pad_token_id]
    for row in (ids, (ids * length)[:length]):
        tokens = torch.tensor([row])
        try:
            with torch.inference_mode():
                hidden = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        except Exception as error:
            raise UsageError(
                f"model folder {spec.folder}: {type(model).__name__} cannot read a text of {len(row)} tokens "
                f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}); the model is unsupported"
                + (", or --max_length is too large" if row is not ids else "")
            ) from error
        if hidden.shape[:2] != tokens.shape:
            raise UsageError(f"model folder {spec.folder}: {type(model).__name__} gives no vector for each token")
