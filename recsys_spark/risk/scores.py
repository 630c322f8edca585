"""Evidence → rows of the risk tables. DataFrame functions."""

from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.risk.evidence import STEPS, Evidence
from recsys_spark.risk.kernels.labelled import LabelledScorer
from recsys_spark.risk.kernels.scales import Histogram
from recsys_spark.risk.kernels.scoring import Scorer
from recsys_spark.risk.scaled_figures import mapped

SCORED_DDL = "score double, trust double, places array<int>"


def scored(rows: DataFrame, key: str, scorer: Scorer | LabelledScorer) -> DataFrame:
    """``key, score, trust, places, evidence`` of ``key, evidence`` (array<int>)."""
    scores = mapped(rows, key, "evidence", partial(_call, scorer), SCORED_DDL)
    return scores.join(rows, on=key)


def _call(scorer: Scorer | LabelledScorer, evidence: object) -> Mapping[str, object]:
    return scorer(evidence)  # type: ignore[arg-type]


def risk_rows(rows: DataFrame, key: str, kinds: Sequence[Evidence], budget: int, run_date: date) -> DataFrame:
    """Rows of ``user_risk`` or ``item_risk``.

    Args:
        rows: ``key, score, trust, places, evidence``.
        key: user_id or item_id.
        kinds: of the evidence, in its order.
        budget: number of rows with a trust below 1 that are marked for review: the greatest scores, then by key.
        run_date: of the rows.
    """
    first = (
        rows.where("trust < 1").orderBy(F.desc("score"), key).limit(budget).select(key, F.lit("review").alias("picked"))
    )
    marked = rows.join(F.broadcast(first), on=key, how="left")
    segment = F.coalesce("picked", F.when(F.col("trust") < 1, "watch"), F.lit("normal"))
    sentences = F.array(*(F.lit(kind.sentence) for kind in kinds))
    reasons = F.transform(F.filter("places", lambda place: place >= 0), lambda place: _sentence(sentences, place))
    return marked.select(
        key, "score", "trust", reasons.alias("reasons"), segment.alias("segment"), F.lit(run_date).alias("run_date")
    )


def _sentence(sentences: Column, place: Column) -> Column:
    figure = F.format_number(F.get("evidence", place) / F.lit(float(STEPS)), 1)
    return F.replace(F.get(sentences, place), F.lit("%s"), figure)


def places_of(histograms: Mapping[tuple[int, int], Histogram]) -> dict[int, Histogram]:
    """Histograms by place."""
    return {place: histogram for (_, place), histogram in histograms.items()}
