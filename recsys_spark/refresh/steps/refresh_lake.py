"""All steps of a refresh for one run_date, from raw files to recommendations."""

import platform
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import pyspark
from pydantic import Field

from recsys_spark import __version__
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import ConflictError
from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.evaluate.steps.evaluate_recommendations import evaluation_of_last_lists
from recsys_spark.events.options import HistoryOptions
from recsys_spark.hybrid.options import FitOptions
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.risk.options import RiskOptions
from recsys_spark.risk.steps.score_risk import score_risk
from recsys_spark.rules.steps.read_rules import check_conditions, read_rules
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.stream.steps.clear_live import clear_live
from recsys_spark.tables.schemas import LIVE_RECOMMENDATIONS, RECOMMENDATIONS, USER_PROFILES

_LIBRARIES = ("pyarrow", "numpy", "deltalake", "torch", "transformers", "tokenizers", "onnxruntime", "openvino")


class RefreshOptions(
    IngestOptions, EncoderOptions, BlockOptions, RiskOptions, ProfileOptions, TopKOptions, MetricOptions
):
    """Steps of a refresh."""

    evaluate: bool = Field(
        True, description="evaluate the last lists on events since their run_date; the table 'metrics' has the results"
    )


def refresh_lake(run: Run, options: RefreshOptions) -> Report:
    """Ingest tables, evaluate the last lists, embed texts, build vectors and profiles, recommend items.

    Each step publishes its tables itself, so that the next run continues where a killed one stopped.
    """
    _check_rules(run, options)
    model, part = resolve_model(options.part(EncoderOptions), run), options.part
    steps = {
        "ingest_tables": lambda: ingest_tables(run, part(IngestOptions), force=options.full),
        "evaluate_recommendations": lambda: evaluation_of_last_lists(run, part(MetricOptions)),
        "embed_texts": lambda: embed_texts(run, part(EncoderOptions), retry=options.full, run_date=options.run_date),
        "build_item_vectors": lambda: build_item_vectors(
            run, part(BlockOptions), model, part(HistoryOptions), force=options.full
        ),
        "score_risk": lambda: score_risk(run, part(RiskOptions)),
        "build_profiles": lambda: build_profiles(run, part(ProfileOptions)),
        "fit_item_weights": lambda: fit_item_weights(
            run, part(FitOptions), force=options.full, required=options.scorer == "hybrid"
        ),
        "recommend_items": lambda: _recommend(run, part(TopKOptions)),
    }
    if not options.trust_weights:
        del steps["score_risk"]
    if not options.evaluate:
        del steps["evaluate_recommendations"]
    if options.scorer in ("cosine", "sequential"):
        del steps["fit_item_weights"]
    if run.lake.version(LIVE_RECOMMENDATIONS) is not None:
        steps["clear_live"] = lambda: clear_live(run)
    if options.dry_run:  # the input of later steps does not exist yet
        steps = {"ingest_tables": steps["ingest_tables"]}
    report: Report = {"status": "unchanged", "tables": {}, "texts_encoded": 0, "stages": {}}
    report |= {"software": _software(), "model_name": options.model}
    for name, step in steps.items():
        started = time.monotonic()
        with run.progress.step(name):
            step_report = step()
        report["stages"][name] = round(time.monotonic() - started, 2)
        tables = report["tables"] | step_report.pop("tables")
        status = "done" if "done" in (step_report.pop("status", None), report["status"]) else "unchanged"
        report |= step_report | {"tables": tables, "status": status}
    return report


def _check_rules(run: Run, options: RefreshOptions) -> None:
    """Check the rules before anything is computed, unless the last lists were made with them.

    Raises:
        UsageError: the rules file or a condition in it is wrong.
    """
    book, last = read_rules(options.rules_file, options.run_date), run.lake.last_commit(RECOMMENDATIONS)
    if book is not None and (last is None or last.provenance.settings.get("rules") != book.digest):
        check_conditions(run, book, options.run_date)


def _software() -> dict[str, str]:
    """Versions on the driver of the software that can change a result."""
    versions = {"recsys_spark": __version__, "python": platform.python_version(), "pyspark": pyspark.__version__}
    return versions | {name: installed for name in _LIBRARIES if (installed := _version(name)) is not None}


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _recommend(run: Run, options: TopKOptions) -> Report:
    """Recommend items, unless another refresh has replaced the profiles with those of another run_date.

    Raises:
        ConflictError: the profiles are of another run_date.
    """
    last = run.lake.last_commit(USER_PROFILES)
    if last is not None and last.provenance.run_date != options.run_date:
        raise ConflictError(
            f"user_profiles are now of run_date {last.provenance.run_date}, not {options.run_date}: another refresh "
            "has run at the same time; run again"
        )
    return recommend_items(run, options)
