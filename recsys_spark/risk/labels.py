"""Labels of users, and what a regression on their evidence reads and gives. Pure DataFrame functions."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.risk.kernels.labelled import log_odds
from recsys_spark.risk.kernels.scales import Ints
from recsys_spark.risk.kernels.scoring import Scorer
from recsys_spark.risk.scaled_figures import mapped


def labels_of(users: DataFrame, label: str) -> DataFrame:
    """``user_id, label`` (int) of users with a group of the label's attribute; 1 for the label itself."""
    attribute = label.partition(":")[0] + ":"
    mine = F.filter("groups", lambda group: group.startswith(attribute))
    labelled = users.select("user_id", mine.alias("mine")).where(F.size("mine") > 0)
    return labelled.select("user_id", F.array_contains("mine", label).cast("int").alias("label"))


def in_fold(fold: int) -> Column:
    """Whether a user is in one of two folds, by a hash."""
    return F.pmod(F.xxhash64("user_id", F.lit("fold")), F.lit(2)) == fold


def surprises(evidence: DataFrame, scorer: Scorer) -> DataFrame:
    """``user_id, nats`` (array<double>): the surprises of the evidence."""
    return mapped(evidence, "user_id", "evidence", partial(_nats, scorer), "nats array<double>")


def user_log_odds(evidence: DataFrame, scorer: Scorer, weights: np.ndarray, intercept: float) -> DataFrame:
    """``user_id, odds`` (array<int> of one): log-odds in multiples of 1 / LOGIT_STEPS."""
    return mapped(evidence, "user_id", "evidence", partial(_log_odds, scorer, weights, intercept), "odds array<int>")


def score_steps(scores: DataFrame, labels: DataFrame) -> DataFrame:
    """``label, steps`` (array<int> of one): scores of labelled users in multiples of 1 / 256."""
    step = F.array(F.round(F.col("score") * 256).cast("int")).alias("steps")
    return scores.join(labels, on="user_id").select("label", step)


def _nats(scorer: Scorer, evidence: Ints) -> Mapping[str, object]:
    return {"nats": scorer.surprises(evidence)}


def _log_odds(scorer: Scorer, weights: np.ndarray, intercept: float, evidence: Ints) -> Mapping[str, object]:
    return {"odds": log_odds(scorer.surprises(evidence) * weights, intercept)[:, None].astype(np.int32)}
