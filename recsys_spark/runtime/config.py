"""Job configuration: default < TOML < environment < ``--key=value``. All faults are reported at once."""

import difflib
import json
import logging
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from recsys_spark.errors import RecsysError, UsageError
from recsys_spark.runtime.alerts import checked_alerts
from recsys_spark.runtime.places import command, shipped
from recsys_spark.runtime.presets import preset_values

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


Alerts = Annotated[dict[str, str], NoDecode, BeforeValidator(checked_alerts)]
"""Bounds by figure of the report: TOML inline table, or JSON on the command line and in the environment."""

PartT = TypeVar("PartT", bound="Configuration")


class Configuration(BaseSettings):
    """Every job.

    Subclasses add keys: one class for each section of ``JOB --help``, titled by its docstring. A loaded configuration
    is frozen.
    """

    rarely_used: ClassVar[bool] = False
    """Show this section last in ``--help`` and the TOML file."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, protected_namespaces=(), allow_inf_nan=False
    )

    dry_run: bool = Field(False, description="check everything, estimate the work, write nothing")
    metrics_file: str | None = Field(
        None, description="local file for the figures of the run in Prometheus' text format; default: none"
    )
    alerts: Alerts = Field(
        {},
        description='bounds of figures of the report, as {"seconds": "<= 3600", "tables.events": ">= 1"}; a figure '
        "outside is an alert: a warning, in the report and the metrics",
    )

    def part(self, options: type[PartT]) -> PartT:
        """The part of the configuration that a step of a larger job needs."""
        return options(**{name: value for name, value in self if name in options.model_fields})

    @classmethod
    def preset_of(cls, values: Mapping[str, Any]) -> Any:
        """The name of the preset among the values of a configuration; None without one."""
        return values.get("preset") if "preset" in cls.model_fields else None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values that ``load`` passes: it merges the sources itself, to name the source of each fault."""
        return (init_settings,)


class JobConfig(Configuration):
    """Every job that reads or writes a lake."""

    lake: str = Field(description="folder or URI of the lake; each table is a Delta table in a subfolder of its name")


ConfigT = TypeVar("ConfigT", bound=Configuration)


def formerly(name: str) -> dict[str, Any]:
    """The key's name in the last release, for ``Field(json_schema_extra=…)``. It still works, with a warning."""
    return {"formerly": name}


def load(config_class: type[ConfigT], job: str, argv: Sequence[str], toml: Path | None) -> ConfigT:
    """Merge the sources and validate them.

    Raises:
        UsageError: it names all unknown keys (with the nearest valid one), wrong values and missing values.
    """
    options, faults = _parse_arguments(argv)
    path = options.pop("config", None)
    if path is True:
        faults.append("--config needs a file: --config=FILE")
    elif path:
        toml = shipped(Path(path))
    layers = {
        f"{toml}": _read_toml(toml, faults) if toml else {},
        "environment": _environment(config_class),
        "command line": options,
    }
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, layer in layers.items():
        _rename_old_keys(config_class, layer, name, faults)
        values |= layer
        origin |= dict.fromkeys(layer, name)
    _add_preset(config_class, values, origin, f"{toml}", faults)
    bare = {key for key, value in options.items() if value is True and not _is_switch(config_class, key)}
    try:
        config = config_class(**values)
    except ValidationError as error:
        invalid = [fault for fault in error.errors() if not fault["loc"] or fault["loc"][0] not in bare]
        faults += [_describe(fault, config_class, origin) for fault in invalid]
    faults += [f"{key} (command line): needs a value, --{key}=…" for key in sorted(bare)]
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise UsageError(f"{job}: {len(faults)} fault(s) in the configuration\n{lines}\nSee: {command()} {job} --help")
    return config


def _add_preset(
    config_class: type[Configuration],
    values: dict[str, Any],
    origin: dict[str, str],
    file: str,
    faults: list[str],
) -> None:
    """Add the keys of the preset that no source sets. A value of the TOML file that is the default counts as not set:
    the shipped files list all defaults."""
    name = config_class.preset_of(values)
    if not isinstance(name, str):
        return
    try:
        preset = preset_values(name)
    except RecsysError as error:
        faults.append(str(error))
        return
    for key, value in preset.items():
        field = config_class.model_fields.get(key)
        if field is not None and (key not in values or (origin[key] == file and values[key] == field.default)):
            values[key], origin[key] = value, f"preset {name}"
    values.setdefault("preset", name)


def _is_switch(config_class: type[Configuration], key: str) -> bool:
    """Whether a key needs no value: a boolean, or an unknown key, which is reported as such."""
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


def _environment(config_class: type[Configuration]) -> dict[str, Any]:
    """Read the keys of this job; RECSYS_ variables of other jobs are ignored."""
    source = EnvSettingsSource(config_class, env_ignore_empty=True)
    values = {key: value for key, value in source().items() if key in config_class.model_fields}
    old = {name: os.environ.get(f"{ENVIRONMENT_PREFIX}{name.upper()}") for name in _old_keys(config_class)}
    return values | {name: value for name, value in old.items() if value}


def _old_keys(config_class: type[Configuration]) -> dict[str, str]:
    """New names of keys by their old ones."""
    extras = {name: field.json_schema_extra for name, field in config_class.model_fields.items()}
    return {str(e["formerly"]): name for name, e in extras.items() if isinstance(e, dict) and "formerly" in e}


def _rename_old_keys(config_class: type[Configuration], layer: dict[str, Any], source: str, faults: list[str]) -> None:
    for old, new in _old_keys(config_class).items():
        if old not in layer:
            continue
        if new in layer:
            faults.append(f"'{old}' and '{new}' ({source}) are the same key: remove '{old}', its old name")
        else:
            logging.getLogger(__name__).warning(
                "warning: the key '%s' (%s) is now '%s'; its old name works for one more release", old, source, new
            )
            layer[new] = layer[old]
        del layer[old]


def _describe(fault: Any, config_class: type[Configuration], origin: dict[str, str]) -> str:
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
