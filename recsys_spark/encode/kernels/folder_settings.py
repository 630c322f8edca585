"""Settings that a model folder keeps for its texts: pooling, longest text, prompts, lower case. Read without torch."""

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
"""Name here: (flag of older files, name in newer ones). In the order in which several are concatenated."""

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
"""Model types that read texts of any length: distances, or rotations that are computed, instead of a table."""

_OFFSET_POSITIONS = {
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "xmod", "mpnet", "longformer",
    "data2vec-text", "ibert", "lilt", "luke", "mluke", "markuplm", "layoutlmv3", "ernie_m",
}  # fmt: skip
"""Model types that count positions from after the padding token on, as RoBERTa does."""

_ROTARY_KEYS = ("rope_theta", "rope_parameters", "rope_scaling", "rotary_emb_base", "rotary_emb_fraction")

_ITEM_PROMPTS, _USER_PROMPTS = ("document", "passage", "corpus"), ("query",)


def read_pooling(root: Path) -> tuple[str | None, bool]:
    """(how token vectors become one, whether the tokens of the prompt count). Several poolings are joined by ``+``, in
    their order. None where the folder says nothing.

    Raises:
        UsageError: a pooling is not known.
    """
    folder = pooling_folder(root)
    if folder is None:
        raise UsageError(f"model folder {root}: modules.json lists no Pooling; set --pooling")
    path = folder / "config.json"
    found = read_json(path)
    modes = found.get("pooling_mode")
    if modes is None:
        modes = [name for flag, name in _MODES.values() if found.get(flag)]
        known = {flag for flag, _ in _MODES.values()} | set(_POOLING_KEYS)
        modes += [name for name in found if name not in known and name.startswith("pooling_mode") and found[name]]
    names = {theirs: own for own, (_, theirs) in _MODES.items()} | {own: own for own in _MODES}
    listed = [str(mode).lower() for mode in (modes if isinstance(modes, list) else [modes])]
    if unknown := [mode for mode in listed if mode not in names]:
        raise UsageError(f"model file {path} asks for pooling '{unknown[0]}', which is not supported; set --pooling")
    return "+".join(names[mode] for mode in listed) or None, found.get("include_prompt", True) is not False


def pooling_settings(pooling: str, include_prompt: bool) -> dict[str, Any]:
    """What the file of a Pooling says for ``read_pooling`` to read these values, in its older and its newer form."""
    parts = pooling.split("+")
    flags: dict[str, Any] = {flag: name in parts for name, (flag, _) in _MODES.items()}
    if len(parts) > 1:
        flags["pooling_mode"] = [_MODES[part][1] for part in parts]
    return flags | ({} if include_prompt else {"include_prompt": False})


def sentence_settings(root: Path) -> dict[str, Any]:
    """The settings of the Transformer module: sentence_bert_config.json, or an older name of it.

    Raises:
        UsageError: it asks for another output than vectors of tokens, or changes the configuration of the model.
    """
    inner = transformer_folder(root)
    path = next((inner / name for name in _SENTENCE_FILES if (inner / name).is_file()), inner / _SENTENCE_FILES[0])
    found: dict[str, Any] = read_json(path)
    usual = {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}
    for name, value in usual.items():
        if found.get(name, value) != value:
            raise UsageError(f"model file {path}: {name} '{found[name]}' is not supported, {value} is")
    for name in ("config_args", "config_kwargs"):
        if found.get(name):
            raise UsageError(f"model file {path}: {name} changes the model, which is not supported; use config.json")
    return found


def max_length_of(root: Path, asked: int | None = None) -> int:
    """Longest text in tokens: ``asked``, else what the folder says, else the model's positions and 512 at most.

    A folder that says more than the model has positions for is cut there, with a warning.

    Raises:
        UsageError: ``asked`` is more than the model has positions for.
    """
    inner = transformer_folder(root)
    config, limit = read_json(inner / "config.json"), positions_of(root)
    if asked:
        if limit and asked > limit:
            raise UsageError(f"max_length {asked} is more than the {limit} positions of model folder {root}")
        return asked
    told = _number(inner / _SENTENCE_FILES[0], sentence_settings(root), "max_seq_length")
    if told:
        if limit and told > limit:
            _warn_once(
                f"model folder {root} asks for {told} tokens, its model has {limit} positions: texts are cut there"
            )
        return min(told, limit or told)
    path = inner / "tokenizer_config.json"
    longest = _number(path, read_json(path), "model_max_length") or _LENGTH
    return min(_LENGTH, longest, _positions(inner, config) or _LENGTH, limit or _LENGTH)


def positions_of(root: Path) -> int | None:
    """Tokens that a model has positions for; None where positions are no table that ends."""
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


def _number(path: Path, found: dict[str, Any], name: str) -> int | None:
    """A number of tokens; None where there is none, or 0.

    Raises:
        UsageError: it is negative or no number.
    """
    value = found.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UsageError(f"model file {path}: {name} is {value!r}, not a number of tokens")
    return int(value) or None


def read_prompts(root: Path) -> tuple[str, str]:
    """(prompt of items, prompt of users): those that are named for documents and queries, else the default prompt.

    Raises:
        UsageError: prompts are no object, or the default prompt has a name that no prompt has.
    """
    path = root / "config_sentence_transformers.json"
    found = read_json(path)
    prompts, name = found.get("prompts") or {}, found.get("default_prompt_name")
    if not isinstance(prompts, dict):
        raise UsageError(
            f"model file {path}: prompts are not an object of names and texts; set --prompt, --user_prompt"
        )
    if name is not None and name not in prompts:
        raise UsageError(f"model file {path}: default_prompt_name '{name}' is not among its prompts; set --prompt")
    usual = str(prompts.get(name) or "")
    items, users = (
        next((str(prompts[role]) for role in roles if prompts.get(role)), usual)
        for roles in (_ITEM_PROMPTS, _USER_PROMPTS)
    )
    return items, users


@cache
def _warn_once(message: str) -> None:
    logging.getLogger("recsys_spark").warning("warning: %s", message)
