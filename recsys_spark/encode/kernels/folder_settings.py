"""Text settings of a model folder: pooling, maximum length, prompts, lower case. Read without torch."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

from recsys_spark.encode.kernels.modules import pooling_folder, read_json, transformer_folder
from recsys_spark.errors import UsageError

POOLINGS = ("mean", "cls", "last_token", "weighted_mean", "max", "mean_sqrt_len")

_MODES = {
    "cls": ("pooling_mode_cls_token", "cls"),
    "max": ("pooling_mode_max_tokens", "max"),
    "mean": ("pooling_mode_mean_tokens", "mean"),
    "mean_sqrt_len": ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    "weighted_mean": ("pooling_mode_weightedmean_tokens", "weightedmean"),
    "last_token": ("pooling_mode_lasttoken", "lasttoken"),
}
"""Our name: (flag in older files, name in newer files), in the order in which several poolings are concatenated."""

_POOLING_KEYS = ("word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt")

_LENGTH = 512

_SENTENCE_FILES = [
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]

_NO_POSITIONS = {
    "t5", "mt5", "umt5", "longt5", "switch_transformers", "xlnet", "bloom", "mpt", "modernbert", "llama", "mistral",
    "gpt_neox", "gptj", "falcon",
}  # fmt: skip
"""Model types without a table of positions, which read texts of any length: they use distances or rotations."""

_OFFSET_POSITIONS = {
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "mpnet", "longformer",
    "data2vec-text", "ibert", "lilt", "luke", "mluke", "markuplm", "layoutlmv3", "ernie_m",
}  # fmt: skip
"""Model types whose first position is the one after the padding token id, as in RoBERTa."""

_ROTARY_KEYS = ("rope_theta", "rope_parameters", "rope_scaling", "rotary_emb_base", "rotary_emb_fraction")

_ITEM_PROMPTS, _USER_PROMPTS = ("document", "passage", "corpus"), ("query",)


def read_pooling(root: Path) -> tuple[str | None, bool]:
    """(pooling, whether prompt tokens are pooled). Several poolings are joined by ``+`` in their order; the pooling is
    None if the folder does not set it.

    Raises:
        UsageError: a pooling is not supported, or modules.json lists none.
    """
    folder = pooling_folder(root)
    if folder is None:
        raise UsageError(f"model folder {root}: modules.json lists no Pooling; set --pooling")
    path = folder / "config.json"
    config = read_json(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for flag, name in _MODES.values() if config.get(flag)]
        supported = {flag for flag, _ in _MODES.values()} | set(_POOLING_KEYS)
        modes += [key for key in config if key not in supported and key.startswith("pooling_mode") and config[key]]
    names = {theirs: ours for ours, (_, theirs) in _MODES.items()} | {ours: ours for ours in _MODES}
    listed = [str(mode).lower() for mode in (modes if isinstance(modes, list) else [modes])]
    if unknown := [mode for mode in listed if mode not in names]:
        raise UsageError(f"model file {path} sets pooling '{unknown[0]}', which is not supported; set --pooling")
    return "+".join(names[mode] for mode in listed) or None, config.get("include_prompt", True) is not False


def pooling_settings(pooling: str, include_prompt: bool) -> dict[str, Any]:
    """Content of a Pooling's config.json from which ``read_pooling`` reads these values, in the older form where it
    suffices."""
    parts = pooling.split("+")
    flags: dict[str, Any] = {flag: name in parts for name, (flag, _) in _MODES.items()}
    if len(parts) > 1:
        flags["pooling_mode"] = [_MODES[part][1] for part in parts]
    return flags | ({} if include_prompt else {"include_prompt": False})


def sentence_settings(root: Path) -> dict[str, Any]:
    """Settings of the Transformer module: sentence_bert_config.json, or an older name of it.

    Raises:
        UsageError: the output is not token vectors, or the settings change the configuration of the model.
    """
    inner = transformer_folder(root)
    path = next((inner / name for name in _SENTENCE_FILES if (inner / name).is_file()), inner / _SENTENCE_FILES[0])
    settings: dict[str, Any] = read_json(path)
    supported = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    for name, value in supported.items():
        if settings.get(name, value) != value:
            raise UsageError(f"model file {path}: {name} '{settings[name]}' is not supported, only {value}")
    for name in ("config_args", "config_kwargs"):
        if settings.get(name):
            raise UsageError(f"model file {path}: {name} changes the model, which is not supported; use config.json")
    return settings


def max_length_of(root: Path, override: int | None = None) -> int:
    """Maximum length of a text in tokens: ``override``, or the folder's max_seq_length, or at most 512.

    The last is also limited by model_max_length of the tokenizer and by the model's positions. A max_seq_length above
    the model's positions is reduced to them, with a warning.

    Raises:
        UsageError: ``override`` exceeds the model's positions, or a setting is not a number of tokens.
    """
    inner = transformer_folder(root)
    config, limit = read_json(inner / "config.json"), positions_of(root)
    if override:
        if limit and override > limit:
            raise UsageError(f"max_length {override} is more than the {limit} positions of model folder {root}")
        return override
    setting = _number(inner / _SENTENCE_FILES[0], sentence_settings(root), "max_seq_length")
    if setting:
        if limit and setting > limit:
            _warn_once(
                f"model folder {root} sets max_seq_length {setting}, but its model has {limit} positions: texts are "
                f"truncated at {limit} tokens"
            )
        return min(setting, limit or setting)
    path = inner / "tokenizer_config.json"
    longest = _number(path, read_json(path), "model_max_length") or _LENGTH
    return min(_LENGTH, longest, _positions(inner, config) or _LENGTH, limit or _LENGTH)


def positions_of(root: Path) -> int | None:
    """Number of tokens in the model's table of positions; None if it has no such table."""
    config = read_json(transformer_folder(root) / "config.json")
    kind = str(config.get("model_type"))
    if kind in _NO_POSITIONS or any(config.get(key) is not None for key in _ROTARY_KEYS):
        return None
    if kind.startswith("deberta") and not config.get("position_biased_input", True):
        return None
    positions = _positions(transformer_folder(root), config)
    if not positions:
        return None
    return positions - (int(config.get("pad_token_id", 1) or 0) + 1 if kind in _OFFSET_POSITIONS else 0)


def _positions(inner: Path, config: dict[str, Any]) -> int | None:
    names = ("max_position_embeddings", "n_positions")  # the latter: GPT-2
    return next((number for name in names if (number := _number(inner / "config.json", config, name))), None)


def _number(path: Path, settings: dict[str, Any], name: str) -> int | None:
    """The number of tokens in a setting; None if it is missing or 0.

    Raises:
        UsageError: the setting is negative, infinite or not a number.
    """
    value = settings.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UsageError(f"model file {path}: {name} is {value!r}, not a number of tokens")
    return int(value) or None


def read_prompts(root: Path) -> tuple[str, str]:
    """(prompt of items, prompt of users): the folder's prompts for documents and queries, or its default prompt.

    Raises:
        UsageError: prompts are not an object, or the name of the default prompt is not among them.
    """
    path = root / "config_sentence_transformers.json"
    settings = read_json(path)
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict):
        raise UsageError(
            f"model file {path}: prompts are not an object of names and texts; set --prompt, --user_prompt"
        )
    if name is not None and name not in prompts:
        raise UsageError(f"model file {path}: default_prompt_name '{name}' is not among its prompts; set --prompt")
    default = str(prompts.get(name) or "")
    items, users = (
        next((str(prompts[role]) for role in roles if prompts.get(role)), default)
        for roles in (_ITEM_PROMPTS, _USER_PROMPTS)
    )
    return items, users


@cache
def _warn_once(message: str) -> None:
    logging.getLogger("recsys_spark").warning("warning: %s", message)
