"""Configuration keys of ingest."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import Field

from recsys_spark.errors import RecsysError
from recsys_spark.privacy.options import UserKeyOptions
from recsys_spark.runtime.options import RunDate
from recsys_spark.sources.dataset_file import load_dataset


class IngestOptions(UserKeyOptions, RunDate):
    """The dataset, and the limits above which nothing is published."""

    @classmethod
    def preset_of(cls, values: Mapping[str, Any]) -> Any:
        """The preset of the configuration, otherwise that of the dataset file."""
        named, dataset = super().preset_of(values), values.get("dataset")
        if named is not None or "preset" not in cls.model_fields or not isinstance(dataset, str):
            return named
        with suppress(RecsysError):  # ingest says what is wrong with the file
            return load_dataset(dataset).preset
        return None

    dataset: str = Field(description="name of a file in conf/datasets, or path of your own dataset file (.toml)")
    data: str = Field(description="folder or URI that holds the raw sources")
    max_bad_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="maximum share of bad rows in a table, and among rows added to the log since the last run; above "
        "it nothing is published",
    )
    max_lost_share: float = Field(
        0.5, ge=0, le=1, description="maximum share of prices that are not numbers; above it nothing is published"
    )
    max_unknown_share: float = Field(
        0.99, ge=0, le=1, description="maximum share of events about unknown items; above it nothing is published"
    )
    max_text_chars: int = Field(
        20_000, ge=1, description="maximum length of a text in characters; longer texts are truncated"
    )
