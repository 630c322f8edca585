"""Events, items and users → the default lists: candidates of several sources, ranked by one small model."""

from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import functions as F

from recsys_spark.errors import UsageError
from recsys_spark.events.options import EventOptions
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.hybrid.steps.fit_item_weights import weights_before
from recsys_spark.publish.steps.partial_rewrite import partial_rewrite
from recsys_spark.publish.steps.previous_run import FullRebuild, Previous, previous
from recsys_spark.publish.steps.publishing import Report, pin_inputs
from recsys_spark.ranking.inputs import all_users
from recsys_spark.ranking.options import RankerOptions
from recsys_spark.ranking.ranked_scorer import USER_ROWS, RankedScorerFactory, task_bytes
from recsys_spark.ranking.steps.cut import Cut, CutItems
from recsys_spark.ranking.steps.train_ranker import train_ranker
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.cosine_lists import cosine_lists
from recsys_spark.recommend.steps.list_request import ListRequest, task_totals
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    ITEM_RISK,
    ITEM_VECTORS,
    ITEM_WEIGHTS,
    ITEMS,
    RECOMMENDATIONS,
    TABLES,
    USER_RISK,
    USERS,
)
from recsys_spark.tables.task_stream import ArrowTransform
from recsys_spark.topk.join import list_rows
from recsys_spark.topk.steps.join_plan import tasks_for

_NEEDED = (EVENTS, ITEMS, USERS, ITEM_VECTORS, EMBEDDINGS)


def auto_lists(run: Run, options: TopKOptions) -> Report:
    """Publish a list for every user of the table ``users`` and of the events, and one for anyone else.

    Without an event that speaks for an item before the run date there is nothing to learn from: lists are by cosine.

    Raises:
        UsageError: options that need vectors.
    """
    _check_no_vectors_needed(options)
    fitted = [ITEM_WEIGHTS] if run.lake.version(ITEM_WEIGHTS) is not None else []
    trust = [USER_RISK, ITEM_RISK] if options.trust_weights else []
    request = ListRequest.pin(run, options, *_NEEDED, *fitted, *trust, **_settings(options))
    if (report := request.published()) is not None:
        return report
    check_event_types(run, request.inputs, options)
    log = _log(request)
    if log is None:
        run.progress.note(f"no event before {options.run_date} speaks for an item: lists by cosine")
        return cosine_lists(run, options)
    pin_inputs(run, ITEM_WEIGHTS)  # or the error that names it
    if options.dry_run:
        return {"tables": {}}
    request = request.marked(f"auto-{request.key.partition(':')[2][:8]}")
    last = _last_lists(request, log)
    return _same_lists(request, last) if isinstance(last, Previous) else _all_lists(request, log, last)


@dataclass(frozen=True)
class _Log:
    """The days of the events before the run date.

    Ages are counted from ``end``, the day after the last event, so that a night without new events changes no list.
    """

    end: date
    days: int


def _settings(options: TopKOptions) -> dict[str, Any]:
    weights, history = options.hybrid_history
    names = {*RankerOptions.model_fields} - {*EventOptions.model_fields}
    ranker = options.model_dump(mode="json", include=names)
    return {
        "scorer": "auto",
        "weights": asdict(weights),
        "history": history.settings(),
        "ranker": ranker | {"fit": asdict(options.weight_fit)},
        **({"trust_weights": True} if options.trust_weights else {}),
    }


def _log(request: ListRequest) -> _Log | None:
    """The days of the log; None if no event speaks for an item."""
    options, day = request.options, F.to_date("timestamp")
    events = events_before(request.frame(EVENTS), options.run_date)
    positive = is_positive_event(options.event_weights, options.min_rating)
    first, last, positives = events.agg(F.min(day), F.max(day), F.count_if(positive)).collect()[0]
    return _Log(last + timedelta(days=1), (last - first).days + 1) if positives else None


def _last_lists(request: ListRequest, log: _Log) -> Previous | FullRebuild:
    """The last lists, if nothing has changed that lists depend on, or the reason to make all."""
    if request.options.full:
        return FullRebuild("--full asks for it")
    last = previous(request.run, RECOMMENDATIONS, request.provenance)
    if isinstance(last, FullRebuild):
        return last
    if last.commit.outcome.more.get("events_until") != str(log.end):
        return FullRebuild("the ranker depends on all events")
    for name in request.inputs.versions:
        if not last.saw(TABLES[name], request.inputs):
            return FullRebuild(f"table '{name}' has changed, and the ranker depends on all of it")
    if request.options.freshness or (request.book is not None and request.book.names_run_date):
        return FullRebuild("freshness or a rule depends on the day")
    limits = request.frame(ITEMS).where("available_from is not null or available_until is not null")
    return last if limits.isEmpty() else FullRebuild("items have days of availability")


def _same_lists(request: ListRequest, last: Previous) -> Report:
    """Publish the last lists with the new date: nothing that they depend on has changed."""
    new_date = {"run_date": pa.scalar(request.options.run_date, pa.date32())}
    rewrite = partial_rewrite(last, request.key, None, None, new_date)
    figures = dict(last.commit.outcome.more)
    return request.publish(rewrite.staged, "none", figures, parts=(rewrite.old, rewrite.new))


def _all_lists(request: ListRequest, log: _Log, rebuild: FullRebuild) -> Report:
    """Train the ranker and publish the lists of all users."""
    run, options = request.run, request.options
    cut = Cut(run, request.inputs, options, log.end, options.hybrid_history)
    items = CutItems(
        request.frame(ITEMS),
        request.frame(ITEM_VECTORS),
        lambda: request.frame(ITEM_WEIGHTS),
        request.item_source(ITEM_WEIGHTS, ITEM_VECTORS) | {"fit": asdict(options.weight_fit)},
        options.match_on,
        options.run_date,
        request.with_item_rules,
    )
    with run.progress.step("train the ranker"):
        fit = partial(weights_before, run, request.inputs, options)
        choice = train_ranker(cut, log.days, items, fit, options.k)
    run.progress.note(f"lists by {choice.figures['ranker']}; {choice.description}")
    blocks = cut.blocks(items)
    ids = all_users(request.frame(USERS), cut.events)
    tasks, rules = tasks_for(run, options, run.lake.rows(USERS)), request.rules(blocks)
    memory = task_bytes(blocks, options.history_items)
    run.progress.note(f"{blocks.rows:,} items in {tasks} tasks; about {memory / 1e6:,.0f} MB of Python memory per task")
    scorer = RankedScorerFactory(choice.ranker, options.history_items, options.explain, options.language)
    rows = min(USER_ROWS, options.user_block_rows)
    lists = list_rows(blocks, request.depth, rules, rows, request.constant_columns, scorer=scorer)
    transform: ArrowTransform = lambda batches, stats: (  # noqa: E731
        batch.select(list(RECOMMENDATIONS.columns)) for batch in lists(batches, stats)
    )
    users = request.with_user_rules(cut.users(ids), tasks, repeats=choice.repeats)
    staged = run.lake.stage(users, RECOMMENDATIONS, transform)
    staged, fairness = request.reranked(staged)
    figures = {"events_until": str(cut.before), "ranking": dict(choice.figures)} | fairness
    report = request.publish(staged, str(rebuild), figures)
    return report | task_totals(staged.stats, blocks) | {"task_memory_mb": round(memory / 1e6)}


def _check_no_vectors_needed(options: TopKOptions) -> None:
    if options.interests > 1:
        raise UsageError("--interests needs the cosine scorer: add --scorer=cosine, or leave --interests out")
    for name in ("approximate", "diversity"):
        if getattr(options, name):
            raise UsageError(f"--{name} compares vectors: add --scorer=cosine, or leave --{name} out")
