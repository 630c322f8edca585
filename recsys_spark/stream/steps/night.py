"""The last night, as a stream reads it: its tables, the settings in its commits, its packed items."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.block_files import mark_used
from recsys_spark.errors import InputError, UsageError
from recsys_spark.events.history import History
from recsys_spark.events.weights import EventWeights
from recsys_spark.lake.provenance import Provenance
from recsys_spark.privacy.rules import Tombstones
from recsys_spark.privacy.steps.tombstones import tombstones
from recsys_spark.profiles.steps.build_profiles import pooled_blocks, user_text_vectors
from recsys_spark.publish.steps.publishing import InputVersions, pin_inputs
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.cosine_lists import cosine_blocks
from recsys_spark.recommend.steps.hybrid_lists import hybrid_blocks
from recsys_spark.recommend.steps.list_request import ListRequest
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.steps.sorted_rows import SortedRows, sorted_copy
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    FORGOTTEN,
    ITEM_VECTORS,
    ITEM_WEIGHTS,
    RECOMMENDATIONS,
    USER_PROFILES,
    USER_RULES,
    USERS,
    Table,
)

_LIST_SETTINGS = ("k", "min_score", "quota", "quota_on", "match_on", "diversity", "diversify_from")

_WATCHED = (RECOMMENDATIONS, FORGOTTEN)
"""A night publishes its lists last: until then the stream goes on from the night before."""


@dataclass
class Night:
    """The tables and settings of the last night. A stream opens the next one between two batches."""

    run: Run
    inputs: InputVersions
    profiles: Provenance
    lists: Provenance
    request: ListRequest
    name: str
    """The versions by which a later night is recognised, for commits too."""
    sequence: int
    """The last commit of ``streamed_events`` that ``events`` includes; −1: none."""

    @classmethod
    def open(cls, run: Run) -> "Night":
        """Pin the tables of the last night.

        Raises:
            InputError: a table is missing.
            UsageError: the night was made with settings that cannot be kept up event by event.
        """
        name, events = _newest(run), run.lake.last_commit(EVENTS)
        # Read before the events are pinned: an event that is in both counts once, one in neither would be lost.
        streamed = None if events is None else events.provenance.streamed
        inputs = pin_inputs(run, RECOMMENDATIONS, USER_PROFILES, EVENTS, USERS, ITEM_VECTORS, EMBEDDINGS)
        commits = [run.lake.last_commit(table) for table in (USER_PROFILES, RECOMMENDATIONS)]
        profiles, lists = (commit.provenance for commit in commits if commit is not None)
        if lists.run_date is None:
            raise InputError("the lists were not made by this release: run the refresh again")
        _check_settings(profiles, lists)
        options = _list_options(run, lists)
        scored = ITEM_WEIGHTS if options.scorer == "hybrid" else ITEM_VECTORS
        request = ListRequest.pin(run, options, scored)
        return cls(run, inputs, profiles, lists, request, name, -1 if streamed is None else streamed)

    @property
    def is_last(self) -> bool:
        """Whether no later night has been published, and nobody was forgotten since."""
        return _newest(self.run) == self.name

    @property
    def run_date(self) -> date:
        """Of its lists."""
        assert self.lists.run_date is not None
        return self.lists.run_date

    @property
    def until(self) -> date:
        """Only events before this day count: ingest accepts those of the day after ``run_date`` too, no later ones."""
        return self.run_date + timedelta(days=2)

    @property
    def is_hybrid(self) -> bool:
        """Whether live lists are by item weights; else by profiles."""
        return self.request.options.scorer == "hybrid"

    @property
    def model(self) -> str:
        """The column ``model`` of its lists."""
        return f"hybrid-{self.request.key.partition(':')[2][:8]}" if self.is_hybrid else self.space[0]

    @property
    def profile_settings(self) -> tuple[EventWeights, History]:
        """Event weights and history of profiles."""
        return EventWeights(**(self.profiles.weights or {})), History(**(self.profiles.history or {}))

    @property
    def list_settings(self) -> tuple[EventWeights, History]:
        """Event weights and history of lists by item weights."""
        return EventWeights(**(self.lists.weights or {})), History(**(self.lists.history or {}))

    @cached_property
    def space(self) -> tuple[str, int]:
        """Name and dimension of the vector space."""
        first = self.inputs.frame(self.run, ITEM_VECTORS).select("model", F.size("embedding")).first()
        if first is None:
            raise InputError("table 'item_vectors' is empty: run build_item_vectors first")
        return first[0], first[1]

    @cached_property
    def pooled_items(self) -> ItemBlocks:
        """The packed items that profiles are sums of."""
        return pooled_blocks(self.run, self.inputs)

    @cached_property
    def listed_items(self) -> ItemBlocks:
        """The packed items that lists are chosen from."""
        return hybrid_blocks(self.request) if self.is_hybrid else cosine_blocks(self.request)

    @cached_property
    def events(self) -> SortedRows:
        """Its events by user."""
        return self._sorted(EVENTS, lambda rows: rows)

    @cached_property
    def text_vectors(self) -> SortedRows | None:
        """``user_id, embedding`` of users' texts, by user; None if texts do not count."""
        if not self.profiles.user_text_weight:
            return None
        run, inputs = self.run, self.inputs
        source = {name: inputs.content_ids[name] for name in (USERS.name, EMBEDDINGS.name)} | {"space": self.space[0]}
        users, embeddings = inputs.frame(run, USERS), inputs.frame(run, EMBEDDINGS)
        rows = run.lake.rows(USERS)
        return sorted_copy(run, "texts", source, lambda: user_text_vectors(run, users, embeddings, self.space[0]), rows)

    @cached_property
    def user_rules(self) -> SortedRows | None:
        """``user_id, item_id, rule``, by user; None if there are none."""
        if not self.request.has(USER_RULES) or not self.run.lake.rows(USER_RULES):
            return None
        return self._sorted(USER_RULES, lambda rows: rows)

    @cached_property
    def match_keys(self) -> SortedRows | None:
        """``user_id, match_key``, by user; None if lists match on nothing."""
        name = self.request.options.match_on
        return (
            self._sorted(USERS, lambda rows: rows.select("user_id", F.col(name).alias("match_key"))) if name else None
        )

    @cached_property
    def tombstones(self) -> Tombstones | None:
        """Who was forgotten."""
        return tombstones(self.run)

    def prepare(self) -> None:
        """Make the copies that batches read, so that the first batch is not the slowest, and keep them for two days."""
        for copy in (self.events, self.text_vectors, self.user_rules, self.match_keys):
            if copy is not None:
                copy.mark_used()
        for items in (self.pooled_items, self.listed_items):
            mark_used(items.uri)

    def _sorted(self, table: Table, select: Any) -> SortedRows:
        inputs = self.inputs if table.name in self.inputs.versions else self.request.inputs
        frame: DataFrame = select(inputs.frame(self.run, table))
        source = {"content": inputs.content_ids[table.name], "columns": frame.columns}
        return sorted_copy(self.run, table.name, source, lambda: frame, self.run.lake.rows(table))


def _newest(run: Run) -> str:
    """The newest versions of the watched tables in one text."""
    commits = [run.lake.last_commit(table) for table in _WATCHED]
    return " ".join("none" if commit is None else f"{commit.identity}@{commit.version}" for commit in commits)


def _check_settings(profiles: Provenance, lists: Provenance) -> None:
    """Refuse what depends on the events of others, or on more than a stream has."""
    refused = {
        "segment_weight": profiles.segment_weight,
        "sif": (profiles.history or {}).get("sif") or (lists.history or {}).get("sif"),
        "ignored_weight": profiles.ignored,
        "interests": lists.interests,
        "trust_weights": profiles.settings.get("trust_weights") or lists.settings.get("trust_weights"),
        "approximate": lists.settings.get("approximate"),
        "exposure_floor, exposure_evenness or calibration": lists.settings.get("fairness"),
        "freshness": lists.settings.get("freshness"),
        "rules_file": lists.settings.get("rules"),
    }
    if names := [name for name, value in refused.items() if value]:
        raise UsageError(
            f"the last night was made with {', '.join(names)}, which a stream cannot keep up: its profiles or lists "
            "depend on more than a stream has. Run the refresh without, or without the stream"
        )
    if lists.scorer not in (None, "hybrid", "auto"):
        raise UsageError(f"the lists of the last night are by the {lists.scorer} scorer, which a stream does not have")


def _list_options(run: Run, lists: Provenance) -> TopKOptions:
    """The options of its lists. Those by the ranker, which learns from the last days of everybody, are kept up by item
    weights, for which a user's own events are enough."""
    named = lists.to_json()
    settings = {name: named[name] for name in _LIST_SETTINGS if named.get(name) is not None}
    settings |= {"lake": run.lake.uri, "run_date": lists.run_date, "scorer": "hybrid" if lists.scorer else "cosine"}
    return TopKOptions(**settings)
