"""Generate ``JOB --help`` and ``conf/JOB.toml`` from the model that validates the configuration."""

import inspect
import json
from typing import Any

from pydantic.fields import FieldInfo

from recsys_spark.runtime.config import ENVIRONMENT_PREFIX, Configuration
from recsys_spark.runtime.places import command


def sections(config_class: type[Configuration]) -> dict[str, dict[str, FieldInfo]]:
    """Keys by section: required keys first, then those of each group of options, rarely used groups last.

    A group is the class that declares a key. The first line of its docstring is the title.
    """
    fields = dict(config_class.model_fields)
    by_title = {"Required": {name: fields.pop(name) for name in list(fields) if fields[name].is_required()}}
    groups = [group for group in config_class.__mro__ if issubclass(group, Configuration)]
    for group in sorted(groups, key=lambda group: bool(vars(group).get("rarely_used")) or group is Configuration):
        keys = {name: fields.pop(name) for name in inspect.get_annotations(group) if name in fields}
        if keys:
            title = (group.__doc__ or "").split("\n", 1)[0].rstrip(".")
            by_title[title] = by_title.get(title, {}) | keys
    return {title: keys for title, keys in by_title.items() if keys}


def help_text(config_class: type[Configuration], job: str, description: str) -> str:
    """The text of ``JOB --help``."""
    lines = [f"{command()} {job} [--key=value …] [-- SPARK-SUBMIT OPTIONS]", "", description.strip()]
    for title, keys in sections(config_class).items():
        lines += ["", f"{title}:"]
        for name, field in keys.items():
            lines.append(f"  --{name}=…\n      {field.description or name}{_default_of(field)}")
    lines += ["", f"Any job:\n  --config=…\n      a TOML file instead of conf/{job}.toml", ""]
    lines.append(f"Precedence: default < TOML file < environment ({ENVIRONMENT_PREFIX}<KEY>) < --key=value.")
    return "\n".join(lines)


def toml_text(config_class: type[Configuration], description: str) -> str:
    """The text of ``conf/JOB.toml``: every key with its default. Keys without a default are comments."""
    lines = [f"# {line}".rstrip() for line in description.strip().splitlines()]
    lines.append(f"# The defaults. {ENVIRONMENT_PREFIX}<KEY> in the environment and --key=value override them.")
    for title, keys in sections(config_class).items():
        lines += ["", f"# --- {title} ---"]
        for name, field in keys.items():
            if name == "dry_run":  # belongs on the command line of one run
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


def _default_of(field: FieldInfo) -> str:
    """The default in brackets. A key without one says in its description what that means."""
    if field.is_required():
        return " (required)"
    return "" if field.get_default() is None else f" (default: {_as_text(field.get_default())})"


def _as_text(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False) if not isinstance(value, str) else value or "none"


def _as_toml(value: Any) -> str:
    if isinstance(value, dict):
        if not value:
            return "{}"
        return "{ " + ", ".join(f"{name} = {_as_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if value >= 10_000 else str(value)
    return json.dumps(value, default=str, ensure_ascii=False)
