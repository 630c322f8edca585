"""Configuration keys of a nightly refresh: from the last run to the next, and when to refuse what it made."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class DriftOptions(JobConfig):
    """How far a new version may be from the last one."""

    accept_drift: bool = Field(False, description="publish although the bounds below are broken; the commit says so")
    drift_from_rows: int = Field(1000, ge=0, description="bounds hold for tables that had so many rows")
    max_row_change: float = Field(0.5, ge=0, description="share by which a table may shrink or grow")
    max_norm_change: float = Field(0.5, ge=0, description="share by which the mean length of vectors may change")
    max_cosine_change: float = Field(0.2, ge=0, description="change of the mean cosine of all pairs of vectors")
    max_coverage_drop: float = Field(0.5, ge=0, description="drop of the share of the catalogue that lists show")
    max_changed_lists: float = Field(1.0, ge=0, description="share of the lists that may change; 1: all")

    @property
    def drift_bounds(self) -> dict[str, float]:
        """The bounds by name."""
        return self.model_dump(include={name for name in DriftOptions.model_fields if name.startswith("max_")})


class IncrementalOptions(DriftOptions):
    """From the last run to the next."""

    full: bool = Field(False, description="make profiles and lists of all users anew, whatever has changed")


class RefitOptions(DriftOptions):
    """When what was fitted once is fitted anew."""

    refit_share: float = Field(
        0.2,
        ge=0,
        description="growth since the last fit from which it is made anew: whitening, of embedded items; price "
        "quantiles, of prices; hybrid weights, of items or events",
    )
