"""Configuration keys of forgetting users and withdrawing items."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


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
