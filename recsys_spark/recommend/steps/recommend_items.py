"""Users, items, seen items and rules → the table recommendations."""

from collections.abc import Callable, Mapping

from recsys_spark.profiles.steps.impressions import keep_impressions
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.auto_lists import auto_lists
from recsys_spark.recommend.steps.checks import check_fairness, check_freshness
from recsys_spark.recommend.steps.cosine_lists import cosine_lists
from recsys_spark.recommend.steps.exposures import check_exploration, keep_exposures
from recsys_spark.recommend.steps.hybrid_lists import hybrid_lists
from recsys_spark.recommend.steps.sequential_lists import sequential_lists
from recsys_spark.runtime.lifecycle import Run

SCORERS: Mapping[str, Callable[[Run, TopKOptions], Report]] = {
    "auto": auto_lists,
    "cosine": cosine_lists,
    "hybrid": hybrid_lists,
    "sequential": sequential_lists,
}
"""The step of each scorer, by the value of ``--scorer``."""


def recommend_items(run: Run, options: TopKOptions) -> Report:
    """Publish the top-k list of every user that the scorer has a score for, and store its impressions and, with
    ``explore``, what is shown of it."""
    check_exploration(options)
    check_fairness(options)
    check_freshness(options)
    report = SCORERS[options.scorer](run, options)
    keep_impressions(run, options)
    keep_exposures(run, options)
    return report
