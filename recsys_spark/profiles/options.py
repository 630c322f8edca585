"""Configuration keys of user profiles."""

from pydantic import Field

from recsys_spark.events.options import HistoryOptions, TrustOptions
from recsys_spark.publish.options import IncrementalOptions
from recsys_spark.runtime.config import JobConfig


class FeedbackOptions(JobConfig):
    """Negative feedback from ignored impressions."""

    ignored_weight: float = Field(
        0.0,
        le=0,
        description="cosine: weight of implicit negative feedback (shown to an active user, no interaction), such as "
        "-0.1; 0 turns it off and stores no impressions",
    )
    ignored_days: int = Field(
        7,
        ge=1,
        description="attribution window: days after a list was shown in which an event still counts as a reaction",
    )
    ignored_lists: int = Field(
        5, ge=1, description="number of most recent snapshots (older than the window) that give negative feedback"
    )


class ProfileOptions(HistoryOptions, TrustOptions, FeedbackOptions, IncrementalOptions):
    """User profiles."""

    user_text_weight: float = Field(
        0.5, ge=0, description="weight of the user's own text in the profile; N counts as much as N events of weight 1"
    )
    segment_weight: float = Field(
        0.0,
        ge=0,
        description="weight of the mean direction of all users of the same locale; N counts as much as N events of "
        "weight 1",
    )
