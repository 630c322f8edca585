"""Configuration keys of injected attacks and risk scores."""

from typing import Literal

from pydantic import Field

from recsys_spark.events.options import EventOptions
from recsys_spark.publish.options import DriftOptions
from recsys_spark.runtime.options import RunDate

SHILLING = ("random", "average", "bandwagon", "segment", "love_hate")
"""Profiles that praise a pushed item, by the choice of their other items."""

ON_USERS = (*SHILLING, "click_farm", "takeover")

ON_ITEMS = ("title_stuffing", "duplicate_items", "prompt_text")

Attack = Literal[
    "random", "average", "bandwagon", "segment", "love_hate", "click_farm", "takeover",
    "title_stuffing", "duplicate_items", "prompt_text",
]  # fmt: skip


class AttackOptions(RunDate):
    """Injected attacks."""

    output_lake: str = Field(description="folder or URI of the lake that the copy with the attack is written to")
    attack: Attack = Field(
        description="random, average, bandwagon, segment, love_hate: shilling profiles; click_farm: accounts that open "
        "the same items in bursts; takeover: users whose profile turns; title_stuffing: popular words in titles; "
        "duplicate_items: copies of items; prompt_text: instructions in descriptions"
    )
    share: float = Field(
        0.03, ge=0.001, le=0.05, description="attackers as a share of the users; attacks on items: share of the items"
    )
    targets: int = Field(1, ge=1, le=100, description="number of pushed items; the attackers are divided among them")
    attack_days: float = Field(
        30.0,
        ge=0,
        description="days before the newest event in which the attackers are active; 0: at the times of the users that "
        "they imitate, for logs with times that mean nothing",
    )
    seed: int = Field(0, ge=0, description="seed of the attack")


class RiskOptions(EventOptions, DriftOptions):
    """Risk scores."""

    review_budget: int = Field(
        200, ge=1, le=100_000, description="number of users, and of items, that are marked for review, by score"
    )
    trust_from: float = Field(8.0, ge=0, description="score up to which users and items are fully trusted, in nats")
    trust_step: float = Field(
        2.0, gt=0, description="trust is a quarter above trust_from, and a quarter of it every N nats above, to 1/256"
    )
    risk_label: str | None = Field(
        None,
        description="group of users that is the label, such as 'fraud: yes'; users with another group of the same "
        "attribute are its counterpart, and scores come from a logistic regression; default: without labels",
    )
    review_cost: float = Field(1.0, ge=0, description="with risk_label: cost of a review, for the cost curve")
    miss_cost: float = Field(
        50.0, ge=0, description="with risk_label: cost of a user with the label who is not reviewed, for the cost curve"
    )
