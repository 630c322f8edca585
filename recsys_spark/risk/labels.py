"""Labels of users, and the regression on their evidence. DataFrame functions."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import array_to_vector
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.risk.kernels.labelled import LOGIT_STEPS, LabelledScorer, log_odds
from recsys_spark.risk.kernels.scales import Histogram, Ints, Tail
from recsys_spark.risk.kernels.scoring import Scorer
from recsys_spark.risk.scaled_figures import histograms, mapped
from recsys_spark.tables.sampling import hash_sample

_MOST_ROWS = 200_000
"""Users that the regression is fitted on; of more, a sample."""

_PENALTY = 0.01


def labels_of(users: DataFrame, label: str) -> DataFrame:
    """``user_id, label`` (int) of users with a group of the label's attribute; 1 for the label itself."""
    attribute = label.partition(":")[0] + ":"
    mine = F.filter("groups", lambda group: group.startswith(attribute))
    labelled = users.select("user_id", mine.alias("mine")).where(F.size("mine") > 0)
    return labelled.select("user_id", F.array_contains("mine", label).cast("int").alias("label"))


def in_fold(fold: int) -> Column:
    """Whether a user is in one of two folds, by a hash."""
    return F.pmod(F.xxhash64("user_id", F.lit("fold")), F.lit(2)) == fold


def fitted(evidence: DataFrame, labels: DataFrame, scorer: Scorer) -> LabelledScorer:
    """A logistic regression (Spark ML, ridge penalty) on the surprises of the labelled users.

    The log-odds are calibrated: they are fitted by likelihood, on all labelled users or on a sample of 200,000 by a
    hash of the id, and neither class is weighted. One task adds up the gradient of sorted rows, in the same order
    in every run.

    Args:
        evidence: ``user_id, evidence`` of all users, which the tail of the scores is taken from.
        labels: ``user_id, label``.
        scorer: of the surprises.
    """
    share = _MOST_ROWS / max(labels.count(), 1)
    train = labels if share >= 1 else labels.where(hash_sample("user_id", share))
    rows = _surprises(evidence.join(train.select("user_id"), on="user_id", how="left_semi"), scorer)
    rows = rows.join(train, on="user_id").select("user_id", "label", array_to_vector(F.col("nats")).alias("features"))
    ordered = rows.coalesce(1).sortWithinPartitions("user_id")
    model = LogisticRegression(labelCol="label", maxIter=100, regParam=_PENALTY).fit(ordered)
    weights, intercept = np.round(model.coefficients.toArray(), 6), round(float(model.intercept), 6)
    odds = mapped(evidence, "user_id", "evidence", partial(_log_odds, scorer, weights, intercept), "odds array<int>")
    tail = Tail.of(histograms(odds, "odds")[0, 0], floor=LOGIT_STEPS / 100)
    return LabelledScorer(scorer, weights, intercept, tail)


def score_histograms(scores: DataFrame, labels: DataFrame) -> Mapping[int, Histogram]:
    """Histogram of the scores (in multiples of 1 / 256) of labelled users, by label."""
    step = F.array(F.round(F.col("score") * 256).cast("int")).alias("steps")
    rows = scores.join(labels, on="user_id").select("label", step)
    return {label: histogram for (label, _), histogram in histograms(rows, "steps", "label").items()}


def _surprises(evidence: DataFrame, scorer: Scorer) -> DataFrame:
    return mapped(evidence, "user_id", "evidence", partial(_nats, scorer), "nats array<double>")


def _nats(scorer: Scorer, evidence: Ints) -> Mapping[str, object]:
    return {"nats": scorer.surprises(evidence)}


def _log_odds(scorer: Scorer, weights: np.ndarray, intercept: float, evidence: Ints) -> Mapping[str, object]:
    return {"odds": log_odds(scorer.surprises(evidence) * weights, intercept)[:, None].astype(np.int32)}
