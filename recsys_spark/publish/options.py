"""Configuration keys of drift bounds, incremental runs and refits."""

from pydantic import Field

from recsys_spark.runtime.config import JobConfig


class DriftOptions(JobConfig):
    """Drift from the last version."""

    rarely_used = True

    accept_drift: bool = Field(False, description="publish even if drift exceeds a bound; the commit records it")
    drift_from_rows: int = Field(
        1000, ge=0, description="check drift only for tables with at least this many rows in the last version"
    )
    max_row_change: float = Field(
        0.5, ge=0, description="largest change of the number of rows, as a share of the last version"
    )
    max_norm_change: float = Field(
        0.5, ge=0, description="largest change of the mean norm of vectors, as a share of the last version"
    )
    max_cosine_change: float = Field(
        0.2, ge=0, description="largest change of the mean cosine of all pairs of vectors (absolute)"
    )
    max_coverage_drop: float = Field(
        0.5, ge=0, description="largest drop of the coverage, the share of the catalogue in lists (absolute)"
    )

    max_changed_lists: float = Field(1.0, ge=0, description="largest share of lists that change; 1: no bound")

    @property
    def drift_bounds(self) -> dict[str, float]:
        """The bounds by name."""
        return self.model_dump(include={name for name in DriftOptions.model_fields if name.startswith("max_")})


class IncrementalOptions(DriftOptions):
    """Incremental runs."""

    full: bool = Field(
        False, description="recompute the profiles and lists of all users, also of those without a change"
    )


class RefitOptions(DriftOptions):
    """Refits."""

    rarely_used = True

    refit_share: float = Field(
        0.2,
        ge=0,
        description="fit again after growth by this share since the last fit: whitening by embedded items, price "
        "quantiles by prices, hybrid weights by items or events (also when they shrink)",
    )
