"""Configuration keys of recommendation lists."""

from dataclasses import replace
from typing import Literal

from pydantic import Field

from recsys_spark.events.history import History
from recsys_spark.events.options import HistoryOptions
from recsys_spark.events.weights import EventWeights
from recsys_spark.explain.options import ReasonOptions
from recsys_spark.profiles.options import FeedbackOptions
from recsys_spark.publish.options import IncrementalOptions
from recsys_spark.topk.options import JoinOptions

_HYBRID_STEPS = 3.0
"""0.8 for every newer event: among the best on validation of all sets in QUALITY.md."""


class TopKOptions(HistoryOptions, JoinOptions, ReasonOptions, FeedbackOptions, IncrementalOptions):
    """Profiles, or histories, to lists."""

    scorer: Literal["cosine", "hybrid"] = Field(
        "cosine", description="cosine: profiles and item vectors; hybrid: histories and item_weights"
    )
    interests: int = Field(
        1, ge=1, description="cosine: most interests of a user, one for every ten items; a list takes the best of each"
    )
    quota: int | None = Field(None, ge=1, description="most items of one brand, or category, in a list")
    quota_on: Literal["brand", "category"] = Field("brand", description="what the quota counts; of a path its end")
    match_on: Literal["locale"] | None = Field(
        None, description="list only items whose value equals the user's; a missing one equals nothing"
    )
    approximate: bool = Field(
        False,
        description="meet only the nearest lists of items; scores stay exact, recall is measured in every run",
    )
    target_recall: float = Field(
        0.99, gt=0, le=1, description="approximate: share of the exact list to find; more lists are met until it is"
    )
    lists: int | None = Field(None, ge=1, description="approximate: lists of items; default: about 2·√items")
    nprobe: int | None = Field(None, ge=1, description="approximate: lists a user meets at first; default: 1 in 16")
    recall_users: int = Field(400, ge=1, description="approximate: users whose exact lists recall is measured by")
    grouping_seed: int = Field(0, ge=0, description="approximate: seed of the grouping")
    diversity: float = Field(
        0.0, ge=0, le=1, description="reorder: 0 by score, 1 by how much items differ (maximal marginal relevance)"
    )
    diversify_from: int = Field(100, ge=1, description="candidates by score that diversity chooses from")

    @property
    def hybrid_history(self) -> tuple[EventWeights, History]:
        """What an event counts for the hybrid scorer: by default the newer, the more, in steps and not in days."""
        weights, history = self.weights, self.history
        if self.half_life_days is None:
            weights = replace(weights, half_life_days=0.0)
            history = replace(history, half_life_steps=self.half_life_steps or _HYBRID_STEPS)
        return weights, history
