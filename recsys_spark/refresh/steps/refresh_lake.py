"""The whole chain for one run_date."""

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
from recsys_spark.hybrid.options import WeightOptions
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
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import USER_PROFILES

_LIBRARIES = ("pyarrow", "numpy", "deltalake", "torch", "transformers", "tokenizers", "onnxruntime", "openvino")


class RefreshOptions(
    IngestOptions, EncoderOptions, BlockOptions, ProfileOptions, WeightOptions, TopKOptions, MetricOptions
):
    """Keys of all steps."""

    evaluate: bool = Field(True, description="score the stored lists against the events that came since, in 'metrics'")


def refresh_lake(run: Run, options: RefreshOptions) -> Report:
    """Ingest, evaluate, embed, build, recommend. Each step publishes on its own, so a run that was cut off goes on
    where it stopped."""
    model, part = resolve_model(options.part(EncoderOptions), run), options.part
    steps = {
        "ingest_tables": lambda: ingest_tables(run, part(IngestOptions), force=options.full),
        "evaluate_recommendations": lambda: evaluation_of_last_lists(run, part(MetricOptions)),
        "embed_texts": lambda: embed_texts(run, part(EncoderOptions), retry=options.full, run_date=options.run_date),
        "build_item_vectors": lambda: build_item_vectors(
            run, part(BlockOptions), model, part(HistoryOptions), force=options.full
        ),
        "build_profiles": lambda: build_profiles(run, part(ProfileOptions)),
        "fit_item_weights": lambda: fit_item_weights(run, part(WeightOptions), force=options.full),
        "recommend_items": lambda: _lists(run, part(TopKOptions)),
    }
    if not options.evaluate:
        del steps["evaluate_recommendations"]
    if options.scorer != "hybrid":
        del steps["fit_item_weights"]
    if options.dry_run:  # later steps have nothing to read yet
        steps = {"ingest_tables": steps["ingest_tables"]}
    whole: Report = {"status": "unchanged", "tables": {}, "texts_encoded": 0, "stages": {}}
    whole |= {"software": _software(), "model_name": options.model}
    for name, step in steps.items():
        started = time.monotonic()
        with run.progress.step(name):
            report = step()
        whole["stages"][name] = round(time.monotonic() - started, 2)
        tables = whole["tables"] | report.pop("tables")
        status = "done" if "done" in (report.pop("status", None), whole["status"]) else "unchanged"
        whole |= report | {"tables": tables, "status": status}
    return whole


def _software() -> dict[str, str]:
    """Versions on the driver of what decides about a result."""
    own = {"recsys_spark": __version__, "python": platform.python_version(), "pyspark": pyspark.__version__}
    return own | {name: found for name in _LIBRARIES if (found := _version(name)) is not None}


def _version(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _lists(run: Run, options: TopKOptions) -> Report:
    """The lists, unless another refresh has put profiles of another day in the place of ours.

    Raises:
        ConflictError: it has.
    """
    head = run.lake.last_commit(USER_PROFILES)
    if head is not None and head.provenance.run_date != options.run_date:
        raise ConflictError(
            f"user_profiles are of run_date {head.provenance.run_date} now: another refresh was at work meanwhile; "
            "run again"
        )
    return recommend_items(run, options)
