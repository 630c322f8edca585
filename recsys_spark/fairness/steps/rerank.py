"""Staged candidates of all users → staged lists whose exposure is fair, or whose categories are calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError, UsageError
from recsys_spark.fairness.groups import (
    candidate_lists,
    category_names,
    head_threshold,
    history_shares,
    item_groups,
    popularity_counts,
)
from recsys_spark.fairness.kernels.evenness import even_prices
from recsys_spark.fairness.kernels.exposure import (
    EXPOSURE,
    UNIT,
    Candidates,
    duality_gap,
    group_exposure,
    least_prices,
    needed_exposure,
    priced_order,
)
from recsys_spark.fairness.options import FairnessOptions
from recsys_spark.fairness.reranked import Rerank, UserCandidates, reranked_rows
from recsys_spark.lake.lake import Staged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.sampling import hash_sample
from recsys_spark.tables.schemas import RECOMMENDATIONS

_ATTEMPTS = 5

_MARGIN = Fraction(1, 200)
"""Prices of a sample aim this share above a floor, twice that after each attempt that misses it over all lists."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class RerankInputs:
    """What a re-ranking reads besides the lists: ``items``, ``events``, and ``liked``, ``user_id, item_id`` of the
    histories that lists are calibrated to."""

    items: DataFrame
    events: DataFrame
    liked: DataFrame
    run_date: date


def reranked_lists(
    run: Run, staged: Staged, inputs: RerankInputs, options: FairnessOptions, k: int, constant_columns: dict[str, Any]
) -> tuple[Staged, Figures]:
    """Re-rank staged candidates; returns the staged lists of k items, and figures for the report.

    Candidates are discarded. A score stays that of the scorer; ranks are the new order.

    Raises:
        UsageError: a group of ``exposure_floor`` has no item.
        QualityError: a floor cannot be met with these candidates; nothing stays staged.
    """
    lists, histories = run.lake.read_staged(run.spark, staged), None
    traits, columns = _traits(inputs, options), list(RECOMMENDATIONS.columns)
    if options.calibration:
        histories = history_shares(inputs.liked.distinct(), category_names(inputs.items))
    rows = candidate_lists(lists.drop("run_date", "model"), traits, histories)
    users = sum(task.get("users", 0) for task in staged.stats)
    plain = Rerank(k, options.exposure_head, tuple(options.floors.values()), options.exposure_by)
    plain = replace(plain, significance=options.exposure_significance, calibration=options.calibration)
    share = min(1.0, options.fairness_users / max(users, 1))
    sample = _sample(candidate_lists(lists.where(hash_sample("user_id", share)), traits), options)
    even = _with_item_prices(plain, sample, options)
    for attempt in range(_ATTEMPTS):
        margin = Fraction(0) if share == 1 else _MARGIN * 2**attempt
        rerank = _with_group_prices(even, sample, options, margin)
        result = run.lake.stage(
            rows, RECOMMENDATIONS, reranked_rows(rerank, constant_columns, columns), base=staged.base
        )
        totals = _totals(result)
        if totals["missed"] or not _short(totals, options):
            break
        run.lake.discard(result)
    run.lake.discard(staged)
    if totals["missed"] or _short(totals, options):
        run.lake.discard(result)
        raise QualityError(_unmet(totals, options))
    kept = [
        {name: n for name, n in one.items() if name not in ("unfilled_slots", "list_faults")} for one in staged.stats
    ]
    return replace(result, stats=[*kept, *result.stats]), _figures(totals, rerank, options)


def described(figures: Mapping[str, Any]) -> str:
    """The re-ranking in words, for the table ``changes``."""
    parts = [f"{name} has {share:.4f} of the exposure" for name, share in figures.get("exposure", {}).items()]
    if "divergence" in figures:
        parts.append(f"divergence from histories {figures['divergence']} after {figures['divergence_as_scored']}")
    return "; ".join(["re-ranked", *parts, f"{figures['gain_kept']:.4f} of the gain kept"])


def _traits(inputs: RerankInputs, options: FairnessOptions) -> DataFrame:
    """``item_id, group, names``: the position of an item's group among the floors, and its categories."""
    names = category_names(inputs.items) if options.calibration else None
    if not options.exposure_floor:
        empty = F.lit(None).cast("int").alias("group"), F.lit(None).cast("array<bigint>").alias("names")
        if names is not None:
            return names.select("item_id", empty[0], "names")
        return inputs.items.select("item_id", *empty)
    head = 0
    if options.exposure_on == "popularity":
        counts = popularity_counts(inputs.events, inputs.run_date).collect()  # few: distinct numbers of events
        head = head_threshold([(row["n"], row["items"]) for row in counts])
    groups = item_groups(inputs.items, inputs.events, options.exposure_on, inputs.run_date, head)
    _check_groups(groups, options)
    listed = F.array(*(F.lit(name) for name in options.floors))
    group = (F.array_position(listed, F.col("group_name")) - 1).cast("int").alias("group")
    return groups.select("item_id", group, F.lit(None).cast("array<bigint>").alias("names"))


def _check_groups(groups: DataFrame, options: FairnessOptions) -> None:
    counted = groups.where(F.col("group_name").isNotNull()).groupBy("group_name").agg(F.count("*").alias("n"))
    existing = {row["group_name"] for row in counted.where(F.col("group_name").isin([*options.floors])).collect()}
    if missing := [name for name in options.floors if name not in existing]:
        greatest = [row["group_name"] for row in counted.orderBy(F.desc("n"), "group_name").limit(5).collect()]
        suggestion = f"the greatest groups are {', '.join(greatest)}" if greatest else "no item has a group"
        raise UsageError(
            f"exposure_floor: no item has the {options.exposure_on} {', '.join(missing)}; {suggestion}. Name groups "
            "that exist, or another exposure_on"
        )


def _sample(lists: DataFrame, options: FairnessOptions) -> UserCandidates | None:
    """The candidates of the sampled users, in the order of ids; None if no prices are set."""
    if not options.exposure_evenness and not (options.exposure_floor and options.exposure_by == "all"):
        return None
    slim = F.transform("candidates", lambda one: one.dropFields("reasons", "source"))
    rows: pa.Table = lists.select("user_id", slim.alias("candidates"), "history").toArrow()
    return UserCandidates.of(rows.sort_by("user_id"))


def _with_item_prices(rerank: Rerank, sample: UserCandidates | None, options: FairnessOptions) -> Rerank:
    if sample is None or not options.exposure_evenness or not len(sample.users):
        return rerank
    plain = sample.candidates(rerank)
    hashes, numbers = np.unique(sample.padded("item_hash", 0, np.int64), return_inverse=True)
    alone = Candidates(plain.gains, np.full_like(plain.groups, -1), plain.sizes, plain.k, plain.head)
    prices = even_prices(alone, numbers.reshape(plain.gains.shape), len(hashes), options.exposure_evenness)
    return replace(rerank, item_hashes=hashes, item_prices=prices)


def _with_group_prices(
    rerank: Rerank, sample: UserCandidates | None, options: FairnessOptions, margin: Fraction
) -> Rerank:
    if sample is None or not options.exposure_floor or options.exposure_by != "all":
        return replace(rerank, prices=(0,) * len(rerank.shares))
    shares = [min(share * (1 + margin), Fraction(1)) for share in rerank.shares]
    candidates = sample.candidates(rerank)
    prices, met = least_prices(candidates, shares, by_list=False)
    if not met.all():
        exposure, totals = group_exposure(priced_order(candidates, prices), candidates.groups, len(shares))
        sums = {"exposure": exposure.sum(axis=0).tolist(), "total": int(totals.sum()), "missed": 0}
        raise QualityError(_unmet(sums, options))
    return replace(rerank, prices=tuple(int(price) for price in prices[0]))


def _totals(staged: Staged) -> dict[str, Any]:
    """The stats of all tasks, summed."""
    tasks = [task for task in staged.stats if "missed" in task]
    count = max((len(task["exposure"]) for task in tasks), default=0)
    sums: dict[str, Any] = {
        name: sum(task[name] for task in tasks) for name in ("lists", "total", "missed", "gap", "kept")
    }
    sums["exposure"] = [sum(task["exposure"][group] for task in tasks) for group in range(count)]
    sums["gain"] = [sum(task["gain"][at] for task in tasks) for at in (0, 1)]
    sums["divergence"] = [sum(task["divergence"][at] for task in tasks) for at in (0, 1, 2)]
    return sums


def _short(totals: Mapping[str, Any], options: FairnessOptions) -> list[str]:
    """The groups that have less than their floor over all lists. The test of FA*IR is about lists, not about totals."""
    if options.exposure_by == "test" or not totals["exposure"]:
        return []
    needed = needed_exposure(np.array([totals["total"]], np.int64), list(options.floors.values()))[0]
    reached = zip(options.floors, totals["exposure"], needed, strict=True)
    return [name for name, exposure, least in reached if exposure < least]


def _unmet(totals: Mapping[str, Any], options: FairnessOptions) -> str:
    remedy = "Raise --rerank_from, lower exposure_floor or exposure_head"
    if totals["missed"]:
        return (
            f"exposure_floor {options.exposure_floor} cannot be met in {totals['missed']:,} of {totals['lists']:,} "
            f"lists: their {options.rerank_from} best candidates hold too few such items; nothing was published. "
            f"{remedy}, or take --exposure_by=all, which holds over all lists together"
        )
    reached = {
        name: f"{exposure / max(totals['total'], 1):.4f}"
        for name, exposure in zip(options.floors, totals["exposure"], strict=True)
    }
    return (
        f"exposure_floor {options.exposure_floor} cannot be met: with the {options.rerank_from} best candidates of "
        f"every user at most these shares of exposure were reached: {reached}; nothing was published. "
        f"{remedy}"
    )


def _figures(totals: Mapping[str, Any], rerank: Rerank, options: FairnessOptions) -> Figures:
    """What was reached, and its price: ``gain_kept`` is the mean over lists of Σ exposure · gain beside the scorer's
    own list (an NDCG whose relevance is the score); no lists that meet the floors keep more than ``gap`` above it."""
    lists = max(totals["lists"], 1)
    figures: Figures = {"lists": totals["lists"], "gain_kept": round(totals["kept"] / lists, 4)}
    if options.exposure_floor:
        total = max(totals["total"], 1)
        figures |= {"on": options.exposure_on, "by": options.exposure_by, "floor": dict(options.exposure_floor)}
        figures["exposure"] = {
            name: round(exposure / total, 6) for name, exposure in zip(options.floors, totals["exposure"], strict=True)
        }
        if options.exposure_by != "test" and not options.exposure_evenness:
            needed = needed_exposure(np.array([totals["total"]], np.int64), list(rerank.shares))[0]
            gap = totals["gap"] + duality_gap(rerank.prices, totals["exposure"], needed.tolist())
            figures["gap"] = round(gap / max(totals["gain"][0], EXPOSURE * UNIT), 6)
    if options.exposure_evenness:
        figures["evenness"] = options.exposure_evenness
    if options.calibration:
        before, after, users = totals["divergence"]
        figures["divergence_as_scored"] = round(before / max(users, 1), 4)
        figures["divergence"] = round(after / max(users, 1), 4)
    return {"fairness": figures}
