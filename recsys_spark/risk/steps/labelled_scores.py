"""Labels of the table users → the scorer of user_risk, and how good scores are."""

from collections.abc import Mapping

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.publish.steps.scratch import TempTable
from recsys_spark.risk.kernels.labelled import LOGIT_STEPS, LabelledScorer, area_under_curve, cost_curve
from recsys_spark.risk.kernels.scales import Histogram, Tail
from recsys_spark.risk.kernels.scoring import Scorer
from recsys_spark.risk.labels import in_fold, labels_of, score_steps, surprises, user_log_odds
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.scores import scored
from recsys_spark.risk.steps.histograms import histograms
from recsys_spark.tables.sampling import hash_sample

_LEAST = 10
"""Users of each class that a regression needs."""

_MOST_ROWS = 200_000
"""Users that the regression is fitted on; of more, a sample."""

_PENALTY = 0.01

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
    labels = labels_of(users, label).join(rows.frame.select("user_id"), on="user_id", how="left_semi")
    counts = labels.agg(F.count_if(F.col("label") == 1), F.count_if(F.col("label") == 0)).collect()[0]
    if min(counts) < _LEAST:
        raise QualityError(
            f"risk_label '{label}': {counts[0]:,} users have this group and {counts[1]:,} another one of the same "
            f"attribute, and scores from labels need {_LEAST} of each. Check the groups of table 'users', or leave "
            "risk_label out: scores then need no labels"
        )
    folds = []
    for fold in (0, 1):
        train, test = labels.where(in_fold(1 - fold)), labels.where(in_fold(fold))
        if min(train.agg(F.count_if(F.col("label") == 1), F.count_if(F.col("label") == 0)).collect()[0]) < _LEAST // 2:
            break
        tested = rows.frame.join(test.select("user_id"), on="user_id", how="left_semi")
        folds.append(scored(tested, "user_id", _fitted(rows.frame, train, scorer)).select("user_id", "score"))
    report = {"labels": {"with": counts[0], "without": counts[1]}}
    plain = scored(rows.frame, "user_id", scorer).select("user_id", "score")
    report |= {"scores_without_labels": _figures(plain, labels, options)}
    if len(folds) > 1:
        report |= {"scores_with_labels": _figures(folds[0].unionByName(folds[1]), labels, options)}
    return _fitted(rows.frame, labels, scorer), report


def _figures(scores: DataFrame, labels: DataFrame, options: RiskOptions) -> Report:
    """AUC and cost curve of the scores of labelled users."""
    by_label = _score_histograms(scores, labels)
    budgets = sorted({max(1, round(share * options.review_budget)) for share in _BUDGETS})
    curve = cost_curve(by_label[1], by_label[0], budgets, options.review_cost, options.miss_cost)
    return {"auc": round(area_under_curve(by_label[1], by_label[0]), 4), "cost_curve": curve}


def _fitted(evidence: DataFrame, labels: DataFrame, scorer: Scorer) -> LabelledScorer:
    """A logistic regression (Spark ML, ridge penalty) on the surprises of the labelled users.

    The log-odds are calibrated: they are fitted by likelihood, on all labelled users or on a sample of 200,000 by a
    hash of the id, and neither class is weighted. One task adds up the gradient of sorted rows, in the same order
    in every run.

    Args:
        evidence: ``user_id, evidence`` of all users, which the tail of the scores is taken from.
        labels: ``user_id, label``.
        scorer: of the surprises.
    """
    from pyspark.ml.classification import LogisticRegression  # loads pandas, which runs without labels do not need
    from pyspark.ml.functions import array_to_vector

    share = _MOST_ROWS / max(labels.count(), 1)
    train = labels if share >= 1 else labels.where(hash_sample("user_id", share))
    rows = surprises(evidence.join(train.select("user_id"), on="user_id", how="left_semi"), scorer)
    rows = rows.join(train, on="user_id").select("user_id", "label", array_to_vector(F.col("nats")).alias("features"))
    ordered = rows.coalesce(1).sortWithinPartitions("user_id")
    model = LogisticRegression(labelCol="label", maxIter=100, regParam=_PENALTY).fit(ordered)
    weights, intercept = np.round(model.coefficients.toArray(), 6), round(float(model.intercept), 6)
    odds = user_log_odds(evidence, scorer, weights, intercept)
    tail = Tail.of(histograms(odds, "odds")[0, 0], floor=LOGIT_STEPS / 100)
    return LabelledScorer(scorer, weights, intercept, tail)


def _score_histograms(scores: DataFrame, labels: DataFrame) -> Mapping[int, Histogram]:
    """Histogram of the scores (in multiples of 1 / 256) of labelled users, by label."""
    counts = histograms(score_steps(scores, labels), "steps", "label")
    return {label: histogram for (label, _), histogram in counts.items()}
