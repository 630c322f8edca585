"""Presets: defaults of a domain (``conf/presets/*.toml``), below every key that is set."""

import difflib
import tomllib
from functools import cache
from typing import Any

from recsys_spark.errors import RecsysError, UsageError
from recsys_spark.runtime.places import configuration_file

KEYS = frozenset({
    "event_weights", "rating_center", "half_life_days", "half_life_steps", "max_events", "session_gap_minutes",
    "session_limit", "sif", "min_rating", "repeats", "window_days", "popular_items", "history_items", "freshness",
    "freshness_days", "quota", "quota_on", "diversity", "diversify_from", "k", "metrics_k", "whitening",
    "ignored_weight", "ignored_days", "ignored_lists",
})  # fmt: skip
"""What a preset may set: what a domain is about, and nothing about where and how much is computed."""


@cache
def preset_values(name: str) -> dict[str, Any]:
    """The keys of ``conf/presets/<name>.toml``, or of the file itself when ``name`` ends in .toml.

    Raises:
        UsageError: unknown name (the nearest is suggested), broken TOML, or keys that no preset may set.
        InputError: the file does not exist.
    """
    path = configuration_file("preset", name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"preset {path} is not TOML: {error}") from error
    if unknown := [key for key in values if key not in KEYS]:
        near = [match for key in unknown for match in difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)]
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"preset {path} sets {', '.join(unknown)}, which a preset cannot set{hint}")
    return values


def sets(name: str | None, key: str, value: Any) -> bool:
    """Whether a preset gives a key this value; a preset that cannot be read gives none."""
    try:
        return name is not None and preset_values(name).get(key) == value
    except RecsysError:
        return False
