"""Items and users as of a day: the item blocks and the user rows that the ranked scorer reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import SMALL_BLOCK_ROWS, cached_blocks
from recsys_spark.events.history import History
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.events.trust import distrusted
from recsys_spark.events.weights import EventWeights, weigh_pairs
from recsys_spark.hybrid.sparse_histories import histories
from recsys_spark.publish.steps.publishing import InputVersions
from recsys_spark.ranking.candidate_search import ITEM_COLUMNS
from recsys_spark.ranking.inputs import ranked_items, ranked_users
from recsys_spark.ranking.options import AutoOptions
from recsys_spark.ranking.statistics import trusted_statistics, user_item_statistics
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, RECOMMENDATIONS, USER_RISK


@dataclass(frozen=True)
class CutItems:
    """What the item blocks of a cut are made from.

    Args:
        items: rows of the table ``items``.
        vectors: rows of the table ``item_vectors``.
        weights: reads or computes rows of ``item_weights``.
        source: provenance of these.
        by: column of items whose values the lists must match.
        day: day on which items must be available; None for all items.
        with_rules: adds the columns that rules of lists need.
    """

    items: DataFrame
    vectors: DataFrame
    weights: Callable[[], DataFrame]
    source: Mapping[str, Any]
    by: str | None = None
    day: date | None = None
    with_rules: Callable[[DataFrame], DataFrame] = lambda rows: rows


@dataclass(frozen=True)
class Cut:
    """The lake as of a day: only events before it count.

    Args:
        run: the run.
        inputs: pins the events.
        options: of the ranker.
        before: the day.
        weighting: event weights and history of the scores.
    """

    run: Run
    inputs: InputVersions
    options: AutoOptions
    before: date
    weighting: tuple[EventWeights, History]

    @property
    def positive(self) -> Column:
        """Whether an event speaks for its item."""
        return is_positive_event(self.options.event_weights, self.options.min_rating)

    @property
    def events(self) -> DataFrame:
        """The events before the day."""
        return events_before(self.inputs.frame(self.run, EVENTS), self.before)

    @property
    def pairs(self) -> DataFrame:
        """``user_item_statistics`` of the day, with the trust in users if it is pinned."""
        pairs = user_item_statistics(self.events, self.before, self.positive)
        return trusted_statistics(pairs, self.inputs.frame(self.run, USER_RISK)) if self.has_trust else pairs

    @property
    def has_trust(self) -> bool:
        """Whether events count by the trust in their users."""
        return USER_RISK.name in self.inputs.versions

    @property
    def trusted_events(self) -> DataFrame:
        """The events before the day of users who are fully trusted: the ranker learns from no others."""
        if not self.has_trust:
            return self.events
        others = distrusted(self.inputs.frame(self.run, USER_RISK)).select("user_id")
        return self.events.join(others, on="user_id", how="left_anti")

    def users(self, ids: DataFrame, only: DataFrame | None = None) -> DataFrame:
        """``ranked_users`` of the day. ``only``: ``user_id`` of the few users in ``ids``, if they are few."""
        events = (
            self.events if only is None else self.events.join(only.select("user_id"), on="user_id", how="left_semi")
        )
        pairs = user_item_statistics(events, self.before, self.positive)
        return ranked_users(ids, pairs, histories(weigh_pairs(events, self.before, *self.weighting)))

    def blocks(self, items: CutItems) -> ItemBlocks:
        """The item blocks of the day, cached until one of their inputs changes."""
        source = {
            **items.source,
            "events": self.inputs.content_ids[EVENTS.name],
            "before": str(self.before),
            "positive": [dict(self.options.event_weights), self.options.min_rating],
            "popular": [self.options.popular_items, items.by, str(items.day)],
        }
        if self.has_trust:
            source["trust"] = self.inputs.content_ids[USER_RISK.name]

        def build() -> tuple[DataFrame, None]:
            most = self.options.popular_items
            rows = ranked_items(items.items, items.vectors, items.weights(), self.pairs, most, items.by, items.day)
            return items.with_rules(rows), None

        columns = ITEM_COLUMNS
        return cached_blocks(self.run, RECOMMENDATIONS, source, SMALL_BLOCK_ROWS, build, extra_columns=columns)
