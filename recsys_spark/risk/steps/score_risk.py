"""events, items and users → user_risk and item_risk."""

from collections.abc import Sequence
from contextlib import ExitStack

from pyspark.sql import DataFrame

from recsys_spark.errors import InputError
from recsys_spark.lake.lake import Staged
from recsys_spark.lake.provenance import Provenance
from recsys_spark.publish.steps.audit import publish_audited
from recsys_spark.publish.steps.publishing import InputVersions, Report, pin_inputs, run_key, unchanged
from recsys_spark.publish.steps.scratch import TempTable, materialized
from recsys_spark.risk.evidence import DISTANCE, LOCKSTEP, OF_GROUPS, OF_ITEMS, OF_USERS, TWINS, Evidence
from recsys_spark.risk.kernels.labelled import LabelledScorer
from recsys_spark.risk.kernels.scoring import Scorer
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.scaled_figures import in_steps
from recsys_spark.risk.scores import places_of, risk_rows, scored
from recsys_spark.risk.steps.histograms import histograms
from recsys_spark.risk.steps.item_evidence import item_evidence
from recsys_spark.risk.steps.labelled_scores import labelled_scorer
from recsys_spark.risk.steps.user_evidence import GROUPED, Log, log_of, user_deviations, user_evidence, user_figures
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEM_RISK, ITEMS, USER_RISK, USERS, Table

_GROUPS = [Evidence(f"group_{name}", sentence) for name, sentence in OF_GROUPS.items()]

USER_EVIDENCE = (*OF_USERS, DISTANCE, *_GROUPS, TWINS, LOCKSTEP)

ITEM_EVIDENCE = (*OF_ITEMS, *_GROUPS)


def score_risk(run: Run, options: RiskOptions) -> Report:
    """Publish how unusual users and items are.

    Raises:
        QualityError: there is nobody to compare with, or nothing in which users differ; nothing is published.
    """
    more = [table for table in (USERS,) if run.lake.version(table) is not None]
    inputs = pin_inputs(run, EVENTS, ITEMS, *more)
    keys = {"event_weights", "review_budget", "trust_from", "trust_step", "risk_label"}
    settings = options.model_dump(mode="json", include=keys) | {"evidence": [one.name for one in USER_EVIDENCE]}
    provenance = Provenance(inputs.content_ids, options.run_date, settings=settings)
    # One key a table: the log of changes has a row for each.
    keys_of = {table: run_key(f"score_risk_{table.key[0]}", provenance) for table in (USER_RISK, ITEM_RISK)}
    done = [unchanged(run, key, table) for table, key in keys_of.items()]
    if all(done):
        return {"status": "unchanged", "tables": {name: n for one in done if one for name, n in one["tables"].items()}}
    log = log_of(run, inputs, options)
    if options.dry_run:
        return {"tables": {}}
    report: Report = {"status": "done", "tables": {}}
    with ExitStack() as stack:
        users, items = _evidence(run, inputs, log, stack)
        scorer, figures = _user_scorer(run, inputs, users, options)
        plain = _scorer(items, [True] * len(ITEM_EVIDENCE), options, 1)
        staged = [
            _staged(run, users, USER_RISK, USER_EVIDENCE, scorer, options),
            _staged(run, items, ITEM_RISK, ITEM_EVIDENCE, plain, options),
        ]
    provenance = inputs.recorded_in(provenance)
    for one in staged:
        scope = "all: scores compare everybody"
        published = publish_audited(run, keys_of[one.table], one, provenance, options, scope=scope)
        report |= published | {"tables": report["tables"] | published["tables"]}
    return report | figures | _segments(run)


def _evidence(run: Run, inputs: InputVersions, log: Log, stack: ExitStack) -> tuple[TempTable, TempTable]:
    """The evidence about users and items, in temporary tables that ``stack`` removes."""
    figures = in_steps(user_figures(run, inputs, log), "user_id", [one.name for one in OF_USERS])
    steps = stack.enter_context(materialized(run, figures, broadcast=False))
    deviations = stack.enter_context(materialized(run, user_deviations(steps.frame), broadcast=False))
    users = stack.enter_context(materialized(run, user_evidence(log, deviations.frame), broadcast=False))
    items = item_evidence(run, inputs, log, deviations.frame)
    return users, stack.enter_context(materialized(run, items, broadcast=False))


def _scorer(rows: TempTable, shared: Sequence[bool], options: RiskOptions, number: int) -> Scorer:
    tails = places_of(histograms(rows.frame, "evidence"))
    return Scorer.of(tails, shared, options.trust_from, options.trust_step, number)


def _user_scorer(
    run: Run, inputs: InputVersions, rows: TempTable, options: RiskOptions
) -> tuple[Scorer | LabelledScorer, Report]:
    """The scorer of users, by labels if there are any to learn from, and its figures."""
    scorer = _scorer(rows, [False] * (len(OF_USERS) + 1) + [True] * GROUPED, options, 2)
    if options.risk_label is None:
        return scorer, {}
    if USERS.name not in inputs.versions:
        raise InputError(
            f"risk_label '{options.risk_label}' is a group of table 'users', which this lake does not have"
        )
    return labelled_scorer(rows, inputs.frame(run, USERS), scorer, options)


def _staged(
    run: Run,
    rows: TempTable,
    table: Table,
    kinds: Sequence[Evidence],
    scorer: Scorer | LabelledScorer,
    options: RiskOptions,
) -> Staged:
    """Scores of evidence as staged rows of a risk table."""
    key = table.key[0]
    risk = risk_rows(scored(rows.frame, key, scorer), key, kinds, options.review_budget, options.run_date)
    return run.lake.stage(risk, table)


def _segments(run: Run) -> Report:
    """Users and items by segment."""
    counts: dict[str, dict[str, int]] = {}
    for table in (USER_RISK, ITEM_RISK):
        rows: DataFrame = run.lake.read(run.spark, table).groupBy("segment").count()
        counts[table.name] = {row["segment"]: row["count"] for row in rows.orderBy("segment").collect()}
    return {"segments": counts}
