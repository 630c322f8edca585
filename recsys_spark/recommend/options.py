"""Configuration keys of recommendation lists."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from recsys_spark.events.history import History
from recsys_spark.events.options import TrustOptions
from recsys_spark.events.weights import EventWeights
from recsys_spark.explain.options import ReasonOptions
from recsys_spark.fairness.options import FairnessOptions
from recsys_spark.profiles.options import FeedbackOptions
from recsys_spark.publish.options import IncrementalOptions
from recsys_spark.ranking.options import AutoOptions
from recsys_spark.rules.options import RuleBaseOptions
from recsys_spark.runtime.config import JobConfig, formerly
from recsys_spark.runtime.presets import sets
from recsys_spark.topk.options import JoinOptions

_HYBRID_STEPS = 3.0
"""Decay 0.8 per newer event: among the best on validation for all data sets in QUALITY.md."""

_HISTORY_KEYS = (
    "event_weights", "rating_center", "half_life_days", "half_life_steps", "max_events", "session_gap_minutes",
    "session_limit", "sif",
)  # fmt: skip

_RANKER_KEYS = ("min_rating", "repeats", "popular_items", "history_items", "window_days", "ranker_users", "ranker_seed")

_WEIGHT_KEYS = (
    "hybrid_candidates", "hybrid_vector_weight", "hybrid_word_weight", "hybrid_whitening", "hybrid_ridge",
    "hybrid_max_events", "hybrid_nprobe", "refit_share",
)  # fmt: skip


class ScorerOptions(JobConfig):
    """Scorer."""

    scorer: Literal["auto", "cosine", "hybrid", "sequential"] = Field(
        "auto",
        description="auto: candidates by recent popularity, by history and among earlier items, ranked by a model that "
        "learns from the last days; cosine: profiles with item vectors; hybrid: histories with item_weights; "
        "sequential: the last events in their order, by sequence_model",
    )
    sequence_model: str | None = Field(
        None, description="sequential: folder of a model by fine_tune_encoder --objective=sequence"
    )
    interests: int = Field(
        1,
        ge=1,
        description="cosine: maximum number of interest vectors per user, one for every ten items of the history; an "
        "item gets the best of its scores",
    )


class ListRuleOptions(JobConfig):
    """Rules of a list."""

    quota: int | None = Field(
        None, ge=1, description="maximum number of items of one brand, or category (quota_on), in a list"
    )
    quota_on: Literal["brand", "category"] = Field(
        "brand", description="column that the quota counts by; for category, the last name of the path"
    )
    match_on: Literal["locale"] | None = Field(
        None,
        description="list only items whose value in this column equals the user's; a missing value matches nothing",
    )


class FreshnessOptions(JobConfig):
    """Freshness."""

    freshness: float = Field(
        0.0,
        ge=0,
        description="added to the score of an item on the day from which it is available (available_from); it halves "
        "every freshness_days; auto scores by log-odds, cosine by at most 1; 0: age does not count",
    )
    freshness_days: float = Field(7.0, gt=0, description="freshness: its half-life in days")


class DiversityOptions(JobConfig):
    """Diversity."""

    diversity: float = Field(
        0.0, ge=0, le=1, description="maximal marginal relevance: 0 orders by score only, 1 by dissimilarity only"
    )
    diversify_from: int = Field(100, ge=1, description="diversity: number of best candidates to choose from")


class ApproximateOptions(JobConfig):
    """Approximate search."""

    rarely_used = True

    approximate: bool = Field(
        False,
        description="approximate search (IVF): score only the nearest item clusters; scores of listed items are exact, "
        "recall is measured in every run",
    )
    target_recall: float = Field(
        0.99, gt=0, le=1, description="approximate: minimum recall; more clusters are probed until it is reached"
    )
    clusters: int | None = Field(
        None,
        ge=1,
        description="approximate: number of item clusters (nlist); default: about 2·√items",
        json_schema_extra=formerly("lists"),
    )
    nprobe: int | None = Field(
        None, ge=1, description="approximate: number of clusters probed for each user at first; default: 1 in 16"
    )
    recall_users: int = Field(400, ge=1, description="approximate: size of the user sample that measures the recall")
    grouping_seed: int = Field(0, ge=0, description="approximate: seed of the clustering")


class ExploreOptions(JobConfig):
    """Exploration.

    It belongs to the lists that are shown, not to the table ``recommendations``.
    """

    rarely_used = True

    explore: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability that a shown position below explore_head is drawn from the candidates; what is shown, "
        "and how probable it was, goes to the table 'exposures'; 0: no exploration",
    )
    explore_slots: int = Field(
        10, ge=1, description="explore: number of positions that are shown; the other items of the k are candidates"
    )
    explore_head: int = Field(1, ge=0, description="explore: number of first positions that never change")
    explore_seed: int = Field(0, ge=0, description="explore: seed of the draws")


class TopKOptions(
    ScorerOptions,
    JoinOptions,
    ListRuleOptions,
    RuleBaseOptions,
    FreshnessOptions,
    DiversityOptions,
    FairnessOptions,
    ReasonOptions,
    AutoOptions,
    TrustOptions,
    FeedbackOptions,
    ApproximateOptions,
    ExploreOptions,
    IncrementalOptions,
):
    """Lists from profiles or histories, as in a refresh."""

    @property
    def hybrid_history(self) -> tuple[EventWeights, History]:
        """Event weights and history of scores by item weights.

        By default those of the hybrid scorer decay by newer events, not by days. Those of ranked lists decay by days:
        people buy many items at once, and of newer events one basket would outweigh all others.
        """
        weights, history = self.weights, self.history
        if self.half_life_days is None and self.scorer == "hybrid":
            weights = replace(weights, half_life_days=0.0)
            history = replace(history, half_life_steps=self.half_life_steps or _HYBRID_STEPS)
        return weights, history


class RecommendOptions(TopKOptions):
    """Lists from the tables of earlier jobs."""

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> "RecommendOptions":
        """Refuse keys that would change nothing.

        Raises:
            ValueError: keys without an effect; it names each with its remedy.
        """
        if idle := [f"{name} {reason}" for name, reason in self._idle_keys() if self._is_changed(name)]:
            raise ValueError("keys without an effect: " + "; ".join(idle))
        return self

    def _is_changed(self, name: str) -> bool:
        value = getattr(self, name)
        return bool(value != type(self).model_fields[name].default) and not sets(self.preset, name, value)

    def _idle_keys(self) -> Iterator[tuple[str, str]]:
        if self.scorer == "cosine":
            for name in _HISTORY_KEYS:
                yield (
                    name,
                    "belongs to build_profiles, whose profiles the cosine scorer reads: set it there, or use hybrid",
                )
        if self.scorer == "sequential":
            for name in _HISTORY_KEYS[1:]:
                yield name, "has no effect on the sequential scorer, which learns how events count: leave it out"
        else:
            yield "sequence_model", "needs scorer=sequential"
        if self.scorer != "auto":
            for name in _RANKER_KEYS[bool(self.calibration) :]:  # calibration reads min_rating too
                yield name, "needs scorer=auto"
            for name in _WEIGHT_KEYS:
                yield name, "belongs to fit_item_weights: set it there"
            yield "trust_weights", "belongs to build_profiles and fit_item_weights: set it there"
        if not self.approximate:
            for name in ("target_recall", "clusters", "nprobe", "recall_users", "grouping_seed"):
                yield name, "needs approximate=true"
        if not self.explore:
            for name in ("explore_slots", "explore_head", "explore_seed"):
                yield name, "needs explore above 0"
        if not self.diversity:
            yield "diversify_from", "needs diversity above 0"
        if not self.quota:
            yield "quota_on", "needs a quota"
        if not self.freshness:
            yield "freshness_days", "needs freshness above 0"
        yield from self.idle_fairness_keys()
