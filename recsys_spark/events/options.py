"""Configuration keys of event weights and histories."""

from dataclasses import replace

from pydantic import Field

from recsys_spark.events.history import History
from recsys_spark.events.weights import EventWeights
from recsys_spark.runtime.config import Weights
from recsys_spark.runtime.options import RunDate

_HALF_LIFE_DAYS = 180.0


class EventOptions(RunDate):
    """What events count."""

    event_weights: Weights = Field(
        {"view": 1.0, "click": 1.0, "cart": 2.0, "purchase": 3.0, "rating": 1.0, "skip": -1.0, "cancel": -3.0},
        description="weight by event type; negative moves the profile away",
    )


class HistoryOptions(EventOptions):
    """What an event counts in a user's history."""

    rating_center: float = Field(3.0, description="a rating counts as its distance from this value")
    half_life_days: float | None = Field(
        None,
        ge=0,
        description="age in days at which an event counts half; 0: age does not count; default: 180, hybrid scorer 0",
    )
    half_life_steps: float | None = Field(
        None,
        gt=0,
        description="newer events of the user after which an event counts half, times the above; 1.9: 0.7 each; "
        "default: none, hybrid scorer 3 unless half_life_days is given",
    )
    max_events: int | None = Field(None, ge=1, description="only the last events of a user count, so many")
    session_gap_minutes: float | None = Field(
        None,
        gt=0,
        description="minutes without an event that end a session: in one, repeats of an event with an item count once",
    )
    sif: float | None = Field(
        None, gt=0, description="items count a / (a + their share of all events), with this a, about 0.001"
    )

    @property
    def weights(self) -> EventWeights:
        """The event weights."""
        days = _HALF_LIFE_DAYS if self.half_life_days is None else self.half_life_days
        return EventWeights(self.event_weights, self.rating_center, days)

    @property
    def history(self) -> History:
        """How a user's events bear on each other."""
        return History(self.half_life_steps, self.max_events, self.session_gap_minutes, self.sif)

    @property
    def undated_history(self) -> tuple[EventWeights, History]:
        """The same without age, where only the sign of what an event counts is asked for."""
        return replace(self.weights, half_life_days=0.0), replace(self.history, half_life_steps=None)
