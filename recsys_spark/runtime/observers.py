"""What others see of a run while it runs and when it ends: alerts, Prometheus' file, OpenLineage, OpenTelemetry.

None of them ends a run: what cannot be written or sent is a warning.
"""

import sys
import time
from typing import Any

from recsys_spark.errors.redaction import redacted, redacted_report
from recsys_spark.runtime.alerts import alerts_of
from recsys_spark.runtime.config import Configuration
from recsys_spark.runtime.lineage import Finish, start_lineage
from recsys_spark.runtime.progress import Progress
from recsys_spark.runtime.run_metrics import write_metrics
from recsys_spark.runtime.telemetry import send_spans, wants_spans


class Observers:
    """The observers of one run."""

    def __init__(self, job: str) -> None:
        self.progress = Progress()
        self._job, self._started = job, time.time_ns()  # when it ran; no row depends on it
        self._config: Configuration | None = None
        self._finish_lineage: Finish | None = None

    def start(self, config: Configuration) -> None:
        """The job starts with this configuration."""
        self._config = config
        if not config.dry_run:
            self._finish_lineage = start_lineage(self._job, getattr(config, "run_date", None))

    def finish(self, report: dict[str, Any], *, personal: str) -> None:
        """Add ``alerts`` to the report, and pass it on without the member ``personal``."""
        config = self._config
        if config is None:
            return
        if alerts := alerts_of(report, config.alerts):
            report["alerts"] = alerts
            for alert in alerts:
                print(f"alert: {alert}", file=sys.stderr)
        public = redacted_report({key: value for key, value in report.items() if key != personal})
        if config.metrics_file is not None:
            write_metrics(config.metrics_file, public)
        if self._finish_lineage is not None:
            self._finish_lineage(public, getattr(config, "data", None))
        if wants_spans() and not config.dry_run:
            try:
                send_spans(public, self.progress.steps, self._started)
            except Exception as error:
                print(f"warning: the spans of this run were not sent: {redacted(str(error))}", file=sys.stderr)
