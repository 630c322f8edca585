"""A sequence encoder, events, items and their embeddings → lists by the state after a user's last event."""

from typing import TYPE_CHECKING

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.blocks.steps.cached_blocks import cached_blocks
from recsys_spark.errors import UsageError
from recsys_spark.events.options import EventOptions
from recsys_spark.events.steps.check_event_types import check_event_types
from recsys_spark.publish.steps.publishing import Report
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.list_request import ListRequest, task_totals
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sequence.item_rows import SCALE_COLUMN, cosine_vectors, item_vectors
from recsys_spark.sequence.kernels.model_files import SequenceFiles, read_sequence_files
from recsys_spark.sequence.user_states import last_items, user_state_rows
from recsys_spark.tables.run_date import events_before
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, ITEMS, RECOMMENDATIONS, USERS
from recsys_spark.topk.join import list_rows
from recsys_spark.topk.steps.join_plan import log_join_plan, tasks_for

if TYPE_CHECKING:
    from pyspark import Broadcast

_REFUSED = {
    "interests": "a state is one vector: set --interests=1, or use --scorer=cosine",
    "explain": "the reasons of a transformer do not add up to its score: set --explain=0, or use --scorer=hybrid",
    "approximate": "only --scorer=cosine groups items into clusters: leave it out",
}


def sequential_lists(run: Run, options: TopKOptions) -> Report:
    """Publish the lists of all users with an event of an item that has a vector.

    Raises:
        UsageError: no model, options that it cannot use, or a model that reads the embeddings of another encoder.
        InputError: the model's folder is missing or broken.
    """
    model = _read_model(options)
    types = sorted(name for name, weight in options.event_weights.items() if weight > 0)
    settings = {"scorer": "sequential", "sequence_model": model.fingerprint, "event_types": types}
    request = ListRequest.pin(run, options, ITEMS, EMBEDDINGS, **settings)
    if (report := request.published()) is not None:
        return report
    check_event_types(run, request.inputs, options.part(EventOptions))
    _check_encoder(request, model)
    if options.dry_run:
        return {"tables": {}}
    request = request.marked(f"sequence-{model.fingerprint[:8]}")
    shipped = run.spark.sparkContext.broadcast(model)  # a worker process reads it once
    items = _item_blocks(request, model, shipped)
    events = events_before(request.frame(EVENTS), options.run_date)
    histories = last_items(events, request.frame(ITEMS).select("item_id"), types, model.shape.length)
    report = _publish_lists(request, items, histories, shipped)
    shipped.destroy()
    return report


def _publish_lists(
    request: ListRequest, items: ItemBlocks, histories: DataFrame, model: "Broadcast[SequenceFiles]"
) -> Report:
    run, options = request.run, request.options
    users, rules = run.lake.rows(USERS), request.rules(items)
    tasks = tasks_for(run, options, users)
    task_bytes = log_join_plan(run, request.deep_options, items, users, tasks, rules)
    columns = request.constant_columns | {"reasons": None, "source": None}
    transform = list_rows(items, request.depth, rules, options.user_block_rows, columns)
    states = user_state_rows(histories, items, model, tasks=tasks)
    staged = run.lake.stage(request.with_user_rules(states, tasks), RECOMMENDATIONS, transform)
    staged, fairness = request.reranked(staged)
    report = request.publish(staged, "all: a state depends on the order of a user's events", fairness)
    return report | task_totals(staged.stats, items) | {"task_memory_mb": round(task_bytes / 1e6)}


def _item_blocks(request: ListRequest, model: SequenceFiles, shipped: "Broadcast[SequenceFiles]") -> ItemBlocks:
    """The item blocks with the vectors of the model."""

    def build() -> tuple[DataFrame, None]:
        vectors = item_vectors(request.frame(ITEMS), request.frame(EMBEDDINGS), model.encoder, shipped)
        greatest = vectors.agg(F.max("length")).collect()[0][0] or 1.0  # computed twice: cheaper than to store them
        return request.with_item_rules(cosine_vectors(vectors, greatest)), None

    source = request.item_source(ITEMS, EMBEDDINGS) | {"sequence_model": model.fingerprint}
    rows = request.options.item_block_rows
    return cached_blocks(request.run, RECOMMENDATIONS, source, rows, build, extra_columns=SCALE_COLUMN)


def _read_model(options: TopKOptions) -> SequenceFiles:
    if options.sequence_model is None:
        raise UsageError(
            "--scorer=sequential needs --sequence_model, the folder that fine_tune_encoder --objective=sequence wrote"
        )
    for name, reason in _REFUSED.items():
        if getattr(options, name) != type(options).model_fields[name].default:
            raise UsageError(f"--{name} cannot be combined with --scorer=sequential: {reason}")
    return read_sequence_files(options.sequence_model)


def _check_encoder(request: ListRequest, model: SequenceFiles) -> None:
    """Refuse a lake without any embedding of the encoder that the model was trained on.

    Raises:
        UsageError: there is none.
    """
    embeddings = request.frame(EMBEDDINGS)
    if not embeddings.where(F.col("model") == model.encoder).isEmpty():
        return
    others = [row["model"] for row in embeddings.select("model").distinct().orderBy("model").limit(5).collect()]
    raise UsageError(
        f"sequence_model {request.options.sequence_model} reads embeddings of encoder {model.encoder}, the lake has "
        f"those of {', '.join(others) or 'none'}: run embed_texts with the encoder that the model was trained on, or "
        "train a model on yours"
    )
