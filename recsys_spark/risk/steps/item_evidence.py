"""items and events → the evidence about every item."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.relevance import is_positive_event
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.risk.evidence import OF_ITEMS
from recsys_spark.risk.item_figures import instructions, near_copies, praise_bursts, title_figures
from recsys_spark.risk.kernels.scales import NO_FIGURE
from recsys_spark.risk.scaled_figures import in_steps
from recsys_spark.risk.shared_figures import item_strengths, item_sums, with_deviations
from recsys_spark.risk.steps.user_evidence import SHARED, Log
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import ITEMS


def item_evidence(run: Run, inputs: InputVersions, log: Log, deviations: DataFrame) -> DataFrame:
    """``item_id, evidence`` (array<int>, in steps): the figures of OF_ITEMS, then the shared ones of its users.

    Args:
        deviations: ``user_id, z, distance``.
    """
    items = inputs.frame(run, ITEMS)
    top = float("inf") if log.top is None else log.top
    praises = log.events.where(is_positive_event(log.options.event_weights, top)).select("item_id", "timestamp")
    rows = items.select("item_id", F.lit(1).alias("events"))
    for figures in (praise_bursts(praises), title_figures(items), near_copies(items), instructions(items)):
        rows = rows.join(figures, on="item_id", how="left")
    sums = item_sums(with_deviations(log.praised(), deviations, SHARED), len(SHARED))
    shared = item_strengths(sums, len(SHARED))
    figures = in_steps(rows, "item_id", [one.name for one in OF_ITEMS])
    nothing = F.array_repeat(F.lit(NO_FIGURE), len(SHARED))
    evidence = F.concat("figures", F.coalesce("shared", nothing)).alias("evidence")
    return figures.join(shared, on="item_id", how="left").select("item_id", evidence)
