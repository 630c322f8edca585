"""Configuration keys of forgetting users and withdrawing items."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class ForgetOptions(JobConfig):
    """Who must go."""

    user_ids: str | None = Field(None, description="users to forget, by comma; ids with commas: users_file")
    users_file: str | None = Field(
        None, description="file with a user to forget on every line, or .json: a list of ids"
    )
    item_ids: str | None = Field(None, description="items to withdraw for good, by comma; ids with commas: items_file")
    items_file: str | None = Field(
        None, description="file with an item to withdraw on every line, or .json: a list of ids"
    )
