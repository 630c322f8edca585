"""Write, audit, publish: what is staged is looked at before anybody else can see it."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.changes import change_kinds
from recsys_spark.data_files import row_digest
from recsys_spark.drift import Figures, drifted, vector_figures
from recsys_spark.errors import QualityError
from recsys_spark.job import Run
from recsys_spark.lake import Head, Staged
from recsys_spark.refresh_options import DriftOptions
from recsys_spark.steps.change_log import Change, counted, log_changes
from recsys_spark.steps.publishing import Report, publish_staged
from recsys_spark.tables import ITEMS, RECOMMENDATIONS


def publish_audited(
    run: Run, key: str, staged: Staged, facts: Mapping[str, Any], options: DriftOptions, *, made: str
) -> Report:
    """Publish what is sound and not too far from the last version, and keep in ``changes`` what is new in it.

    ``made``: in words what of it was made anew. The version that is compared with is the one the work started from.

    Raises:
        QualityError: keys that are not unique, vectors or scores that are no numbers, lists out of order, drift beyond
            the bounds; nothing is published.
    """
    last = run.lake.head(staged.table)
    figures = {"rows": float(staged.rows), **vector_figures(staged.notes)}
    if figures.pop("unusable", 0):
        raise QualityError(f"table '{staged.table.name}' would hold vectors that are not finite; nothing was published")
    if staged.table is RECOMMENDATIONS:
        _check_lists(staged, by_score=not facts.get("diversity"))
        kinds, more = _lists(run, staged, last)
        figures |= more
    else:
        kinds = _rows(run, staged, last)
    faults = _drift(run, staged, last, figures, options)
    if faults and not options.accept_drift:
        raise QualityError(
            f"table '{staged.table.name}' has drifted and nothing was published: {'; '.join(faults)}. Look at the "
            "sources; if this is right, run again with --accept_drift, or change the bounds"
        )
    change, run_date = Change(staged.table.name, made, staged.rows, kinds), getattr(options, "run_date", None)
    about = {"figures": figures, **({"accepted_drift": faults} if faults else {}), **change.about(run_date)}
    report = publish_staged(run, key, staged, {**facts, "about": about | dict(facts.get("about", {}))})
    log_changes(run, key, run_date, [change])
    return report | {f"{staged.table.name}_changes": kinds} | ({"accepted_drift": faults} if faults else {})


def _drift(run: Run, staged: Staged, last: Head | None, figures: Figures, options: DriftOptions) -> list[str]:
    if last is None:
        return []
    was = {"rows": float(run.lake.rows(staged.table))} | last.facts.get("about", {}).get("figures", {})
    if was["rows"] < options.drift_from_rows:
        return []
    return drifted(was, figures, options.drift_bounds)


def _rows(run: Run, staged: Staged, last: Head | None) -> dict[str, int]:
    """Rows that were added, changed and removed, by key.

    Raises:
        QualityError: a key that is not unique.
    """
    key, new = staged.table.key[0], run.lake.read_staged(run.spark, staged)
    _unique(new.groupBy(key).agg(F.count("*").alias("rows")).where(F.col("rows") > 1), staged)
    old = new.limit(0) if last is None else run.lake.read(run.spark, staged.table, last.version)
    return counted(change_kinds(old, new, key))


def _lists(run: Run, staged: Staged, last: Head | None) -> tuple[dict[str, int], Figures]:
    """Lists that were added, changed and removed; the share of the catalogue that is listed.

    Raises:
        QualityError: a list whose ranks do not run from 1 without gaps.
    """
    new = run.lake.read_staged(run.spark, staged)
    old = new.limit(0) if last is None else run.lake.read(run.spark, staged.table, last.version)
    lists = _digested(new)
    n = F.col("places")
    sums = {"last": n, "ranks": n * (n + 1) / 2, "squares": n * (n + 1) * (2 * n + 1) / 6}  # of 1 … n alone
    _unique(lists.where(reduce(Column.__or__, [F.col(name) != value for name, value in sums.items()])), staged)
    was, now = (frame.select("user_id", "digest") for frame in (_digested(old), lists))
    kinds = counted(change_kinds(was, now, "user_id"))
    users = max(lists.count(), 1)
    figures = {} if last is None else {"changed_lists": kinds["changed"] / users}
    if items := run.lake.rows(ITEMS) if run.lake.version(ITEMS) is not None else 0:
        figures["coverage"] = round(new.select("item_id").distinct().count() / items, 6)
    return kinds, figures


def _check_lists(staged: Staged, *, by_score: bool) -> None:
    """Refuse what the tasks found in their lists. Those of ``diversity`` are not in the order of scores."""
    meant = {"not_a_number": "scores that are no numbers", "twice": "an item twice in a list"}
    meant |= {"not_in_order": "a score above that of the rank before it"} if by_score else {}
    for name, meaning in meant.items():
        if number := sum(note.get("list_faults", {}).get(name, 0) for note in staged.notes):
            raise QualityError(
                f"table '{staged.table.name}' would hold {meaning} ({number:,} places); nothing was published"
            )


def _digested(lists: DataFrame) -> DataFrame:
    """One row for each list: slim, since the places of a user lie together."""
    return lists.groupBy("user_id").agg(
        F.bit_xor(row_digest(["item_id", "score", "rank"])).alias("digest"),
        F.count("*").alias("places"),
        F.max("rank").alias("last"),
        F.sum("rank").alias("ranks"),
        F.sum(F.col("rank").cast("bigint") * F.col("rank")).alias("squares"),
    )


def _unique(broken: DataFrame, staged: Staged) -> None:
    if (row := broken.first()) is not None:
        raise QualityError(
            f"table '{staged.table.name}' would break its contract at {staged.table.key[0]} '{row[0]}': "
            f"{', '.join(staged.table.key)} are not unique; nothing was published"
        )
