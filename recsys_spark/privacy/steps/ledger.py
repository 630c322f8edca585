"""The ledger of private releases: what each spent, and what all have spent together."""

from dataclasses import dataclass, replace

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.lake.lake import Staged
from recsys_spark.privacy.kernels.gaussian import composed_epsilon, concentrated_loss
from recsys_spark.privacy.options import ReleaseOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import PRIVACY_LEDGER

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Release:
    """A release: the run ``key`` that names it, what is published, and scale and L2 sensitivity of its noise."""

    key: str
    what: str
    scale: float
    sensitivity: float


@dataclass(frozen=True)
class Ledger:
    """The entries before a release. ``base``: their version."""

    run: Run
    options: ReleaseOptions
    releases: list[tuple[float, float]]
    entries: int
    base: int | None

    @classmethod
    def open(cls, run: Run, options: ReleaseOptions) -> "Ledger":
        """Read the entries.

        Raises:
            UsageError: ``delta`` is not that of the ledger, or ``budget`` is greater than that of its first entry.
        """
        last = run.lake.last_commit(PRIVACY_LEDGER)
        rows = [] if last is None else run.lake.read(run.spark, PRIVACY_LEDGER, last.version).orderBy("entry").collect()
        if rows and rows[0]["delta"] != options.delta:
            raise UsageError(
                f"the ledger of lake {run.lake.uri} counts with delta={rows[0]['delta']:g}, not "
                f"{options.delta:g}: pass "
                f"--delta={rows[0]['delta']:g}"
            )
        if rows and options.budget > rows[0]["budget"]:
            raise UsageError(
                f"the budget of lake {run.lake.uri} is epsilon={rows[0]['budget']:g}, fixed by its first release; "
                f"--budget={options.budget:g} would raise it: what was promised to the users of earlier releases stays"
            )
        releases = [(row["scale"], row["sensitivity"]) for row in rows]
        return cls(run, options, releases, len(rows), None if last is None else last.version)

    @property
    def spent(self) -> float:
        """epsilon of all entries together."""
        return composed_epsilon(self.releases, self.options.delta)

    def total_with(self, release: Release) -> float:
        """epsilon of all entries and of ``release``.

        Raises:
            QualityError: it is above the budget.
        """
        options = self.options
        total = composed_epsilon([*self.releases, (release.scale, release.sensitivity)], options.delta)
        if total > options.budget * (1 + _TOLERANCE):
            raise QualityError(
                f"{self.entries} releases of lake {self.run.lake.uri} have spent epsilon={self.spent:.4g} of "
                f"{options.budget:g} (delta={options.delta:g}); one more with epsilon={options.epsilon:g} would make "
                f"{total:.4g}: nothing was published. Ask for a smaller --epsilon, or publish no more of this lake"
            )
        return total

    def staged(self, release: Release) -> Staged:
        """The entry of ``release``, staged. Its commit must be exclusive: two at once could overdraw the budget."""
        options, total = self.options, self.total_with(release)
        own = composed_epsilon([(release.scale, release.sensitivity)], options.delta)
        rho = concentrated_loss(release.scale, release.sensitivity)
        row = (
            self.entries + 1, release.key, release.what, options.run_date, release.scale, release.sensitivity, rho, own,
            options.delta, total, min(options.budget, self._first_budget()),
        )  # fmt: skip
        frame = self.run.spark.createDataFrame([row], PRIVACY_LEDGER.ddl).coalesce(1)
        # The base is set afterwards: None says that there was no ledger, not that any version will do.
        return replace(self.run.lake.stage(frame, PRIVACY_LEDGER), base=self.base)

    def _first_budget(self) -> float:
        rows = self.run.lake.read_or_empty(self.run.spark, PRIVACY_LEDGER).where("entry = 1").collect()
        return float(rows[0]["budget"]) if rows else self.options.budget
