"""Configuration keys of the stream."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from recsys_spark.privacy.options import UserKeyOptions


def _trigger(value: object) -> object:
    """``available_now``, or a number of seconds such as 5s.

    Raises:
        ValueError: neither.
    """
    text = str(value).strip()
    if text == "available_now" or (text.endswith("s") and text[:-1].isdecimal() and int(text[:-1])):
        return text
    raise ValueError("give available_now, or seconds such as 5s")


class StreamOptions(UserKeyOptions):
    """Stream.

    Event weights, decay and list rules are those of the last night.
    """

    dataset: str = Field(
        description="name of a file in conf/datasets, or path of your own dataset file (.toml); with [stream]"
    )
    data: str = Field(description="folder or URI that holds the raw sources")
    trigger: Annotated[str, BeforeValidator(_trigger)] = Field(
        "available_now",
        description="available_now: process what has arrived, then end; a number of seconds, such as 5s: start a batch "
        "at most this often, until SIGTERM",
    )
    checkpoint: str | None = Field(
        None, description="folder of the stream's position, for this stream only; default: LAKE/_checkpoints/events"
    )
    max_files: int = Field(100, ge=1, description="files: largest number of new files of a batch")
    max_messages: int = Field(100_000, ge=1, description="kafka: largest number of messages of a batch")
    max_bad_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="largest share of bad rows among the last 1,000; above it, and with at least 20 bad ones, the "
        "stream stops before it commits",
    )
