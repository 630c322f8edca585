"""What the lists of every scorer need: the tables of rules, users with their rules, figures of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.publish.steps.audit import Parts, publish_audited
from recsys_spark.publish.steps.publishing import InputVersions, Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEMS, USER_RULES, USERS, Table
from recsys_spark.topk.join import users_with_rules
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.rules import allowed, denied, profiles_with_keys


@dataclass(frozen=True)
class ListRequest:
    """A run that makes lists: what it reads, under which key it publishes them, and what they depend on."""

    run: Run
    inputs: InputVersions
    options: TopKOptions
    key: str
    provenance: Provenance
    space: str

    @property
    def constant_columns(self) -> dict[str, Any]:
        """What every row says."""
        return {"run_date": self.options.run_date, "model": self.space}

    def publish(
        self, staged: Staged, made: str, about: dict[str, Any] | None = None, parts: Parts | None = None
    ) -> Report:
        """Audit and publish lists. ``made``: in words which are new; ``about``: what else their commit tells;
        ``parts``: as for ``publish_audited``."""
        provenance, outcome = self.inputs.recorded_in(self.provenance), Outcome(more=about or {})
        report = publish_audited(
            self.run, self.key, staged, provenance, self.options, made=made, outcome=outcome, parts=parts
        )
        return report | {"lists_made": made} | (about or {})


def rule_tables(run: Run, options: TopKOptions) -> list[Table]:
    """What rules are read from: a lake of vectors and events alone has none."""
    wanted = [ITEMS] if options.quota or options.match_on else []
    found = [table for table in (ITEMS, USER_RULES) if run.lake.version(table) is not None and table not in wanted]
    return [*wanted, *found, *([USERS] if options.match_on else [])]


def rules_of(options: TopKOptions) -> dict[str, Any]:
    """The settings that lists depend on, by the names that commits keep; block sizes and tasks change no list."""
    names = {"k", "min_score", "quota", "quota_on", "match_on", "diversity", "diversify_from"}
    if options.approximate:
        names |= {"approximate", "target_recall", "clusters", "nprobe", "recall_users", "grouping_seed"}
    if options.explain:
        names |= {"explain", "language"}
    if options.interests > 1:
        names |= {"interests"}
    settings = options.model_dump(mode="json", include=names)
    return {"lists" if name == "clusters" else name: value for name, value in settings.items()}


def list_rules(options: TopKOptions, blocks: ItemBlocks) -> ListRules:
    """What holds for every list."""
    return ListRules(
        min_score=options.min_score,
        quota=options.quota,
        boosts=blocks.boosted,
        run_date=options.run_date,
        keyed=bool(options.match_on),
        diversity=options.diversity,
        diversify_from=options.diversify_from,
        interests=options.interests,
    )


def with_rules(run: Run, inputs: InputVersions, profiles: DataFrame, options: TopKOptions, tasks: int) -> DataFrame:
    """Profiles or histories with what rules know of their users, in ``tasks`` partitions."""
    if options.match_on:
        profiles = profiles_with_keys(profiles, inputs.frame(run, USERS), options.match_on)
    return users_with_rules(profiles, *seen_and_allowed(run, inputs, options), tasks)


def seen_and_allowed(run: Run, inputs: InputVersions, options: TopKOptions) -> tuple[DataFrame, DataFrame | None]:
    """``user_id, item_id`` that must not be listed, and those that alone may be."""
    seen = events_before(inputs.frame(run, EVENTS), options.run_date).select("user_id", "item_id")
    if USER_RULES.name not in inputs.versions or not run.lake.rows(USER_RULES):
        return seen, None
    rules = inputs.frame(run, USER_RULES)
    return denied(seen, rules), allowed(rules)


def figures(notes: Sequence[Mapping[str, Any]], blocks: ItemBlocks) -> dict[str, int]:
    """Sums over the tasks."""
    names = ("users", "dropped", "unfilled_slots")
    users, dropped, short = (sum(note.get(name, 0) for note in notes) for name in names)
    return {"users": users, "profiles_dropped": dropped, "items": blocks.rows, "unfilled_slots": short}
