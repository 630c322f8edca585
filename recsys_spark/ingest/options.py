"""Configuration keys of ingesting raw sources."""

from pydantic import Field

from recsys_spark.runtime.options import RunDate


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
