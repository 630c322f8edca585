"""Configuration keys of online evaluation."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from recsys_spark.events.options import RelevanceOptions
from recsys_spark.privacy.options import UserKeyOptions
from recsys_spark.runtime.config import JobConfig

_LAKE_KEYS = ("window_days", "event_weights", "min_rating")

_FILE_KEYS = ("max_bad_share",)

_KEYS = {
    "off_policy": {*_LAKE_KEYS, *_FILE_KEYS, "level", "impressions", "rewards", "other_lake", "max_weight", "folds"}
    | {"replicates", "seed"},
    "interleave": {*_LAKE_KEYS, *_FILE_KEYS, "level", "impressions"},
    "mix": {"other_lake", "salt", "slots"},
    "ab": {*_LAKE_KEYS, *_FILE_KEYS, "level", "outcomes", "before_days", "salt", "treatment_share", "planned_users"}
    | {"ratio_p_value"},
    "power": {*_LAKE_KEYS, *_FILE_KEYS, "level", "outcomes", "before_days", "treatment_share", "power", "users"}
    | {"effect"},
}
"""The keys that have an effect, by mode."""


class ModeOptions(RelevanceOptions):
    """Online evaluation."""

    mode: Literal["off_policy", "mix", "interleave", "ab", "power"] = Field(
        description="off_policy: what other lists would have earned, from lists shown with --explore; mix: interleave "
        "the lists of two lakes; interleave: which of the two earned more; ab: two arms of users; power: the smallest "
        "effect that a test can find, before it starts"
    )
    window_days: float = Field(
        7.0,
        gt=0,
        description="days from run_date on in which an event counts (0.5: 12 hours); power: days before run_date",
    )
    level: float = Field(0.95, gt=0, lt=1, description="confidence level of the intervals")


class LogFileOptions(UserKeyOptions):
    """Logs in files, CSV with a header, JSON lines or Parquet, instead of the lake's tables."""

    impressions: str | None = Field(
        None,
        description="off_policy: file with user_id, propensity, target_propensity, reward, and optionally item_id and "
        "rank; interleave: file with user_id, team (a or b), reward",
    )
    rewards: str | None = Field(
        None, description="off_policy: file with user_id, item_id, reward, for impressions without a column reward"
    )
    outcomes: str | None = Field(
        None,
        description="ab: file with user_id, arm (control or treatment), metric, and optionally before, the same metric "
        "before the test; power: the same without arm",
    )
    max_bad_share: float = Field(
        0.01, ge=0, le=1, description="maximum share of bad rows in a file; above it nothing is evaluated"
    )


class OffPolicyOptions(JobConfig):
    """Off-policy estimates."""

    other_lake: str | None = Field(
        None,
        description="off_policy: lake whose lists are the target policy; default: the lists of this lake without "
        "exploration; mix: lake of team b",
    )
    max_weight: float | None = Field(
        None, gt=0, description="clip weights target / propensity to this value; default: no clipping"
    )
    replicates: int = Field(1000, ge=2, description="bootstrap replicates of the users")
    folds: int = Field(5, ge=2, description="folds of users, whose rewards are predicted from the other folds (dr)")
    seed: int = Field(0, ge=0, description="random seed of the bootstrap")


class ArmOptions(JobConfig):
    """Interleaved lists, tests of two arms."""

    salt: str = Field("", description="mix, ab: name of the test, from which users get their coins or their arm")
    slots: int = Field(10, ge=1, description="mix: length of the interleaved lists")
    treatment_share: float = Field(0.5, gt=0, lt=1, description="ab, power: share of the users in the treatment")
    before_days: float = Field(
        28.0, gt=0, description="ab, power: days before the window that the same metric is taken from, for CUPED"
    )
    planned_users: int = Field(
        10_000, ge=2, description="ab: number of users at which the always-valid interval is narrowest"
    )
    ratio_p_value: float = Field(
        0.001, ge=0, lt=1, description="ab: refuse arms whose sizes have a smaller p-value; 0: accept any sizes"
    )
    power: float = Field(0.8, gt=0, lt=1, description="power: probability with which the test is to find the effect")
    users: int | None = Field(None, ge=4, description="power: number of users of the test; default: all")
    effect: float | None = Field(
        None, gt=0, description="power: effect to find, as a share of the mean (0.02: 2 %); prints the users needed"
    )


class OnlineOptions(ModeOptions, LogFileOptions, OffPolicyOptions, ArmOptions):
    """Evaluation of what was shown."""

    @property
    def file(self) -> str | None:
        """The file that replaces the lake's tables; None to read the lake."""
        return self.impressions or self.outcomes

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> "OnlineOptions":
        """Refuse keys that would change nothing.

        Raises:
            ValueError: keys without an effect; it names each with its remedy.
        """
        changed = [name for name, reason in self._idle_keys() if self._is_changed(name)]
        if changed:
            reasons = dict(self._idle_keys())
            raise ValueError("keys without an effect: " + "; ".join(f"{name} {reasons[name]}" for name in changed))
        if self.mode in ("mix", "ab") and not self.salt and not self.outcomes:
            raise ValueError(f"mode={self.mode} needs a salt: name the test, so that no other test has the same coins")
        if self.mode == "mix" and not self.other_lake:
            raise ValueError("mode=mix needs other_lake, the lake with the lists of team b")
        return self

    def _is_changed(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    def _idle_keys(self) -> Iterator[tuple[str, str]]:
        for name in sorted(set.union(*_KEYS.values()) - _KEYS[self.mode]):
            modes = " or ".join(mode for mode, keys in _KEYS.items() if name in keys)
            yield name, f"has no effect with mode={self.mode}: it belongs to mode={modes}"
        if self.file:
            key = "impressions" if self.impressions else "outcomes"
            for name in (*_LAKE_KEYS, "other_lake", "before_days", "salt"):
                yield name, f"has no effect with a file: {key} states what was shown and earned"
        elif "impressions" in _KEYS[self.mode] or "outcomes" in _KEYS[self.mode]:
            for name in _FILE_KEYS:
                yield name, "needs a file: the rows of the lake are validated already"
        if not self.impressions:
            yield "rewards", "needs impressions"
