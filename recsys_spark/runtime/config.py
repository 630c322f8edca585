"""Job configuration: default < TOML < environment < ``--key=value``, and every fault reported at once."""

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from recsys_spark.errors import UsageError

ENVIRONMENT_PREFIX = "RECSYS_"


def _parse_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise ValueError(f'not JSON ({error.msg}); write it like {{"purchase": 3, "cancel": -3}}') from error


Weights = Annotated[dict[str, float], NoDecode, BeforeValidator(_parse_json)]
"""A table of numbers: TOML inline table, or JSON on the command line and in the environment."""


class JobConfig(BaseSettings):
    """What every job understands. Subclasses add keys; a job's Config is frozen once made."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, protected_namespaces=(), allow_inf_nan=False
    )

    lake: str = Field(description="folder or URI of the lake: one Delta table per name below it")
    dry_run: bool = Field(False, description="check everything, estimate the work, write nothing")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load`` hands in: it merges the sources itself, to name the source of each fault."""
        return (init_settings,)


ConfigT = TypeVar("ConfigT", bound=JobConfig)


def load(config_class: type[ConfigT], job: str, argv: Sequence[str], toml: Path | None) -> ConfigT:
    """Merge the sources and validate them.

    Raises:
        UsageError: naming every unknown key (with the nearest valid one), wrong type and missing value at once.
    """
    options, faults = _parse_arguments(argv)
    path = options.pop("config", None)
    if path is True:
        faults.append("--config wants a file: --config=FILE")
    elif path:
        toml = shipped(Path(path))
    layers = [
        (f"{toml}", _read_toml(toml, faults) if toml else {}),
        ("environment", _environment(config_class)),
        ("command line", options),
    ]
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, layer in layers:
        values |= layer
        origin |= dict.fromkeys(layer, name)
    bare = {key for key, value in options.items() if value is True and not _is_switch(config_class, key)}
    try:
        config = config_class(**values)
    except ValidationError as error:
        found = [fault for fault in error.errors() if not fault["loc"] or fault["loc"][0] not in bare]
        faults += [_describe(fault, config_class, origin) for fault in found]
    faults += [f"{key} (command line): wants a value, --{key}=…" for key in sorted(bare)]
    if faults:
        shown = "\n".join(f"  - {fault}" for fault in faults)
        raise UsageError(
            f"{job}: {len(faults)} fault(s) in the configuration\n{shown}\nSee: ./spark-submit.sh {job} --help"
        )
    return config


def shipped(path: Path) -> Path:
    """A file that the caller named, or on a driver within the cluster the copy in its working folder, where
    spark-submit puts what it ships."""
    copy = Path(path.name)
    return copy if not path.is_file() and copy.is_file() else path


def help_text(config_class: type[JobConfig], job: str, description: str) -> str:
    """The text of ``JOB --help``, made from the model that also validates."""
    lines = [f"./spark-submit.sh {job} [--key=value …] [-- SPARK-SUBMIT OPTIONS]", "", description.strip(), "", "Keys:"]
    for name, field in config_class.model_fields.items():
        default = (
            "required" if field.is_required() else f"default: {_show(field.get_default(call_default_factory=True))}"
        )
        lines.append(f"  --{name}=…\n      {field.description or name} ({default})")
    lines += ["  --config=…\n      a TOML file instead of conf/" + f"{job}.toml", ""]
    lines.append(f"Precedence: default < TOML file < environment ({ENVIRONMENT_PREFIX}<KEY>) < --key=value.")
    return "\n".join(lines)


def _is_switch(config_class: type[JobConfig], key: str) -> bool:
    """Whether a key may stand alone: it is a boolean, or unknown, which is told as such."""
    return key not in config_class.model_fields or config_class.model_fields[key].annotation is bool


def _parse_arguments(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    options: dict[str, Any] = {}
    faults = []
    for argument in argv:
        key, separator, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or not key:
            faults.append(f"'{argument}' is not of the form --key=value")
        elif key in options:
            faults.append(f"--{key} is given twice")
        else:
            options[key] = value if separator else True
    return options, faults


def _read_toml(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"configuration file {path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"configuration file {path} is not TOML: {error}")
    return {}


def _environment(config_class: type[JobConfig]) -> dict[str, Any]:
    """Known keys only: a stray RECSYS_ variable of another job is no fault."""
    source = EnvSettingsSource(config_class, env_ignore_empty=True)
    return {key: value for key, value in source().items() if key in config_class.model_fields}


def _describe(fault: Any, config_class: type[JobConfig], origin: dict[str, str]) -> str:
    key = str(fault["loc"][0]) if fault["loc"] else "configuration"
    where = f" ({origin[key]})" if key in origin else ""
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, list(config_class.model_fields), n=1, cutoff=0.5)
        return f"unknown key '{key}'{where}" + (f"; did you mean '{near[0]}'?" if near else "")
    if fault["type"] == "missing":
        description = config_class.model_fields[key].description
        return f"--{key} is missing: {description}"
    path = ".".join(str(part) for part in fault["loc"]) or key
    return f"{path}{where}: {fault['msg'].removeprefix('Value error, ')}; found {fault['input']!r}"


def _show(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False) if not isinstance(value, str) else value or "none"
