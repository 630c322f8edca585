"""Profiles and lists of the users of a batch → live_profiles, live_recommendations."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.events.weights import weigh_pairs
from recsys_spark.hybrid.history_scorer import HistoryScorer
from recsys_spark.hybrid.sparse_histories import histories
from recsys_spark.ingest.validation import unique_events
from recsys_spark.lake.lake import Staged
from recsys_spark.profiles.profiles import pool_items, profile_rows
from recsys_spark.publish.steps.scratch import TempTable, materialized
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.live import live_list_rows, live_profile_rows
from recsys_spark.stream.steps.night import Night
from recsys_spark.stream.steps.recent_events import RecentEvents
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import LIVE_PROFILES, LIVE_RECOMMENDATIONS
from recsys_spark.tables.task_stream import ArrowTransform
from recsys_spark.topk.join import list_rows, users_with_rules
from recsys_spark.topk.lists import HISTORY_COLUMNS
from recsys_spark.topk.profile_scorer import ProfileScorer
from recsys_spark.topk.rules import allowed, denied


@dataclass(frozen=True)
class StagedLists:
    """Rows for the live tables, staged, and the number of users and of their events."""

    profiles: Staged
    lists: Staged
    users: int
    events: int


def staged_lists(run: Run, night: Night, recent: RecentEvents, users: TempTable, sequence: int) -> StagedLists:
    """Make and stage the profiles and lists of ``users`` (``user_id``, each once), from all of their events.

    Not by adding to the stored profile: so a late or a repeated event, sessions and decay by newer events give what the
    night gives. The work grows with these users and their events, and with the number of items.
    """
    maker = _Maker(run, night, users)
    with materialized(run, _events_of(night, recent, users, run.cores), broadcast=False) as events:
        profiles = run.lake.stage(maker.profiles(events.frame, sequence), LIVE_PROFILES)
        scored = maker.histories(events.frame) if night.is_hybrid else maker.stored_profiles(profiles)
        with_rules = users_with_rules(maker.with_keys(scored), *maker.seen_and_allowed(events.frame), run.cores)
        lists = run.lake.stage(with_rules, LIVE_RECOMMENDATIONS, _join(night, sequence))
        return StagedLists(profiles, lists, users.rows, events.rows)


def _events_of(night: Night, recent: RecentEvents, users: TempTable, tasks: int) -> DataFrame:
    """All events of ``users`` that count, each key once: those of the night, and those that were streamed since."""
    both = night.events.of(users, tasks).unionByName(recent.of(users, tasks))
    return unique_events(events_before(both, night.until)).drop("rows")


def _join(night: Night, sequence: int) -> ArrowTransform:
    options, items = night.request.options, night.listed_items
    scorer = HistoryScorer if night.is_hybrid else ProfileScorer
    join = list_rows(items, options.k, night.request.rules(items), options.user_block_rows, scorer=scorer)
    return live_list_rows(join, {"run_date": night.run_date, "model": night.model, "sequence": sequence})


@dataclass(frozen=True)
class _Maker:
    """Makes the rows of ``users`` from their events."""

    run: Run
    night: Night
    users: TempTable

    def profiles(self, events: DataFrame, sequence: int) -> DataFrame:
        """Rows of ``live_profiles``."""
        night, tasks = self.night, self.run.cores
        weights, history = night.profile_settings
        pairs = weigh_pairs(events, night.until, weights, history)
        space, dimension = night.space
        texts = night.text_vectors
        vectors = (
            self.users.frame.select("user_id", F.lit(None).cast("array<float>").alias("embedding")).limit(0)
            if texts is None
            else texts.of(self.users, tasks)
        )
        profiles = profile_rows(
            pool_items(pairs, night.pooled_items, tasks=tasks),
            vectors,
            space,
            dimension=dimension,
            prior=night.profiles.user_text_weight or 0.0,
        )
        return live_profile_rows(self.users.frame, profiles, night.run_date, sequence)

    def histories(self, events: DataFrame) -> DataFrame:
        """``user_id`` and HISTORY_COLUMNS of all users; empty without an event that counts."""
        weights, history = self.night.list_settings
        found = histories(weigh_pairs(events, self.night.until, weights, history))
        empty = {name: F.coalesce(name, F.array().cast(kind)) for name, kind in HISTORY_COLUMNS.items()}
        return self.users.frame.join(found, on="user_id", how="left").withColumns(empty)

    def stored_profiles(self, profiles: Staged) -> DataFrame:
        """``user_id, embedding`` as they are stored, in float32."""
        return self.run.lake.read_staged(self.run.spark, profiles).select("user_id", "embedding")

    def with_keys(self, rows: DataFrame) -> DataFrame:
        """Add ``match_key`` if lists match on it."""
        keys = self.night.match_keys
        return rows if keys is None else rows.join(keys.of(self.users, self.run.cores), on="user_id", how="left")

    def seen_and_allowed(self, events: DataFrame) -> tuple[DataFrame, DataFrame | None]:
        """``user_id, item_id`` that must not be listed, and of the only items that may be (None: all)."""
        seen, rules = events.select("user_id", "item_id"), self.night.user_rules
        if rules is None:
            return seen, None
        of_users = rules.of(self.users, self.run.cores)
        return denied(seen, of_users), allowed(of_users)
