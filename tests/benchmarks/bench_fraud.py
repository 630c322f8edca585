#!/usr/bin/env python3
"""Risk scores of a generated card log with planted fraud against scikit-learn's isolation forest. One JSON line last.

    tests/benchmarks/bench_fraud.py [--cards=5000] [--fraud=0.02] [--budget=200] [--seed=0]

Both see the same figures of every card, in one run; neither sees a label. ``with_labels``: scores from labels, of cards
that the regression was not fitted on.
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

if "RECSYS_BENCHMARK" not in os.environ:  # in the environment that `run` sets up
    os.execv(Path(__file__).with_name("run"), ["run", *sys.argv])

import numpy as np
from local_session import local_session
from pyspark.sql import SparkSession
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.lake.lake import Lake
from recsys_spark.publish.steps.publishing import pin_inputs
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.risk.evidence import OF_USERS
from recsys_spark.risk.kernels.scales import NO_FIGURE
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.scaled_figures import in_steps
from recsys_spark.risk.steps.score_risk import score_risk
from recsys_spark.risk.steps.user_evidence import log_of, user_deviations, user_evidence, user_figures
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, ITEMS, USER_RISK, USERS
from tests.bench.transactions import write_transactions

DAY = date(2024, 4, 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cards", type=int, default=5000)
    parser.add_argument("--fraud", type=float, default=0.02)
    parser.add_argument("--budget", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dump")
    arguments = parser.parse_args()
    spark = local_session()
    with tempfile.TemporaryDirectory(prefix="bench-fraud-") as folder:
        print(json.dumps(measured(spark, Path(folder), arguments)))


def measured(spark: SparkSession, folder: Path, arguments: argparse.Namespace) -> dict:
    """The scores of both, and with labels."""
    bad = write_transactions(folder, arguments.cards, fraud=arguments.fraud, seed=arguments.seed)
    lake = str(folder / "lake")
    run = Run("bench", Lake(lake), Progress())
    ingest_tables(run, IngestOptions(lake=lake, run_date=DAY, dataset="transactions", data=str(folder)))
    options = RiskOptions(lake=lake, run_date=DAY, review_budget=arguments.budget)
    score_risk(run, options)
    rows = run.lake.read(spark, USER_RISK).select("user_id", "score").toPandas()
    report = {"cards": len(rows), "fraud": len(bad), "budget": arguments.budget}
    report["score_risk"] = quality(rows["user_id"], rows["score"], bad, arguments.budget)
    names, evidence, own = figures(run, options)
    if arguments.dump:
        np.savez(arguments.dump, E=evidence, y=np.array([name in bad for name in names]).astype(int))
    for name, columns in (("isolation_forest", evidence[:, : len(OF_USERS)]), ("isolation_forest_all", evidence)):
        matrix = np.where(columns == NO_FIGURE, 0, columns).astype(float)
        matrix = matrix[:, matrix.std(axis=0) > 0]
        aucs = [-IsolationForest(n_estimators=200, random_state=n).fit(matrix).score_samples(matrix) for n in range(3)]
        report[name] = quality(names, np.mean(aucs, axis=0), bad, arguments.budget)
    labelled = score_risk(run, options.model_copy(update={"risk_label": "fraud: yes", "accept_drift": True}))
    return report | {"with_labels": labelled["scores_with_labels"], "without": labelled["scores_without_labels"]}


def figures(run: Run, options: RiskOptions) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The evidence that the scores are made of."""
    inputs = pin_inputs(run, EVENTS, ITEMS, USERS)
    log = log_of(run, inputs, options)
    own = in_steps(user_figures(run, inputs, log), "user_id", [one.name for one in OF_USERS])
    with materialized(run, own) as steps, materialized(run, user_deviations(steps.frame)) as deviations:
        rows = user_evidence(log, deviations.frame).toPandas()
    evidence = np.stack(rows["evidence"])
    return rows["user_id"].tolist(), evidence, evidence[:, : len(OF_USERS)]


def quality(names: object, scores: object, bad: set[str], budget: int) -> dict:
    """AUC, and precision among the first ``budget``."""
    is_bad, scores = np.array([name in bad for name in names]), np.asarray(scores)
    first = np.argsort(-scores, kind="stable")[:budget]
    hits = int(is_bad[first].sum())
    auc = float(roc_auc_score(is_bad, scores))
    return {"auc": round(auc, 4), "precision": round(hits / budget, 3), "recall": round(hits / max(len(bad), 1), 3)}


if __name__ == "__main__":
    main()
