"""Configuration keys of event weights and histories."""

from dataclasses import replace

from pydantic import Field, model_validator

from recsys_spark.events.history import History
from recsys_spark.events.weights import EventWeights
from recsys_spark.runtime.config import JobConfig, Weights
from recsys_spark.runtime.options import RunDate

_HALF_LIFE_DAYS = 180.0


class PresetOptions(RunDate):
    """Preset."""

    preset: str | None = Field(
        None,
        description="defaults of a domain, below all keys that are set: news, video, music, social, games, shop or "
        "courses (conf/presets), or a path of your own (.toml); a dataset file may name one",
    )


class EventOptions(PresetOptions):
    """Weights by event type."""

    event_weights: Weights = Field(
        {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 3.0, "rating": 1.0, "skip": -1.0, "cancel": -3.0},
        description="weight by event type; a negative one moves the profile away from the item",
    )


class RelevanceOptions(EventOptions):
    """Relevant events."""

    min_rating: float = Field(4.0, description="minimum rating with which a later event makes its item relevant")


class TrustOptions(JobConfig):
    """Trust in events."""

    trust_weights: bool = Field(
        False,
        description="events count by the trust in their user (profiles, item weights, popularity), and texts of items "
        "in the fit of item weights by that in the item, from score_risk; refresh_lake then scores the risk first",
    )


class HistoryOptions(EventOptions):
    """Weights of the events in a user's history."""

    rating_center: float = Field(
        3.0, description="neutral rating: the weight of a rating is multiplied by value - rating_center"
    )
    half_life_days: float | None = Field(
        None,
        ge=0,
        description="half-life in days: weight halves for every N days before the user's newest event; 0: age does not "
        "count; default: 180, scorer hybrid 0",
    )
    half_life_steps: float | None = Field(
        None,
        gt=0,
        description="half-life in events: weight halves after N newer events of the user (1.9 = decay 0.7 per event); "
        "multiplies with half_life_days; default: none, scorer hybrid 3 unless half_life_days is given",
    )
    max_events: int | None = Field(None, ge=1, description="use the N most recent events of each user; default: all")
    session_gap_minutes: float | None = Field(
        None,
        gt=0,
        description="inactivity gap that ends a session (minutes); repeats of (item, type) within a session count once",
    )
    session_limit: float | None = Field(
        None,
        ge=1,
        description="robust pooling, with session_gap_minutes: a session counts as at most N times the number of "
        "events of the user's median session, so that a burst moves a profile little; typical 2",
    )
    sif: float | None = Field(
        None,
        gt=0,
        description="smooth inverse frequency: weight items by a / (a + p), p = share of all events; typical a = 0.001",
    )

    @model_validator(mode="after")
    def _limit_needs_sessions(self) -> "HistoryOptions":
        """Refuse a limit of sessions where nothing says what a session is."""
        if self.session_limit is not None and self.session_gap_minutes is None:
            raise ValueError("session_limit needs session_gap_minutes, such as 30")
        return self

    @property
    def weights(self) -> EventWeights:
        """The event weights."""
        days = _HALF_LIFE_DAYS if self.half_life_days is None else self.half_life_days
        return EventWeights(self.event_weights, self.rating_center, days)

    @property
    def history(self) -> History:
        """The rules of a history."""
        return History(self.half_life_steps, self.max_events, self.session_gap_minutes, self.sif, self.session_limit)

    @property
    def undated_history(self) -> tuple[EventWeights, History]:
        """Weights and history without decay, for steps that use only the sign of a weight."""
        return replace(self.weights, half_life_days=0.0), replace(self.history, half_life_steps=None)
