"""Load transformer and tokenizer of a model folder exactly, or refuse them with the reason. Imports torch.

transformers only warns of missing weights and fills them with random numbers; here they are errors.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from recsys_spark.encode.kernels.model_folder import check_model
from recsys_spark.encode.kernels.modules import transformer_folder
from recsys_spark.errors import UsageError

_SAFE = {"local_files_only": True, "trust_remote_code": False}

_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
"""Supported encoder-decoders by model type, and the class that loads only the encoder."""

_NAMES_SHOWN = 3  # names of weights in an error message

transformers_logging.disable_progress_bar()

transformers_logging.set_verbosity_error()  # this module checks what transformers would report


def load_config(folder: str) -> Any:
    """Configuration of the transformer.

    Raises:
        UsageError: transformers does not know the architecture, or it is an unsupported encoder-decoder.
    """
    inner = transformer_folder(Path(folder))
    try:
        config = AutoConfig.from_pretrained(inner, **_SAFE)
    except Exception as error:
        raise UsageError(f"model folder {inner}: transformers cannot read config.json ({_reason(error)})") from error
    if config.is_encoder_decoder and config.model_type not in _ENCODERS:
        raise UsageError(
            f"model folder {inner}: {_architecture(config)} is an encoder-decoder of type {config.model_type}, which "
            f"is not supported; supported encoder-decoders are {', '.join(_ENCODERS)}"
        )
    return config


def load_transformer(folder: str, dtype: torch.dtype) -> Any:
    """Load the model of a folder, ready to run: only from safetensors, without code of the folder, without a network.

    Raises:
        UsageError: weights are missing, their shapes differ from config.json, or transformers cannot load them.
    """
    return load_weights(folder, dtype)[0]


def load_weights(folder: str, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """(model as of ``load_transformer``, names of unused weights that belong to the model's own layers).

    Raises:
        UsageError: weights are missing, their shapes differ from config.json, or transformers cannot load them.
    """
    check_model(Path(folder))  # on executors too: transformers loads an adapter if peft is installed
    config, inner = load_config(folder), transformer_folder(Path(folder))
    kind = getattr(transformers, _ENCODERS[config.model_type]) if config.model_type in _ENCODERS else AutoModel
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True, "dtype": dtype}
    try:
        model, loading = kind.from_pretrained(inner, config=config, **options, **_SAFE)
    except MemoryError:
        raise
    except Exception as error:
        raise UsageError(
            f"model folder {inner}: transformers cannot load {_architecture(config)} ({_reason(error)})"
        ) from error
    if missing := sorted(name for name in loading["missing_keys"] if "pooler" not in name.split(".")):
        raise UsageError(
            f"model folder {inner}: {len(missing)} weights of {type(model).__name__} are missing: {_some(missing)}"
            f"{_unexpected(loading['unexpected_keys'])}; save the model with save_pretrained of transformers"
        )
    if loading["mismatched_keys"]:
        name, stored, expected = min(loading["mismatched_keys"])
        raise UsageError(
            f"model folder {inner}: {len(loading['mismatched_keys'])} weights differ in shape from config.json, "
            f"such as {name}: {tuple(stored)}, not {tuple(expected)}"
        )
    return model.eval(), _unused(model, loading["unexpected_keys"])


def load_tokenizer(folder: str) -> Any:
    """Load the tokenizer of a folder and give it a padding token if it has none.

    Raises:
        UsageError: there is no tokenizer, it has no vocabulary, or transformers has no fast version of it.
    """
    inner = transformer_folder(Path(folder))
    remedy = "a tokenizer.json is needed: save the tokenizer as a fast one, or take a model that has one"
    try:
        tokenizer = AutoTokenizer.from_pretrained(inner, **_SAFE)
    except Exception as error:
        raise UsageError(
            f"model folder {inner}: transformers cannot load its tokenizer ({_reason(error)}); {remedy}"
        ) from error
    if not tokenizer.is_fast:
        raise UsageError(f"model folder {inner}: {type(tokenizer).__name__} has no fast version; {remedy}")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(f"model folder {inner}: its tokenizer has no vocabulary; {remedy}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _unused(model: Any, names: Iterable[str]) -> list[str]:
    """Names of unexpected weights that belong to the model's own layers, not to a head for another task."""
    layers, prefix = {name for name, _ in model.named_children()}, f"{model.base_model_prefix}."
    return sorted(name for name in names if name.removeprefix(prefix).partition(".")[0] in layers)


def _architecture(config: Any) -> str:
    return str((config.architectures or [type(config).__name__])[0])


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_NAMES_SHOWN]) + (" …" if len(names) > _NAMES_SHOWN else "")


def _unexpected(names: Iterable[str]) -> str:
    return f"; found instead {_some(names)}" if names else ""
