"""Configuration keys of segments."""

from pydantic import Field

from recsys_spark.events.options import RelevanceOptions
from recsys_spark.publish.options import DriftOptions


class SegmentOptions(RelevanceOptions, DriftOptions):
    """Segments."""

    segments: int | None = Field(
        None,
        ge=2,
        description="number of segments; default: the greatest up to max_segments whose refits agree, and that of the "
        "last run while they do",
    )
    max_segments: int = Field(8, ge=2, description="greatest number of segments to try")
    stability: float = Field(
        0.8,
        ge=0,
        le=1,
        description="least mean adjusted Rand index between the segments and their refits on bootstrap samples",
    )
    refits: int = Field(10, ge=2, description="number of bootstrap refits")
    min_segment_users: int = Field(
        20,
        ge=1,
        description="k-anonymity: least users of a segment, and of an item or category that it is named after; smaller "
        "segments join the nearest one",
    )
    segment_sample: int = Field(
        4096, ge=2, description="users, drawn by a hash, whose profiles are fitted on the driver"
    )
    segment_seed: int = Field(0, ge=0, description="seed of the fits")
