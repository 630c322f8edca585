"""Events of the days before the run date → the ranker of its lists."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.arrow import matrix
from recsys_spark.publish.steps.scratch import materialized
from recsys_spark.ranking.inputs import example_users, users_by_days
from recsys_spark.ranking.kernels.choice import FEWEST_USERS, Choice, choose, fallback
from recsys_spark.ranking.kernels.features import FEATURES
from recsys_spark.ranking.kernels.selection import Examples
from recsys_spark.ranking.ranked_scorer import EXAMPLE_DDL, example_rows
from recsys_spark.ranking.steps.cut import Cut, CutItems
from recsys_spark.topk.join import users_with_rules
from recsys_spark.topk.lists import ListRules

_LENGTHS = (7, 14, 30, 60, 90, 180, 365)

_ENOUGH_USERS = 150

_WINDOWS = 3
"""Windows that the ranker learns from. The newest one chooses it."""

_MOST_OF_THE_LOG = 0.8

_NEGATIVES = 100

_VALID_USERS = 2_000


def train_ranker(
    cut: Cut, log_days: int, items: CutItems, weights_before: Callable[[date], DataFrame], k: int
) -> Choice:
    """Train the ranker on windows of days before the cut, or choose a simple one that makes better lists.

    The examples of a window know only events before it, and its item weights those before it or an older window.

    Args:
        cut: the day of the lists.
        log_days: days from the first event to the cut.
        items: of the lists; their weights are not used.
        weights_before: fits item weights on the events before a day.
        k: length of the lists.
    """
    run, options = cut.run, cut.options
    days, users = _window(cut, log_days)
    if users < FEWEST_USERS:
        return fallback(options.repeats)
    starts = [cut.before - timedelta(days=days * number) for number in range(_WINDOWS, 0, -1)]
    with ExitStack() as stack:

        @cache
        def weights(day: date) -> DataFrame:
            return stack.enter_context(materialized(run, weights_before(day))).frame

        def items_of(day: date) -> CutItems:
            source = {**items.source, "weights_before": str(day)}
            return CutItems(items.items, items.vectors, lambda: weights(day), source)

        days_of_weights = _days_of_weights(cut, starts)
        windows = [
            _examples(replace(cut, before=start), items_of(day), days, number)
            for number, (start, day) in enumerate(zip(starts, days_of_weights, strict=True))
        ]
    train = windows[0]
    for window in windows[1:-1]:
        train = train.with_others(window)
    choice = choose(train, windows[-1], k, repeats=options.repeats, negatives=_NEGATIVES, seed=options.ranker_seed)
    return replace(choice, figures={"window_days": days, **choice.figures})


def _window(cut: Cut, log_days: int) -> tuple[int, int]:
    """(days of a window, users who chose something in the newest one).

    A window is at most a quarter of the log, so that something is before the oldest one.
    """
    longest = max(1, log_days // (_WINDOWS + 1))
    lengths = [days for days in _LENGTHS if days < longest] + [min(longest, _LENGTHS[-1])]
    if cut.options.window_days is not None:
        lengths = [cut.options.window_days]
    users = users_by_days(cut.events, cut.positive, cut.before, lengths).collect()[0]["users"]
    enough = [(days, count) for days, count in zip(lengths, users, strict=True) if count >= _ENOUGH_USERS]
    return enough[0] if enough else (lengths[-1], users[-1])


def _days_of_weights(cut: Cut, starts: list[date]) -> list[date]:
    """For each window, the day before which events make its item weights.

    One fit, of the oldest window, serves all where the log has grown little since. In a short log that fit is much
    worse than the one of the lists: a ranker that learned from it would trust the scores of the lists too little.
    """
    is_old = F.col("timestamp") < F.lit(str(starts[0])).cast("timestamp")
    old, events = cut.events.agg(F.count_if(is_old), F.count("*")).collect()[0]
    return starts if old < _MOST_OF_THE_LOG * events else starts[:1] * len(starts)


def _examples(start: Cut, items: CutItems, days: int, number: int) -> Examples:
    """The examples of the window of ``days`` that begins at a cut; of the newest one with all candidates."""
    run, options = start.run, start.options
    newest = number == _WINDOWS - 1
    most = _VALID_USERS if newest else max(1, options.ranker_users // (_WINDOWS - 1))
    end = replace(start, before=start.before + timedelta(days=days))
    ids = example_users(end.trusted_events, start.before, start.positive, most, options.ranker_seed)
    with materialized(run, ids, broadcast=False) as sample:
        rows = start.users(sample.frame, only=sample.frame)
        transform = example_rows(start.blocks(items), options.history_items, ListRules(), 0 if newest else _NEGATIVES)
        table = (
            users_with_rules(rows, None, None, 2 * run.cores)
            .mapInArrow(lambda batches: transform(batches, {}), EXAMPLE_DDL)
            .toArrow()
        )
    return _sorted(table)


def _sorted(table: pa.Table) -> Examples:
    """Examples in an order that partitions do not change."""
    users, items = (table[name].to_numpy() for name in ("user", "item"))
    order = np.lexsort((items, users))
    features = matrix(table["features"]) if len(table) else np.empty((0, len(FEATURES)), np.float32)
    relevant, had = (table[name].to_numpy()[order].astype(bool) for name in ("relevant", "had"))
    wanted, new = (table[name].to_numpy()[order] for name in ("wanted", "wanted_new"))
    return Examples(users[order], items[order], features[order], relevant, had, wanted, new)
