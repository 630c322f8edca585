"""Configuration keys of forgetting users and withdrawing items."""

from typing import Literal

from pydantic import Field, model_validator

from recsys_spark.runtime.config import JobConfig
from recsys_spark.runtime.options import RunDate


class UserKeyOptions(JobConfig):
    """Pseudonyms."""

    user_key: str | None = Field(
        None,
        description="name of the environment variable or of the file that holds the secret key of "
        "pseudonyms, never the "
        "key itself; user ids are replaced by their HMAC-SHA-256. Default: user ids stay as they are",
    )


class ForgetOptions(UserKeyOptions):
    """The users and items to remove."""

    user_ids: str | None = Field(
        None, description="users to forget, separated by commas; ids that contain a comma: use users_file"
    )
    users_file: str | None = Field(
        None, description="file of users to forget: one id per line, or a JSON list of ids if it ends in .json"
    )
    item_ids: str | None = Field(
        None, description="items to withdraw for good, separated by commas; ids that contain a comma: use items_file"
    )
    items_file: str | None = Field(
        None, description="file of items to withdraw: one id per line, or a JSON list of ids if it ends in .json"
    )


class ReleaseOptions(RunDate):
    """Release under differential privacy.

    Neighbouring data sets differ in the data of one user, or in one user.
    """

    what: Literal["profiles", "means", "counts"] = Field(
        "profiles",
        description="profiles: the vector of every user, each with noise; means: the mean profile of "
        "each of --groups and "
        "its number of users; counts: the number of users of every item",
    )
    epsilon: float = Field(gt=0, le=1000, description="privacy loss that this release may spend, at delta")
    delta: float = Field(
        1e-6, gt=0, le=1e-3, description="probability of a greater loss; fixed by the first release of a lake"
    )
    budget: float = Field(
        4.0,
        gt=0,
        description="epsilon that all releases of the lake may spend together; the first release fixes it, later ones "
        "may name a smaller one",
    )
    clip: float = Field(1.0, gt=0, description="profiles, means: norm to which longer profiles are shortened")
    dimensions: int | None = Field(
        None,
        ge=1,
        description="profiles, means: number of principal axes of the item vectors on which profiles are released; "
        "fewer keep more of a profile at the same epsilon. Default: all dimensions",
    )
    groups: str | None = Field(
        None, description="means: groups of users, separated by semicolons, such as 'gender: woman;gender: man'"
    )
    groups_per_user: int = Field(1, ge=1, description="means: groups in which a user counts, at most")
    items_per_user: int = Field(20, ge=1, description="counts: items for which a user counts, at most")

    @property
    def group_names(self) -> list[str]:
        """The distinct groups of ``groups``, in order of name."""
        return sorted({name.strip() for name in (self.groups or "").split(";")} - {""})

    @model_validator(mode="after")
    def _groups_are_named(self) -> "ReleaseOptions":
        """Means need groups.

        Raises:
            ValueError: there are none, or they would have no effect.
        """
        if (self.what == "means") != bool(self.group_names):
            if self.what == "means":
                raise ValueError("what=means needs groups: their names are public, so that the data do not choose them")
            raise ValueError(f"groups has no effect with what={self.what}: it belongs to what=means")
        return self
