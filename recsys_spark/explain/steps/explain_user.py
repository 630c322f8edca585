"""One user's log, profile, list and reasons, for a person who asks why."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as View

from recsys_spark.errors import InputError
from recsys_spark.explain.options import ReasonOptions
from recsys_spark.explain.steps.reasons import Sources, explanation, sources
from recsys_spark.lake.lake import Commit
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.tables.schemas import ITEMS, RECOMMENDATIONS, TABLES

_TOLERANCE = 1e-5


class ExplainUserOptions(ReasonOptions):
    """Whom to explain, and how much of it."""

    user_id: str = Field(description="whose list is explained")
    explain: int = Field(3, ge=1, description="reasons to show for every row of the list")
    events: int = Field(10, ge=1, description="events of the log, and items of the profile, to show at most")


def explain_user(run: Run, options: ExplainUserOptions) -> Report:
    """Show what the published list of one user is made of.

    Raises:
        InputError: the user has no list, or what the lists were made of is no longer what the lake shows.
    """
    head, known = _made_of(run)
    lists = run.lake.read(run.spark, RECOMMENDATIONS, head.version).where(F.col("user_id") == options.user_id)
    first = lists.select("run_date", "model").first()
    if first is None:
        raise InputError(
            f"the user that --user_id names has no list in lake {run.lake.uri}: see table 'recommendations'"
        )  # without the id: errors stay in the status of a run
    if options.dry_run:
        return {"tables": {}}
    with run.progress.step(f"explain the list of user {options.user_id}"):
        found = sources(run, known, head.provenance)
        titles = known.frame(run, ITEMS).select("item_id", "title") if ITEMS.name in known.versions else None
        users, make = explanation(found, options, lists, first.asDict(), options.user_id)
        told = users.mapInArrow(lambda batches: make(batches, {}), RECOMMENDATIONS.ddl)
        rows = [row.asDict(recursive=True) for row in _titled(told, titles).orderBy("rank").collect()]
        log, profile = _log(found, titles, options), _profile(found, titles, options)
    for row in rows:
        row["sum"] = math.fsum(reason["contribution"] for reason in row["reasons"])
    _show(options, log, profile, rows)
    error = max(abs(row["sum"] - row["score"]) for row in rows)
    wanted = ("item_id", "title", "rank", "score", "sum", "reasons")
    return {
        "tables": {},
        "lists_of": str(first["run_date"]),
        "largest_error": error,
        "adds_up": error <= _TOLERANCE,
        PERSONAL: {"user_id": options.user_id, "list": [{name: row[name] for name in wanted} for row in rows]},
    }


def _made_of(run: Run) -> tuple[Commit, InputVersions]:
    """The published lists, and the tables that they were made of as the lake shows them."""
    pin_inputs(run, RECOMMENDATIONS)
    head = run.lake.last_commit(RECOMMENDATIONS)
    if head is None or head.provenance.inputs is None:
        raise InputError("table 'recommendations' does not say what it was made of: run recommend_items")
    inputs = pin_inputs(run, *(TABLES[name] for name in head.provenance.inputs))
    other = sorted(name for name, state in head.provenance.inputs.items() if inputs.content_ids[name] != state)
    if other:
        raise InputError(f"the lists are older than {', '.join(other)}: run recommend_items, then explain_user")
    return head, inputs


def _titled(rows: DataFrame, titles: DataFrame | None) -> DataFrame:
    if titles is None:
        return rows.withColumn("title", F.col("item_id"))
    both = rows.join(titles, on="item_id", how="left")
    return both.withColumn("title", F.coalesce("title", "item_id"))


def _log(found: Sources, titles: DataFrame | None, options: ExplainUserOptions) -> list[dict[str, Any]]:
    own = found.events.where(F.col("user_id") == options.user_id)
    newest = own.orderBy(F.desc("timestamp"), "item_id").limit(options.events)
    # The day as text: a timestamp reaches Python in the time zone of the machine.
    dated = _titled(newest, titles).withColumn("day", F.date_format("timestamp", "yyyy-MM-dd"))
    return [row.asDict() for row in dated.orderBy(F.desc("timestamp"), "item_id").collect()]


def _profile(found: Sources, titles: DataFrame | None, options: ExplainUserOptions) -> list[dict[str, Any]]:
    """What counts most, for or against."""
    own = found.pairs.where(F.col("user_id") == options.user_id)
    most = own.orderBy(F.desc(F.abs("weight")), "item_id").limit(options.events)
    return [row.asDict() for row in _titled(most, titles).orderBy(F.desc("weight"), "item_id").collect()]


def _show(
    options: ExplainUserOptions,
    log: Sequence[Mapping[str, Any]],
    profile: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    console = Console(width=110, highlight=False, markup=False)  # a title is no markup
    console.print(_view(f"User {options.user_id}: newest events", ("when", "event", "value", "item"), _events(log)))
    weighed = [(f"{row['weight']:+.3f}", str(row["events"]), row["title"]) for row in profile]
    console.print(_view("What counts most in the profile", ("weight", "events", "item"), weighed))
    about = "What is offered: what each reason adds to the score, its share, and the blocks that it is made of"
    console.print(about, style="bold")
    for row in rows:
        offer = f"{row['rank']}. {row['title']}: score {row['score']:.4f}, reasons add up to {row['sum']:.4f}"
        console.print()
        console.print(_plain(offer))
        console.print(_reasons(row["reasons"]))


def _events(log: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (row["day"], row["event_type"], "" if row["value"] is None else f"{row['value']:g}") + (row["title"],)
        for row in log
    ]


def _blocks(reason: Mapping[str, Any]) -> str:
    return ", ".join(f"{block['block']} {block['contribution']:+.4f}" for block in reason["blocks"])


def _reasons(reasons: Sequence[Mapping[str, Any]]) -> View:
    view = View.grid(padding=(0, 2), expand=True)
    for name in ("adds", "share", "reason"):
        view.add_column(name, justify="left" if name == "reason" else "right", ratio=1 if name == "reason" else None)
    for reason in reasons:
        told = _plain(reason["sentence"]) + f"\n  {_blocks(reason)}" * (len(reason["blocks"]) > 1)
        view.add_row(f"{reason['contribution']:+.4f}", f"{100 * reason['share']:+.1f} %", told)
    return view


def _view(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> View:
    view = View(title=_plain(title), title_justify="left", title_style="bold", expand=True)
    for name in names:
        last = name == names[-1]
        view.add_column(name, justify="left" if last else "right", ratio=1 if last else None, no_wrap=not last)
    for row in rows:
        view.add_row(*map(_plain, row))
    return view


def _plain(text: str) -> str:
    """Without control characters: a title must not move the cursor of a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
