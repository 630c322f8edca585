"""Evaluate what was shown, by one of several designs."""

from collections.abc import Callable, Mapping

from recsys_spark.online.options import OnlineOptions
from recsys_spark.online.steps.arms import ab_test, power
from recsys_spark.online.steps.interleave import interleave, mix
from recsys_spark.online.steps.off_policy import off_policy
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.runtime.lifecycle import Run

_MODES: Mapping[str, Callable[[Run, OnlineOptions], Report]] = {
    "off_policy": off_policy,
    "mix": mix,
    "interleave": interleave,
    "ab": ab_test,
    "power": power,
}
"""The step of each mode, by the value of ``--mode``."""


def evaluate_online(run: Run, options: OnlineOptions) -> Report:
    """Run the step of the mode and return its report."""
    return _MODES[options.mode](run, options)
