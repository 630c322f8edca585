"""Configuration keys of user profiles."""

from pydantic import Field

from recsys_spark.events.options import HistoryOptions
from recsys_spark.publish.options import IncrementalOptions
from recsys_spark.runtime.config import JobConfig


class FeedbackOptions(JobConfig):
    """What was listed and passed over."""

    ignored_weight: float = Field(
        0.0,
        le=0,
        description="cosine: what an item counts that was listed to a user who came and did not touch it, such as "
        "-0.1; 0: nothing, and what was listed is not kept",
    )
    ignored_days: int = Field(
        7, ge=1, description="days from the list's on in which a user may come and touch its items"
    )
    ignored_lists: int = Field(5, ge=1, description="of the lists that are so old, the last ones count, so many")


class ProfileOptions(HistoryOptions, FeedbackOptions, IncrementalOptions):
    """Events to profiles."""

    user_text_weight: float = Field(0.5, ge=0, description="what the user's own text counts, in events of weight 1")
    segment_weight: float = Field(
        0.0, ge=0, description="what all users of the user's locale count together, in events of weight 1"
    )
