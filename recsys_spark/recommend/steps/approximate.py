"""An approximate join that proves its recall, or becomes exact."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.lake.lake import Staged
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.topk.recall import Recall, estimated, strata, with_strata

_SHARE = 16  # of the lists are met at first

Stage = Callable[[DataFrame, int], Staged]
"""(profiles, nprobe) to staged lists; 0 is exact."""


def stage_with_recall(
    run: Run, options: TopKOptions, blocks: ItemBlocks, profiles: DataFrame, stage: Stage
) -> tuple[Staged, dict[str, Any]]:
    """Lists whose measured recall reaches ``target_recall``: more lists are met until they do, at last all; at once
    where the sample draws nobody.

    The tasks score a sample of their users exactly beside the rest: no second job and no join.
    """
    sizes = {row["stratum"]: row["users"] for row in strata(profiles).collect()}
    users = with_strata(profiles, sizes, options.recall_users)
    nprobe = options.nprobe or max(1, blocks.clusters // _SHARE)
    attempts = []
    while nprobe < blocks.clusters:
        staged = stage(users, nprobe)
        recall = estimated([tuple(share) for note in staged.notes for share in note["shares"]], sizes)
        if sizes and not recall.users:
            run.lake.discard(staged)
            run.progress.note("the sample drew no user: nobody knows the recall")
            break
        attempts.append({"nprobe": nprobe, "recall": round(recall.mean, 5)})
        if recall.mean >= options.target_recall:
            return staged, _record(options, blocks, nprobe, recall, attempts)
        run.progress.note(
            f"recall@{options.k} {recall.mean:.4f} with {nprobe} of {blocks.clusters} lists is below "
            f"{options.target_recall}: half as many again"
        )
        run.lake.discard(staged)
        nprobe = -(-nprobe * 3 // 2)
    run.progress.note("all lists are met: the join is exact")
    return stage(profiles, 0), _record(options, blocks, 0, Recall(1.0, 1.0, 1.0, 0), attempts)


def _record(
    options: TopKOptions, blocks: ItemBlocks, nprobe: int, recall: Recall, attempts: list[dict[str, Any]]
) -> dict[str, Any]:
    figures = {name: round(value, 5) for name, value in asdict(recall).items()}
    return {"recall": figures | {"k": options.k, "lists": blocks.clusters, "nprobe": nprobe, "attempts": attempts}}
