"""Audit staged files before any reader can see them, then publish them."""

from collections.abc import Mapping
from datetime import date
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.lake.lake import Commit, Staged
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.publish.changes import KINDS
from recsys_spark.publish.drift import Figures, drifted, vector_figures
from recsys_spark.publish.options import DriftOptions
from recsys_spark.publish.steps.change_log import Change, log_changes
from recsys_spark.publish.steps.publishing import Report, publish_staged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.digest import row_digest
from recsys_spark.tables.schemas import ITEMS, LISTS, VECTORS

Parts = tuple[DataFrame, DataFrame]
"""The rows of the old and of the new version that may differ, whole lists at a time."""


def publish_audited(
    run: Run,
    key: str,
    staged: Staged,
    provenance: Provenance,
    options: DriftOptions,
    *,
    scope: str,
    outcome: Outcome | None = None,
    parts: Parts | None = None,
    run_date: date | None = None,
) -> Report:
    """Publish a snapshot that passes all checks and has not drifted from the last version, and log its changes.

    Args:
        run: the run.
        key: of the run.
        staged: the snapshot.
        provenance: of the snapshot.
        options: the drift bounds.
        scope: in words which rows were computed, and why.
        outcome: further results for the commit.
        parts: the rows that may differ from the last version; by default all.
        run_date: for the log, if the provenance has none.

    Raises:
        QualityError: keys that are not unique, vectors or scores that are not numbers, lists out of order, drift
            beyond the bounds; nothing is published.
    """
    last = run.lake.last_commit(staged.table)
    figures = {"rows": float(staged.rows), **vector_figures(staged.stats)}
    if figures.pop("unusable", 0):
        raise QualityError(f"table '{staged.table.name}' would hold vectors that are not finite; nothing was published")
    if LISTS in staged.table.checks:
        reordered = provenance.diversity or any(provenance.settings.get(name) for name in ("fairness", "pinned"))
        _check_lists(staged, by_score=not reordered)
        kinds, list_figures = _list_changes(run, staged, last, parts)
        figures |= list_figures
    else:
        kinds = _row_changes(run, staged, last, parts)
    faults = _drift(run, staged, last, figures, options)
    if faults and not options.accept_drift:
        raise QualityError(
            f"table '{staged.table.name}' has drifted and nothing was published: {'; '.join(faults)}. Check the "
            "sources; if the change is right, run again with --accept_drift, or change the bounds"
        )
    change = Change(staged.table.name, scope, staged.rows, kinds)
    run_date = run_date or provenance.run_date
    audited = Outcome(figures=figures, accepted_drift=faults or None, changes=change.record(run_date))
    report = publish_staged(run, key, staged, provenance, audited | (outcome or Outcome()))
    log_changes(run, key, run_date, [change])
    return report | {f"{staged.table.name}_changes": kinds} | ({"accepted_drift": faults} if faults else {})


def _drift(run: Run, staged: Staged, last: Commit | None, figures: Figures, options: DriftOptions) -> list[str]:
    if last is None:
        return []
    was = {"rows": float(run.lake.rows(staged.table))} | dict(last.outcome.figures or {})
    if was["rows"] < options.drift_from_rows:
        return []
    faults = drifted(was, figures, options.drift_bounds)
    if faults and _other_space(run, staged, last):  # norms and cosines of different vector spaces are not comparable
        was = {name: figure for name, figure in was.items() if name not in ("mean_norm", "mean_cosine")}
        faults = drifted(was, figures, options.drift_bounds)
    return faults


def _other_space(run: Run, staged: Staged, last: Commit) -> bool:
    if VECTORS not in staged.table.checks:
        return False
    versions = (run.lake.read(run.spark, staged.table, last.version), run.lake.read_staged(run.spark, staged))
    was, now = (rows.select("model").first() for rows in versions)
    return was != now


def _row_changes(run: Run, staged: Staged, last: Commit | None, parts: Parts | None) -> dict[str, int]:
    """Count the rows that were added, changed and removed, by key.

    Raises:
        QualityError: a key that is not unique.
    """
    old, new = parts or _versions(run, staged, last)
    return _compared(staged, old, new, [name for name in new.columns if name != staged.table.key[0]], {})


def _list_changes(run: Run, staged: Staged, last: Commit | None, parts: Parts | None) -> tuple[dict[str, int], Figures]:
    """Count the lists that were added, changed and removed; compute the share of changed lists and the coverage.

    Raises:
        QualityError: a list whose ranks do not run from 1 without gaps.
    """
    old, new = parts or _versions(run, staged, last)
    n = F.col("rows")
    ranks = {"last": n, "ranks": n * (n + 1) / 2, "squares": n * (n + 1) * (2 * n + 1) / 6}  # true only of 1 … n
    kinds = _compared(staged, old, new, ["item_id", "score", "rank"], ranks)
    rows = run.lake.read_staged(run.spark, staged)
    lists, listed_items = rows.agg(F.count_if(F.col("rank") == 1), F.count_distinct("item_id")).collect()[0]
    figures = {} if last is None else {"changed_lists": kinds["changed"] / max(lists, 1)}
    if items := run.lake.rows(ITEMS) if run.lake.version(ITEMS) is not None else 0:
        figures["coverage"] = round(listed_items / items, 6)
    return kinds, figures


def _versions(run: Run, staged: Staged, last: Commit | None) -> Parts:
    new = run.lake.read_staged(run.spark, staged)
    return new.limit(0) if last is None else run.lake.read(run.spark, staged.table, last.version), new


def _compared(
    staged: Staged, old: DataFrame, new: DataFrame, names: list[str], ranks: Mapping[str, Column]
) -> dict[str, int]:
    """Count groups of rows with the same key (single rows if there are no ``ranks``) by kind of change.

    Both versions go through one shuffle of key, digest and rank.

    Raises:
        QualityError: a group that breaks the contract.
    """
    key, now = staged.table.key[0], F.col("now")
    digest, rank = (
        row_digest(names).alias("digest"),
        (F.col("rank") if ranks else F.lit(1)).cast("bigint").alias("rank"),
    )
    versions = [
        rows.select(key, digest, rank, F.lit(is_new).alias("now")) for rows, is_new in ((old, False), (new, True))
    ]
    groups = versions[0].unionByName(versions[1]).groupBy(key).agg(
        F.bit_xor(F.when(~now, F.col("digest"))).alias("was"),
        F.bit_xor(F.when(now, F.col("digest"))).alias("is"),
        F.count_if(now).alias("rows"),
        F.max(F.when(now, F.col("rank"))).alias("last"),
        F.sum(F.when(now, F.col("rank"))).alias("ranks"),
        F.sum(F.when(now, F.col("rank") * F.col("rank"))).alias("squares"),
    )  # fmt: skip
    old_digest, new_digest = F.col("was"), F.col("is")
    faults = [F.col(name) != value for name, value in ranks.items()] or [F.col("rows") > 1]
    row = groups.agg(
        F.count_if(old_digest.isNull()).alias("added"),
        F.count_if(old_digest.isNotNull() & new_digest.isNotNull() & (old_digest != new_digest)).alias("changed"),
        F.count_if(new_digest.isNull()).alias("removed"),
        F.min(F.when(new_digest.isNotNull() & reduce(Column.__or__, faults), F.col(key))).alias("broken"),
    ).collect()[0]
    if row["broken"] is not None:
        raise QualityError(
            f"table '{staged.table.name}' would break its contract at {key} '{row['broken']}': "
            f"{', '.join(staged.table.key)} are not unique; nothing was published"
        )
    return {kind: row[kind] for kind in KINDS}


def _check_lists(staged: Staged, *, by_score: bool) -> None:
    """Raise QualityError if the tasks counted faults in their lists. Lists with ``diversity`` or pinned items and
    re-ranked ones are not ordered by score."""
    descriptions = {"not_a_number": "scores that are not numbers", "twice": "an item twice in a list"}
    descriptions |= {"not_in_order": "a score above that of the rank before it"} if by_score else {}
    for fault, description in descriptions.items():
        if number := sum(task.get("list_faults", {}).get(fault, 0) for task in staged.stats):
            raise QualityError(
                f"table '{staged.table.name}' would hold {description} ({number:,} rows); nothing was published"
            )
