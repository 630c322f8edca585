"""A request for recommendation lists: pinned inputs, run key, and the rules that all scorers share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.explain.steps.reasons import staged_lists, staged_with_reasons
from recsys_spark.fairness.steps.rerank import RerankInputs, described, reranked_lists
from recsys_spark.lake.data_files import no_rows
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Outcome, Provenance
from recsys_spark.publish.steps.audit import Parts, publish_audited
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key, unchanged
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.checks import check_rules
from recsys_spark.rules.rule_file import RuleBook
from recsys_spark.rules.steps.publish_audit import publish_audit
from recsys_spark.rules.steps.read_rules import check_conditions, read_rules
from recsys_spark.rules.steps.rule_base import RuleBase, RuleFrames
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EVENTS, ITEMS, RECOMMENDATIONS, RULE_AUDIT, USER_RULES, USERS, Table
from recsys_spark.topk.join import users_with_rules
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.rules import allowed, denied, items_with_rules, profiles_with_keys


@dataclass(frozen=True)
class ListRequest:
    """The lists that a run publishes."""

    run: Run
    options: TopKOptions
    inputs: InputVersions
    provenance: Provenance
    key: str
    space: str = ""
    """The column ``model`` of every row: the vector space, or the name of the hybrid weights."""
    book: RuleBook | None = None
    """The rules of the run date."""

    @classmethod
    def pin(cls, run: Run, options: TopKOptions, *tables: Table, **settings: Any) -> "ListRequest":
        """Pin the versions of ``tables``, the events and the tables of rules.

        ``settings``: further settings that the lists of this scorer depend on.
        """
        book = read_rules(options.rules_file, options.run_date)
        inputs = pin_inputs(run, *tables, EVENTS, *_rule_tables(run, options, ruled=book is not None))
        settings |= _settings(options)
        if book is not None:
            check_rules(book, options)
            settings |= {"rules": book.digest} | ({"pinned": True} if book.of("pin") else {})
        provenance = Provenance.of(inputs=inputs.content_ids, run_date=options.run_date, **settings)
        return cls(run, options, inputs, provenance, run_key("recommend_items", provenance), book=book)

    def published(self) -> Report | None:
        """The report of a run whose lists are published already; None if there is work to do, or ``full`` is set."""
        tables = [RECOMMENDATIONS] if self.book is None else [RECOMMENDATIONS, RULE_AUDIT]
        report = unchanged(self.run, self.key, *tables)
        if report is not None and not self.options.full:
            return report
        if self.book is not None:
            check_conditions(self.run, self.book, self.options.run_date)
        return None

    def frame(self, table: Table) -> DataFrame:
        """The pinned version of a table."""
        return self.inputs.frame(self.run, table)

    def has(self, table: Table) -> bool:
        """Whether a table is pinned. Tables of rules may be missing in the lake."""
        return table.name in self.inputs.versions

    @cached_property
    def rule_base(self) -> RuleBase | None:
        """The rules on the tables of the run; None without rules."""
        if self.book is None:
            return None
        users = self.frame(USERS) if self.has(USERS) else None
        day = self.options.run_date
        frames = RuleFrames(self.frame(ITEMS), users, events_before(self.frame(EVENTS), day))
        return RuleBase(self.run, self.book, frames, day)

    @property
    def constant_columns(self) -> dict[str, Any]:
        """Columns with the same value in every row."""
        return {"run_date": self.options.run_date, "model": self.space}

    def rules(self, items: ItemBlocks) -> ListRules:
        """The rules of every list."""
        base = self.rule_base
        rule = None if base is None else base.book.diversify
        return ListRules(
            min_score=self.options.min_score,
            quota=self.options.quota if rule is None else rule.most,
            boosts=items.boosted,
            run_date=self.options.run_date,
            keyed=bool(self.options.match_on),
            diversity=self.options.diversity,
            diversify_from=self.options.diversify_from,
            interests=self.options.interests,
            table=None if base is None else base.table,
            freshness=(self.options.freshness, self.options.freshness_days) if self.options.freshness else None,
        )

    def with_item_rules(self, items: DataFrame) -> DataFrame:
        """Add the columns that rules need to items."""
        if not self.has(ITEMS):
            return items
        quota_on = self.options.quota_on if self.options.quota else None
        rows = items_with_rules(items, self.frame(ITEMS), self.options.match_on, quota_on)
        return rows if self.rule_base is None else self.rule_base.with_item_rules(rows)

    def item_source(self, *tables: Table) -> dict[str, Any]:
        """The provenance of cached item blocks that are built from ``tables``."""
        quota_on = self.options.quota_on if self.options.quota else None
        inputs = {table.name: self.inputs.content_ids.get(table.name) for table in (*tables, ITEMS)}
        rules: list[Any] = [self.options.match_on, quota_on]
        if self.book is not None:
            rules += [self.book.digest, str(self.options.run_date) if self.book.names_run_date else None]
        return {"inputs": inputs, "rules": rules}

    def with_keys(self, users: DataFrame) -> DataFrame:
        """Add the value that ``match_on`` compares to users, if it is set, and the atoms of the rule base."""
        if self.rule_base is not None:
            atoms = self.rule_base.user_atoms(users.select("user_id"))
            users = users.join(atoms, on="user_id", how="left")
        if not self.options.match_on:
            return users
        return profiles_with_keys(users, self.frame(USERS), self.options.match_on)

    def with_user_rules(self, users: DataFrame, tasks: int, *, repeats: bool = False) -> DataFrame:
        """Add the rules of the users to profiles or histories, in ``tasks`` partitions."""
        return users_with_rules(self.with_keys(users), *self.seen_and_allowed(repeats=repeats), tasks)

    def seen_and_allowed(self, *, repeats: bool = False) -> tuple[DataFrame, DataFrame | None]:
        """``user_id, item_id`` of items that must not be listed, and of the only items that may be listed (None: all
        items). ``repeats``: items that a user had may be listed again."""
        seen = events_before(self.frame(EVENTS), self.options.run_date).select("user_id", "item_id")
        if repeats:
            seen = no_rows(self.run.spark, EVENTS).select("user_id", "item_id")
        if not self.has(USER_RULES) or not self.run.lake.rows(USER_RULES):
            return seen, None
        rules = self.frame(USER_RULES)
        return denied(seen, rules), allowed(rules)

    @property
    def depth(self) -> int:
        """Number of candidates that the scorer lists: ``k``, or more where lists are re-ranked."""
        return max(self.options.k, self.options.rerank_from) if self.options.reranks else self.options.k

    @property
    def deep_options(self) -> TopKOptions:
        """The options with lists of ``depth``."""
        return self.options.model_copy(update={"k": self.depth})

    def reranked(self, staged: Staged) -> tuple[Staged, Report]:
        """Staged lists of ``depth`` candidates as lists of k items, and figures of their fairness; as they are, if no
        key re-ranks them."""
        if not self.options.reranks:
            return staged, {}
        day = self.options.run_date
        earlier = events_before(self.frame(EVENTS), day)
        liked = earlier.where(is_positive_event(self.options.event_weights, self.options.min_rating))
        inputs = RerankInputs(self.frame(ITEMS), self.frame(EVENTS), liked.select("user_id", "item_id"), day)
        with self.run.progress.step("re-rank lists"):
            return reranked_lists(self.run, staged, inputs, self.options, self.options.k, self.constant_columns)

    def staged_rows(self, lists: DataFrame, base: int | None = None) -> tuple[Staged, Report]:
        """Stage lists (``user_id, item_id, score, rank``) as rows of ``recommendations``, with the fidelity of their
        reasons."""
        return staged_lists(self.run, self.inputs, self.options, self.provenance, lists, self.constant_columns, base)

    def with_reasons(self, staged: Staged) -> tuple[Staged, Report]:
        """Add reasons to staged lists if ``explain`` is set; returns the lists and the fidelity of the reasons."""
        return staged_with_reasons(self.run, self.inputs, self.options, self.provenance, staged, self.constant_columns)

    def publish(
        self, staged: Staged, scope: str, figures: dict[str, Any] | None = None, parts: Parts | None = None
    ) -> Report:
        """Audit and publish lists.

        Args:
            staged: all lists.
            scope: in words which of them were computed, and why.
            figures: for the commit and the report, such as the recall.
            parts: the rows that may differ from the last version; by default all.
        """
        if "fairness" in (figures or {}):
            scope = f"{scope}; {described((figures or {})['fairness'])}"
        provenance, outcome = self.inputs.recorded_in(self.provenance), Outcome(more=figures or {})
        audit = self._audited(staged, provenance)
        report = publish_audited(
            self.run, self.key, staged, provenance, self.options, scope=scope, outcome=outcome, parts=parts
        )
        report["tables"] |= audit.pop("tables", {})
        return report | {"lists_made": scope} | (figures or {}) | audit

    def _audited(self, staged: Staged, provenance: Provenance) -> Report:
        """Publish the audit of the rules, for the users of the table ``users`` and of the lists."""
        if self.rule_base is None:
            return {}
        ids = self.run.lake.read_staged(self.run.spark, staged).select("user_id")
        ids = ids.union(self.frame(USERS).select("user_id")) if self.has(USERS) else ids
        with self.run.progress.step("audit rules"):
            report = publish_audit(self.run, self.key, self.rule_base, ids.distinct(), provenance)
        return {"tables": report["tables"]} | self.rule_base.figures()

    def marked(self, space: str) -> "ListRequest":
        """The same request with the name of its vector space."""
        return replace(self, space=space)


def task_totals(stats: Sequence[Mapping[str, Any]], items: ItemBlocks) -> dict[str, int]:
    """Sum the stats of a join's tasks, for the report."""
    names = ("users", "dropped", "unfilled_slots")
    users, dropped, unfilled = (sum(task.get(name, 0) for task in stats) for name in names)
    return {"users": users, "profiles_dropped": dropped, "items": items.rows, "unfilled_slots": unfilled}


def _rule_tables(run: Run, options: TopKOptions, *, ruled: bool) -> list[Table]:
    """Tables that rules are read from: those that the options need, and others that the lake has."""
    needed = [ITEMS] if options.quota or options.match_on or options.reranks or options.freshness or ruled else []
    present = [table for table in (ITEMS, USER_RULES) if table not in needed and run.lake.version(table) is not None]
    users = options.match_on or (ruled and run.lake.version(USERS) is not None)
    return [*needed, *present, *([USERS] if users else [])]


def _settings(options: TopKOptions) -> dict[str, Any]:
    """The options that lists depend on, by their names in commits. Block sizes and tasks change no list."""
    names = {"k", "min_score", "quota", "quota_on", "match_on", "diversity", "diversify_from"}
    if options.approximate:
        names |= {"approximate", "target_recall", "clusters", "nprobe", "recall_users", "grouping_seed"}
    if options.explain:
        names |= {"explain", "language"}
    if options.interests > 1:
        names |= {"interests"}
    if options.freshness:
        names |= {"freshness", "freshness_days"}
    settings = options.model_dump(mode="json", include=names)
    if options.reranks:
        liked = {"min_rating", "event_weights"} if options.calibration else set()
        settings |= {"fairness": options.fairness_settings | options.model_dump(mode="json", include=liked)}
    return {"lists" if name == "clusters" else name: value for name, value in settings.items()}
