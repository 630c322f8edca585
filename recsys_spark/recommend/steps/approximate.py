"""An approximate join that reaches a measured recall, or becomes exact."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.lake.lake import Staged
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.topk.recall import Recall, estimated, strata, with_strata

_FIRST_SHARE = 16
"""By default, 1 in 16 clusters is probed at first."""

Stage = Callable[[DataFrame, int], Staged]
"""Stages lists from (profiles, nprobe); nprobe 0 is exact."""


def stage_with_recall(
    run: Run, options: TopKOptions, blocks: ItemBlocks, profiles: DataFrame, stage: Stage
) -> tuple[Staged, dict[str, Any]]:
    """Stage lists whose measured recall reaches ``target_recall``, and return them with their recall.

    nprobe grows by half until the recall reaches the target; at last the join is exact. It is exact at once if the
    sample is empty. The tasks also score a sample of their users exactly, so that no second job is needed.
    """
    sizes = {row["stratum"]: row["users"] for row in strata(profiles).collect()}
    users = with_strata(profiles, sizes, options.recall_users)
    nprobe = options.nprobe or max(1, blocks.clusters // _FIRST_SHARE)
    attempts = []
    while nprobe < blocks.clusters:
        staged = stage(users, nprobe)
        recall = estimated([tuple(share) for task in staged.stats for share in task["shares"]], sizes)
        if sizes and not recall.users:
            run.lake.discard(staged)
            run.progress.note("the recall sample is empty: using the exact join")
            break
        attempts.append({"nprobe": nprobe, "recall": round(recall.mean, 5)})
        if recall.mean >= options.target_recall:
            return staged, _record(options, blocks, nprobe, recall, attempts)
        run.progress.note(
            f"recall@{options.k} {recall.mean:.4f} with {nprobe} of {blocks.clusters} clusters is below "
            f"{options.target_recall}: probing 1.5 times as many"
        )
        run.lake.discard(staged)
        nprobe = -(-nprobe * 3 // 2)
    run.progress.note("all clusters are probed: the join is exact")
    return stage(profiles, 0), _record(options, blocks, 0, Recall(1.0, 1.0, 1.0, 0), attempts)


def _record(
    options: TopKOptions, blocks: ItemBlocks, nprobe: int, recall: Recall, attempts: list[dict[str, Any]]
) -> dict[str, Any]:
    figures = {name: round(value, 5) for name, value in asdict(recall).items()}
    return {"recall": figures | {"k": options.k, "lists": blocks.clusters, "nprobe": nprobe, "attempts": attempts}}
