"""Print one user's event log, profile, list and reasons."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as View

from recsys_spark.errors import InputError, UsageError
from recsys_spark.explain.options import ReasonOptions
from recsys_spark.explain.steps.reasons import Sources, explanation, sources
from recsys_spark.lake.lake import Commit
from recsys_spark.privacy.options import UserKeyOptions
from recsys_spark.privacy.steps.user_key import stored_user_id
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, TABLES

_TOLERANCE = 1e-5


class ExplainUserOptions(UserKeyOptions, ReasonOptions):
    """Explained user."""

    user_id: str = Field(
        description="id of the user whose list is explained; in a lake of pseudonyms a pseudonym, or "
        "with user_key the raw id"
    )
    explain: int = Field(3, ge=1, description="number of reasons printed for every row of the list")
    events: int = Field(
        10, ge=1, description="maximum number of events of the log, and of items of the profile, to print"
    )


def explain_user(run: Run, options: ExplainUserOptions) -> Report:
    """Print one user's newest events, heaviest profile items, and list with reasons.

    Raises:
        InputError: the user has no list, or the lists are older than the tables that they were computed from.
    """
    options = options.model_copy(update={"user_id": stored_user_id(run, options.user_id, options.user_key)})
    commit, inputs = _lists_and_inputs(run)
    lists = run.lake.read(run.spark, RECOMMENDATIONS, commit.version).where(F.col("user_id") == options.user_id)
    first = lists.select("run_date", "model").first()
    if first is None:
        raise InputError(
            f"the user that --user_id names has no list in lake {run.lake.uri}: see table 'recommendations'"
        )  # without the id: the status file of a run keeps its errors
    if options.dry_run:
        return {"tables": {}}
    with run.progress.step(f"explain the list of user {options.user_id}"):
        titles = inputs.frame(run, ITEMS).select("item_id", "title") if ITEMS.name in inputs.versions else None
        if commit.provenance.scorer == "auto":
            explained, profile = _stored(lists), list[dict[str, Any]]()
            events = events_before(inputs.frame(run, EVENTS), first["run_date"])
        else:
            terms = sources(run, inputs, commit.provenance)
            users, transform = explanation(terms, options, lists, first.asDict(), options.user_id)
            explained = users.mapInArrow(lambda batches: transform(batches, {}), RECOMMENDATIONS.ddl)
            events, profile = terms.events, _profile(terms, titles, options)
        rows = [row.asDict(recursive=True) for row in _titled(explained, titles).orderBy("rank").collect()]
        log = _log(events, titles, options)
    for row in rows:
        row["sum"] = math.fsum(reason["contribution"] for reason in row["reasons"])
    _print(options, log, profile, rows)
    error = max(abs(row["sum"] - row["score"]) for row in rows)
    columns = ("item_id", "title", "rank", "score", "sum", "reasons")
    return {
        "tables": {},
        "lists_of": str(first["run_date"]),
        "largest_error": error,
        "adds_up": error <= _TOLERANCE,
        PERSONAL: {"user_id": options.user_id, "list": [{name: row[name] for name in columns} for row in rows]},
    }


def _lists_and_inputs(run: Run) -> tuple[Commit, InputVersions]:
    """The commit of the published lists, and the current versions of their input tables.

    Raises:
        InputError: the inputs of the lists are unknown, or have changed since.
    """
    pin_inputs(run, RECOMMENDATIONS)
    commit = run.lake.last_commit(RECOMMENDATIONS)
    if commit is None or commit.provenance.inputs is None:
        raise InputError("table 'recommendations' does not name its inputs: run recommend_items")
    inputs = pin_inputs(run, *(TABLES[name] for name in commit.provenance.inputs))
    stored = commit.provenance.inputs
    changed = sorted(name for name, content in stored.items() if inputs.content_ids[name] != content)
    if changed:
        raise InputError(f"the lists are older than {', '.join(changed)}: run recommend_items, then explain_user")
    return commit, inputs


def _stored(lists: DataFrame) -> DataFrame:
    """Ranked lists with the reasons that they were published with.

    Raises:
        UsageError: they were published without.
    """
    if lists.where("reasons is null").limit(1).count():
        raise UsageError(
            "the lists of the scorer 'auto' were made without reasons: run recommend_items with --explain=3 and "
            "--full=true, then explain_user"
        )
    return lists


def _titled(rows: DataFrame, titles: DataFrame | None) -> DataFrame:
    if titles is None:
        return rows.withColumn("title", F.col("item_id"))
    joined = rows.join(titles, on="item_id", how="left")
    return joined.withColumn("title", F.coalesce("title", "item_id"))


def _log(events: DataFrame, titles: DataFrame | None, options: ExplainUserOptions) -> list[dict[str, Any]]:
    events = events.where(F.col("user_id") == options.user_id)
    newest = events.orderBy(F.desc("timestamp"), "item_id").limit(options.events)
    # The day as text: Python would see a timestamp in the time zone of the machine.
    dated = _titled(newest, titles).withColumn("day", F.date_format("timestamp", "yyyy-MM-dd"))
    return [row.asDict() for row in dated.orderBy(F.desc("timestamp"), "item_id").collect()]


def _profile(terms: Sources, titles: DataFrame | None, options: ExplainUserOptions) -> list[dict[str, Any]]:
    """The items of greatest absolute weight, the highest weight first."""
    pairs = terms.pairs.where(F.col("user_id") == options.user_id)
    heaviest = pairs.orderBy(F.desc(F.abs("weight")), "item_id").limit(options.events)
    return [row.asDict() for row in _titled(heaviest, titles).orderBy(F.desc("weight"), "item_id").collect()]


def _print(
    options: ExplainUserOptions,
    log: Sequence[Mapping[str, Any]],
    profile: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    console = Console(width=110, highlight=False, markup=False)  # titles must not be read as markup
    console.print(_view(f"User {options.user_id}: newest events", ("when", "event", "value", "item"), _events(log)))
    weights = [(f"{row['weight']:+.3f}", str(row["events"]), row["title"]) for row in profile]
    if weights:
        console.print(_view("Profile: items of greatest weight", ("weight", "events", "item"), weights))
    title = "Recommendations: contribution of each reason to the score, its share, and its feature blocks"
    console.print(title, style="bold")
    for row in rows:
        line = f"{row['rank']}. {row['title']}: score {row['score']:.4f}, reasons add up to {row['sum']:.4f}"
        console.print()
        console.print(_plain(line))
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
        text = _plain(reason["sentence"]) + f"\n  {_blocks(reason)}" * (len(reason["blocks"]) > 1)
        view.add_row(f"{reason['contribution']:+.4f}", f"{100 * reason['share']:+.1f} %", text)
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
    """Replace control characters: a title must not move the cursor of a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
