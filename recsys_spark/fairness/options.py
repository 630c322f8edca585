"""Configuration keys of fair lists."""

from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, model_validator

from recsys_spark.runtime.config import JobConfig, Weights

_DECIMALS = 10_000

CHANGED_BY = ("exposure_floor", "exposure_evenness", "calibration")
"""The keys that re-rank lists; without one of them the others have no effect."""


class FairnessOptions(JobConfig):
    """Fairness."""

    exposure_floor: Weights = Field(
        {},
        description='least share of exposure by group of items, as {"tail": 0.3}; an item at rank r of a list has the '
        "exposure 1/log2(1 + r). Lists are re-ranked from the rerank_from best candidates; scores do not change",
    )
    exposure_on: Literal["brand", "category", "popularity", "novelty"] = Field(
        "popularity",
        description="exposure_floor: column of items whose values are the groups (category: the last name of the "
        "path); popularity: head, the most popular items that have half of all events, and tail; novelty: cold, items "
        "without an event before run_date, and warm",
    )
    exposure_by: Literal["all", "list", "test"] = Field(
        "all",
        description="exposure_floor: all: over all lists together, by one price for each group; list: in every list; "
        "test: every list passes the binomial test of FA*IR, whose share of protected items is the floor",
    )
    exposure_significance: float = Field(
        0.1, gt=0, lt=1, description="exposure_by=test: probability that the test rejects a fair list"
    )
    exposure_head: int = Field(
        0, ge=0, description="exposure: number of first positions that stay as the scorer has them"
    )
    exposure_evenness: float = Field(
        0.0,
        ge=0,
        description="spread exposure over more items: an item with the mean exposure costs .69 of this share of the "
        "best candidate's gain, a more exposed one costs more; typical 0.05 to 0.2",
    )
    calibration: float = Field(
        0.0,
        ge=0,
        le=1,
        description="calibrate the categories of a list to those of the user's history: 0 orders by score only, 1 by "
        "the divergence of the two only",
    )
    rerank_from: int = Field(100, ge=1, description="fairness: number of best candidates that lists are chosen from")
    fairness_users: int = Field(
        4096, ge=1, description="fairness: users, drawn by a hash, whose candidates set the prices on the driver"
    )

    @model_validator(mode="after")
    def _floors_fit(self) -> "FairnessOptions":
        """Refuse floors that no lists could meet, and keys that contradict each other.

        Raises:
            ValueError: it names the key and the remedy.
        """
        if wrong := {name: share for name, share in self.exposure_floor.items() if not 0 < share <= 1}:
            raise ValueError(f"exposure_floor: a share is above 0 and at most 1, found {wrong}")
        if sum(self.floors.values()) > 1:
            raise ValueError(f"exposure_floor: the shares {self.exposure_floor} sum to more than 1: lower them")
        if self.exposure_by == "test":
            if len(self.exposure_floor) != 1:
                raise ValueError("exposure_by=test has one group of protected items: name one in exposure_floor")
            if self.exposure_head or self.exposure_evenness:
                raise ValueError(
                    "exposure_by=test tests every prefix: leave exposure_head and exposure_evenness out, or set "
                    "exposure_by=all"
                )
        if self.calibration and (self.exposure_floor or self.exposure_evenness):
            raise ValueError(
                "calibration cannot be combined with exposure_floor or exposure_evenness: each sets the order of a "
                "list; choose one"
            )
        return self

    @property
    def floors(self) -> dict[str, Fraction]:
        """The floors as fractions, by group; exact to four decimals."""
        return {name: Fraction(str(share)).limit_denominator(_DECIMALS) for name, share in self.exposure_floor.items()}

    @property
    def reranks(self) -> bool:
        """Whether lists are re-ranked."""
        return any(getattr(self, name) for name in CHANGED_BY)

    @property
    def fairness_settings(self) -> dict[str, Any]:
        """The keys that lists depend on; empty if they are not re-ranked."""
        names = {*FairnessOptions.model_fields} - {*JobConfig.model_fields}
        return self.model_dump(mode="json", include=names) if self.reranks else {}

    def idle_fairness_keys(self) -> list[tuple[str, str]]:
        """Keys without an effect beside the others, each with its remedy."""
        idle = []
        if not self.exposure_floor:
            idle += [(name, "needs an exposure_floor") for name in ("exposure_on", "exposure_by")]
        if self.exposure_by != "test":
            idle += [("exposure_significance", "needs exposure_by=test")]
        if not (self.exposure_floor or self.exposure_evenness):
            idle += [("exposure_head", "needs an exposure_floor or exposure_evenness")]
        if not self.reranks:
            idle += [("rerank_from", "needs exposure_floor, exposure_evenness or calibration")]
        if not (self.exposure_evenness or (self.exposure_floor and self.exposure_by == "all")):
            idle += [("fairness_users", "needs exposure_evenness, or exposure_floor with exposure_by=all")]
        return idle
