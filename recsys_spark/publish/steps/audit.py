"""Write, audit, publish: what is staged is looked at before anybody else can see it."""

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
from recsys_spark.tables.schemas import ITEMS, RECOMMENDATIONS

Parts = tuple[DataFrame, DataFrame]
"""Of two versions of a table the rows that may differ: the old ones, the new ones, whole lists."""


def publish_audited(
    run: Run,
    key: str,
    staged: Staged,
    provenance: Provenance,
    options: DriftOptions,
    *,
    made: str,
    outcome: Outcome | None = None,
    parts: Parts | None = None,
    run_date: date | None = None,
) -> Report:
    """Publish what is sound and not too far from the last version, and keep in ``changes`` what is new in it.

    ``made``: in words what of it was made anew. The version that is compared with is the one the work started from;
    where ``parts`` are given, all other rows are those of that version.

    Raises:
        QualityError: keys that are not unique, vectors or scores that are no numbers, lists out of order, drift beyond
            the bounds; nothing is published.
    """
    last = run.lake.last_commit(staged.table)
    figures = {"rows": float(staged.rows), **vector_figures(staged.notes)}
    if figures.pop("unusable", 0):
        raise QualityError(f"table '{staged.table.name}' would hold vectors that are not finite; nothing was published")
    if staged.table is RECOMMENDATIONS:
        _check_lists(staged, by_score=not provenance.diversity)
        kinds, more = _lists(run, staged, last, parts)
        figures |= more
    else:
        kinds = _rows(run, staged, last, parts)
    faults = _drift(run, staged, last, figures, options)
    if faults and not options.accept_drift:
        raise QualityError(
            f"table '{staged.table.name}' has drifted and nothing was published: {'; '.join(faults)}. Look at the "
            "sources; if this is right, run again with --accept_drift, or change the bounds"
        )
    change = Change(staged.table.name, made, staged.rows, kinds)
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
    if faults and _other_space(run, staged, last):  # lengths and cosines of two vector spaces are not to be compared
        was = {name: figure for name, figure in was.items() if name not in ("mean_norm", "mean_cosine")}
        faults = drifted(was, figures, options.drift_bounds)
    return faults


def _other_space(run: Run, staged: Staged, last: Commit) -> bool:
    if "embedding" not in staged.table.columns:
        return False
    versions = (run.lake.read(run.spark, staged.table, last.version), run.lake.read_staged(run.spark, staged))
    was, now = (rows.select("model").first() for rows in versions)
    return was != now


def _rows(run: Run, staged: Staged, last: Commit | None, parts: Parts | None) -> dict[str, int]:
    """Rows that were added, changed and removed, by key.

    Raises:
        QualityError: a key that is not unique.
    """
    old, new = parts or _versions(run, staged, last)
    return _compared(staged, old, new, [name for name in new.columns if name != staged.table.key[0]], {})


def _lists(run: Run, staged: Staged, last: Commit | None, parts: Parts | None) -> tuple[dict[str, int], Figures]:
    """Lists that were added, changed and removed; the share of the catalogue that is listed.

    Raises:
        QualityError: a list whose ranks do not run from 1 without gaps.
    """
    old, new = parts or _versions(run, staged, last)
    n = F.col("rows")
    ranks = {"last": n, "ranks": n * (n + 1) / 2, "squares": n * (n + 1) * (2 * n + 1) / 6}  # of 1 … n alone
    kinds = _compared(staged, old, new, ["item_id", "score", "rank"], ranks)
    whole = run.lake.read_staged(run.spark, staged)
    lists, listed = whole.agg(F.count_if(F.col("rank") == 1), F.count_distinct("item_id")).collect()[0]
    figures = {} if last is None else {"changed_lists": kinds["changed"] / max(lists, 1)}
    if items := run.lake.rows(ITEMS) if run.lake.version(ITEMS) is not None else 0:
        figures["coverage"] = round(listed / items, 6)
    return kinds, figures


def _versions(run: Run, staged: Staged, last: Commit | None) -> Parts:
    new = run.lake.read_staged(run.spark, staged)
    return new.limit(0) if last is None else run.lake.read(run.spark, staged.table, last.version), new


def _compared(
    staged: Staged, old: DataFrame, new: DataFrame, names: list[str], ranks: Mapping[str, Column]
) -> dict[str, int]:
    """Groups of rows with one key (rows, where there are no ``ranks``) by kind of change.
    Both versions in one pass of slim rows: what belongs together lies together.

    Raises:
        QualityError: a group that breaks the contract.
    """
    key, now = staged.table.key[0], F.col("now")
    digest, rank = (
        row_digest(names).alias("digest"),
        (F.col("rank") if ranks else F.lit(1)).cast("bigint").alias("rank"),
    )
    sides = [rows.select(key, digest, rank, F.lit(side).alias("now")) for rows, side in ((old, False), (new, True))]
    groups = sides[0].unionByName(sides[1]).groupBy(key).agg(
        F.bit_xor(F.when(~now, F.col("digest"))).alias("was"),
        F.bit_xor(F.when(now, F.col("digest"))).alias("is"),
        F.count_if(now).alias("rows"),
        F.max(F.when(now, F.col("rank"))).alias("last"),
        F.sum(F.when(now, F.col("rank"))).alias("ranks"),
        F.sum(F.when(now, F.col("rank") * F.col("rank"))).alias("squares"),
    )  # fmt: skip
    was, new_one = F.col("was"), F.col("is")
    wrong = [F.col(name) != value for name, value in ranks.items()] or [F.col("rows") > 1]
    row = groups.agg(
        F.count_if(was.isNull()).alias("added"),
        F.count_if(was.isNotNull() & new_one.isNotNull() & (was != new_one)).alias("changed"),
        F.count_if(new_one.isNull()).alias("removed"),
        F.min(F.when(new_one.isNotNull() & reduce(Column.__or__, wrong), F.col(key))).alias("broken"),
    ).collect()[0]
    if row["broken"] is not None:
        raise QualityError(
            f"table '{staged.table.name}' would break its contract at {key} '{row['broken']}': "
            f"{', '.join(staged.table.key)} are not unique; nothing was published"
        )
    return {kind: row[kind] for kind in KINDS}


def _check_lists(staged: Staged, *, by_score: bool) -> None:
    """Refuse what the tasks found in their lists. Those of ``diversity`` are not in the order of scores."""
    meant = {"not_a_number": "scores that are no numbers", "twice": "an item twice in a list"}
    meant |= {"not_in_order": "a score above that of the rank before it"} if by_score else {}
    for name, meaning in meant.items():
        if number := sum(note.get("list_faults", {}).get(name, 0) for note in staged.notes):
            raise QualityError(
                f"table '{staged.table.name}' would hold {meaning} ({number:,} places); nothing was published"
            )
