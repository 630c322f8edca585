"""The keys of a job as text: ``JOB --help`` and ``conf/JOB.toml``, made from the model that also validates."""

import json
from typing import Any

from pydantic.fields import FieldInfo

from recsys_spark.runtime.config import ENVIRONMENT_PREFIX, JobConfig


def sections(config_class: type[JobConfig]) -> dict[str, dict[str, FieldInfo]]:
    """Keys by section: the required ones, then those of each group of options, rarely used groups last.

    A group is the class that declares a key; the first line of its docstring is the title.
    """
    left = dict(config_class.model_fields)
    found = {"Required": {name: left.pop(name) for name in list(left) if left[name].is_required()}}
    groups = [one for one in config_class.__mro__ if issubclass(one, JobConfig)]
    for group in sorted(groups, key=lambda one: bool(vars(one).get("rarely_used")) or one is JobConfig):
        own = {name: left.pop(name) for name in vars(group).get("__annotations__", {}) if name in left}
        if own:
            title = (group.__doc__ or "").split("\n", 1)[0].rstrip(".")
            found[title] = found.get(title, {}) | own
    return {title: keys for title, keys in found.items() if keys}


def help_text(config_class: type[JobConfig], job: str, description: str) -> str:
    """The text of ``JOB --help``."""
    lines = [f"./spark-submit.sh {job} [--key=value …] [-- SPARK-SUBMIT OPTIONS]", "", description.strip()]
    for title, keys in sections(config_class).items():
        lines += ["", f"{title}:"]
        for name, field in keys.items():
            default = "required" if field.is_required() else f"default: {_shown(field.get_default())}"
            lines.append(f"  --{name}=…\n      {field.description or name} ({default})")
    lines += ["", f"Any job:\n  --config=…\n      a TOML file instead of conf/{job}.toml", ""]
    lines.append(f"Precedence: default < TOML file < environment ({ENVIRONMENT_PREFIX}<KEY>) < --key=value.")
    return "\n".join(lines)


def toml_text(config_class: type[JobConfig], description: str) -> str:
    """The text of ``conf/JOB.toml``: every key with its default; keys without one are comments."""
    lines = [f"# {line}".rstrip() for line in description.strip().splitlines()]
    lines.append(f"# The defaults. {ENVIRONMENT_PREFIX}<KEY> in the environment and --key=value override them.")
    for title, keys in sections(config_class).items():
        lines += ["", f"# --- {title} ---"]
        for name, field in keys.items():
            if name == "dry_run":  # a switch of one run
                continue
            description = field.description or name
            lines += ["", f"# {description[0].upper()}{description[1:]}."]
            if field.is_required():
                lines.append(f"# {name} = (required)")
            elif field.get_default() is None:
                lines.append(f"# {name} = (none)")
            else:
                lines.append(f"{name} = {_as_toml(field.get_default())}")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False) if not isinstance(value, str) else value or "none"


def _as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_as_toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if value >= 10_000 else str(value)
    return json.dumps(value, default=str, ensure_ascii=False)
