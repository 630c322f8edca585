"""Transformers and tokenizers from a model folder: as the folder says, or refused by name. Imports torch.

transformers only warns of weights that it does not find and fills them with random numbers.
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
"""Encoder-decoders, by type, and the class of the encoder alone."""

_NAMED = 3  # of the weights that are missing

transformers_logging.disable_progress_bar()

transformers_logging.set_verbosity_error()  # what it would report is checked here


def load_config(folder: str) -> Any:
    """The configuration of the transformer.

    Raises:
        UsageError: transformers does not know the architecture, or it is an encoder-decoder that is not supported.
    """
    inner = transformer_folder(Path(folder))
    try:
        config = AutoConfig.from_pretrained(inner, **_SAFE)
    except Exception as error:
        raise UsageError(f"model folder {inner}: transformers cannot read config.json ({_reason(error)})") from error
    if config.is_encoder_decoder and config.model_type not in _ENCODERS:
        raise UsageError(
            f"model folder {inner}: {_architecture(config)} is an encoder-decoder of type {config.model_type}, which "
            f"is not supported; of these {', '.join(_ENCODERS)} are"
        )
    return config


def load_transformer(folder: str, dtype: torch.dtype) -> Any:
    """The model of a folder, ready to run: from safetensors, without code of its own, without a network.

    Raises:
        UsageError: weights are missing or of another size than config.json says, or transformers cannot load them.
    """
    return load_weights(folder, dtype)[0]


def load_weights(folder: str, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """The model as of ``load_transformer``, and the names of weights that belong to its layers and are not used.

    Raises:
        UsageError: weights are missing or of another size than config.json says, or transformers cannot load them.
    """
    check_model(Path(folder))  # also on executors: an adapter would be loaded where peft is installed
    config, inner = load_config(folder), transformer_folder(Path(folder))
    kind = getattr(transformers, _ENCODERS[config.model_type]) if config.model_type in _ENCODERS else AutoModel
    options = {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True, "dtype": dtype}
    try:
        model, found = kind.from_pretrained(inner, config=config, **options, **_SAFE)
    except MemoryError:
        raise
    except Exception as error:
        raise UsageError(
            f"model folder {inner}: transformers cannot load {_architecture(config)} ({_reason(error)})"
        ) from error
    if missing := sorted(name for name in found["missing_keys"] if "pooler" not in name.split(".")):
        raise UsageError(
            f"model folder {inner}: {len(missing)} weights of {type(model).__name__} are missing: {_some(missing)}"
            f"{_instead(found['unexpected_keys'])}; save the model with save_pretrained of transformers"
        )
    if found["mismatched_keys"]:
        name, there, wanted = min(found["mismatched_keys"])
        raise UsageError(
            f"model folder {inner}: {len(found['mismatched_keys'])} weights are not of the size that config.json "
            f"says, such as {name}: {tuple(there)}, not {tuple(wanted)}"
        )
    return model.eval(), _unused(model, found["unexpected_keys"])


def load_tokenizer(folder: str) -> Any:
    """The tokenizer of a folder, with a token to pad with.

    Raises:
        UsageError: there is none, or it exists in Python only and is not one of the fast ones.
    """
    inner = transformer_folder(Path(folder))
    remedy = "a tokenizer.json is needed: save the tokenizer as a fast one, or take a model that has it"
    try:
        tokenizer = AutoTokenizer.from_pretrained(inner, **_SAFE)
    except Exception as error:
        raise UsageError(
            f"model folder {inner}: transformers cannot load its tokenizer ({_reason(error)}); {remedy}"
        ) from error
    if not tokenizer.is_fast:
        raise UsageError(f"model folder {inner}: {type(tokenizer).__name__} exists in Python only; {remedy}")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UsageError(f"model folder {inner}: its tokenizer has no vocabulary; {remedy}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _unused(model: Any, names: Iterable[str]) -> list[str]:
    """Those of weights that were not expected that are of the model itself, not of a head for another task."""
    layers, prefix = {name for name, _ in model.named_children()}, f"{model.base_model_prefix}."
    return sorted(name for name in names if name.removeprefix(prefix).partition(".")[0] in layers)


def _architecture(config: Any) -> str:
    return str((config.architectures or [type(config).__name__])[0])


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")


def _instead(names: Iterable[str]) -> str:
    return f"; found instead {_some(names)}" if names else ""
