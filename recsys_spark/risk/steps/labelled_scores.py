"""Labels of the table users → the scorer of user_risk, and how good scores are."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.publish.steps.scratch import TempTable
from recsys_spark.risk.kernels.labelled import LabelledScorer, area_under_curve, cost_curve
from recsys_spark.risk.kernels.scoring import Scorer
from recsys_spark.risk.labels import fitted, in_fold, labels_of, score_histograms
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.scores import scored

_LEAST = 10
"""Users of each class that a regression needs."""

_BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Budgets of the cost curve, as shares of ``review_budget``."""


def labelled_scorer(
    rows: TempTable, users: DataFrame, scorer: Scorer, options: RiskOptions
) -> tuple[LabelledScorer, Report]:
    """The scorer that learns from the labels, and figures of the scores with and without labels.

    Figures with labels are of scores by a regression on the other half of the users.

    Raises:
        QualityError: there are too few labels.
    """
    label = options.risk_label or ""
    labels = labels_of(users, label).join(rows.frame.select("user_id"), on="user_id", how="left_semi").localCheckpoint()
    counts = labels.agg(F.count_if("label = 1"), F.count_if("label = 0")).collect()[0]
    if min(counts) < _LEAST:
        raise QualityError(
            f"risk_label '{label}': {counts[0]:,} users have this group and {counts[1]:,} another one of the same "
            f"attribute, and scores from labels need {_LEAST} of each. Check the groups of table 'users', or leave "
            "risk_label out: scores then need no labels"
        )
    folds = []
    for fold in (0, 1):
        train, test = labels.where(in_fold(1 - fold)), labels.where(in_fold(fold))
        if min(train.agg(F.count_if("label = 1"), F.count_if("label = 0")).collect()[0]) < _LEAST // 2:
            break
        tested = rows.frame.join(test.select("user_id"), on="user_id", how="left_semi")
        folds.append(scored(tested, "user_id", fitted(rows.frame, train, scorer)).select("user_id", "score"))
    report = {"labels": {"with": counts[0], "without": counts[1]}}
    plain = scored(rows.frame, "user_id", scorer).select("user_id", "score")
    report |= {"scores_without_labels": _figures(plain, labels, options)}
    if len(folds) > 1:
        report |= {"scores_with_labels": _figures(folds[0].unionByName(folds[1]), labels, options)}
    return fitted(rows.frame, labels, scorer), report


def _figures(scores: DataFrame, labels: DataFrame, options: RiskOptions) -> Report:
    """AUC and cost curve of the scores of labelled users."""
    by_label = score_histograms(scores, labels)
    budgets = sorted({max(1, round(share * options.review_budget)) for share in _BUDGETS})
    curve = cost_curve(by_label[1], by_label[0], budgets, options.review_cost, options.miss_cost)
    return {"auc": round(area_under_curve(by_label[1], by_label[0]), 4), "cost_curve": curve}
