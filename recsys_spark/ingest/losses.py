"""Count values that good rows lose on their way into a table, dropped or damaged, while the rows are written.

An item without a price is a good item. A catalogue in which all prices are lost is not, and would go unnoticed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.privacy.kernels.scrub import PLACEHOLDER
from recsys_spark.privacy.raw_texts import masked
from recsys_spark.tables.task_stream import TaskStats

PRICE = "price is not a number"

REPLACED = "characters that are not UTF-8 (U+FFFD)"

NO_TEXT = "no text"

UNKNOWN_ITEM = "item_id is in no item"

SCRUBBED = "scrubbed: "
"""Prefix of the kind of a personal value that was replaced; such values are counted, not rows."""

_LIST_AS_TEXT = "category is a list that is written as text"

_UPDATED = "updated_at is not a time"

_MISSING = ("nan", "none", "null", "n/a", "na", "-", "\\n")
"""Spellings of a missing value in formats without null."""

_SAMPLES, _SAMPLE_CHARS = 3, 60

_COLUMN = "losses"


@dataclass(frozen=True)
class Loss:
    """Rows of a table that lost a value, of all rows that had one, with a few of the values."""

    table: str
    loss: str
    rows: int
    of: int
    samples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of rows that lost the value, from 0 to 1."""
        return self.rows / max(self.of, 1)


def price_is_lost(price: Column) -> Column:
    """Whether a price is given and is not a finite number. NaN counts as missing: some files write it for no price."""
    text = F.lower(F.trim(price.cast("string")))
    number = price.cast("string").try_cast("double")
    return (F.length(text) > 0) & ~text.isin(*_MISSING) & ~F.coalesce(F.abs(number) < float("inf"), F.lit(False))


def item_losses(category: str, updated: Column, *, has_template: bool, scrub: bool = False) -> Column:
    """``losses``: an array of loss and value, for a row with the raw columns and the cleaned title, text and brand.

    Args:
        category: type of the raw column.
        updated: the parsed ``updated_at``.
        has_template: whether the dataset file has a text template for items.
        scrub: whether there is a column ``scrubbed``; raw values then show their form only.
    """
    shown = masked if scrub else lambda value: value
    raw, changed = F.col("category"), F.col("updated_at").cast("string")
    names = raw if category == "string" else F.lit(None).cast("string")
    path = names if category != "array<string>" else F.array_join(raw, " ")
    losses = [
        _loss(PRICE, price_is_lost(F.col("price")), shown(F.col("price").cast("string"))),
        _loss(_UPDATED, (F.trim(changed) != "") & updated.isNull(), shown(changed)),
        _loss(_LIST_AS_TEXT, names.rlike(r"^\s*\[.*\]\s*$"), shown(names)),
        *_text_losses(F.concat_ws(" ", "title", "text", "brand", shown(path)), "item_id", has_template=has_template),
    ]
    return _all_losses(losses, scrub=scrub)


def user_losses(*, has_template: bool, scrub: bool = False) -> Column:
    """``losses`` of users, in the form of ``item_losses`` but without values, which would reveal personal data."""
    nothing = F.lit(None).cast("string")
    text = F.coalesce("text", F.lit(""))
    losses = [
        _loss(REPLACED, text.contains("\ufffd"), nothing),
        *([_loss(NO_TEXT, text == "", nothing)] if has_template else []),
    ]
    return _all_losses(losses, scrub=scrub)


def scrubbed_kinds(fields: Iterable[str]) -> Column:
    """The kind of every value that was replaced in cleaned ``fields``: an array of names."""
    return F.regexp_extract_all(F.concat_ws(" ", *fields), F.lit(PLACEHOLDER), 1)


def _all_losses(losses: Sequence[Column], *, scrub: bool) -> Column:
    lost = F.array_compact(F.array(*losses))
    if scrub:
        nothing = F.lit(None).cast("string").alias("value")
        kinds = F.transform("scrubbed", lambda kind: F.struct(F.concat(F.lit(SCRUBBED), kind).alias("loss"), nothing))
        lost = F.concat(lost, kinds)
    return lost.alias(_COLUMN)


def _text_losses(texts: Column, name: str, *, has_template: bool) -> list[Column]:
    around = F.substring(texts, F.greatest(F.instr(texts, "\ufffd") - _SAMPLE_CHARS // 2, F.lit(1)), _SAMPLE_CHARS)
    replaced = _loss(REPLACED, texts.contains("\ufffd"), around)
    return [replaced, *([_loss(NO_TEXT, F.col("text").isNull(), F.col(name).cast("string"))] if has_template else [])]


def _loss(loss: str, is_lost: Column, value: Column) -> Column:
    return F.when(is_lost, F.struct(F.lit(loss).alias("loss"), F.substring(value, 1, _SAMPLE_CHARS).alias("value")))


def count_losses(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
    """The rows without the column ``losses``, whose values are counted into ``notes``."""
    notes[_COLUMN], notes["prices"], notes["rows"] = {}, 0, 0
    for batch in batches:
        lost = pc.list_flatten(batch[_COLUMN])
        names, values = pc.struct_field(lost, "loss"), pc.struct_field(lost, "value")
        for loss in pc.unique(names).to_pylist():
            is_loss = pc.equal(names, loss)
            rows, samples = notes[_COLUMN].get(loss, (0, []))
            samples = _least([*samples, *_least_of(values.filter(is_loss))])
            notes[_COLUMN][loss] = (rows + pc.sum(is_loss).as_py(), samples)
        notes["rows"] += batch.num_rows
        if "price" in batch.schema.names:
            notes["prices"] += pc.sum(pc.is_finite(batch["price"])).as_py() or 0
        yield batch.drop_columns([_COLUMN])


def _least_of(values: pa.Array) -> list[str]:
    distinct = pc.unique(values.drop_null())
    return list(distinct.take(pc.sort_indices(distinct)[:_SAMPLES]).to_pylist())


def _least(samples: Iterable[str]) -> list[str]:
    return sorted(set(samples))[:_SAMPLES]


def total_losses(table: str, notes: Sequence[Mapping[str, Any]]) -> list[Loss]:
    """The losses of a table, summed over the notes of its tasks (``count_losses``)."""
    tasks = [note for note in notes if _COLUMN in note]
    rows, prices = (sum(task[name] for task in tasks) for name in ("rows", "prices"))
    losses = []
    for loss in sorted({loss for task in tasks for loss in task[_COLUMN]}):
        parts = [task[_COLUMN][loss] for task in tasks if loss in task[_COLUMN]]
        lost, samples = sum(n for n, _ in parts), _least(sample for _, few in parts for sample in few)
        losses.append(Loss(table, loss, lost, lost + prices if loss == PRICE else rows, tuple(samples)))
    return losses


def losses_by_name(losses: Iterable[Loss]) -> dict[str, dict[str, Any]]:
    """For a report: by ``table: loss``, the rows that lost a value, the rows that had one, and sample values."""
    return {
        f"{one.table}: {one.loss}": {"rows": one.rows, "of": one.of, "samples": list(one.samples)} for one in losses
    }


def events_by_item(events: DataFrame, items: DataFrame) -> DataFrame:
    """``item_id, events, in_catalogue``: events by item; ``in_catalogue`` is null for items that are not in ``items``.

    Events are counted before the join, so that it shuffles one row per item.
    """
    catalogue = items.select("item_id", F.lit(True).alias("in_catalogue"))
    counts = events.groupBy("item_id").agg(F.count("*").alias("events"))
    return counts.join(catalogue, on="item_id", how="left")


def count_unknown(events: DataFrame) -> DataFrame:
    """One row of totals over ``events_by_item``: ``events``, those about ``unknown`` items, and the most frequent of
    these items (``sample``)."""
    lost = F.col("in_catalogue").isNull()
    frequent = F.min_by(F.when(lost, F.col("item_id")), F.when(lost, F.struct(-F.col("events"), F.col("item_id"))))
    return events.agg(
        F.coalesce(F.sum("events"), F.lit(0)).alias("events"),
        F.coalesce(F.sum(F.when(lost, F.col("events"))), F.lit(0)).alias("unknown"),
        frequent.alias("sample"),
    )


ID_FORMS: dict[str, tuple[Callable[[Column], Column], str]] = {
    "as whole numbers (floats such as 1.0E7 or 12.0, zeros in front)": (
        lambda name: name.try_cast("decimal(38,0)").cast("string"),
        "CAST(CAST({} AS decimal(38, 0)) AS string)",
    ),
    "in lower case": (F.lower, "lower({})"),
    "without blanks and invisible characters": (
        lambda name: F.regexp_replace(name, r"[\s\p{Z}\p{C}]+", ""),
        r"regexp_replace({}, '[\\s\\p{{Z}}\\p{{C}}]+', '')",
    ),
}
"""Normal forms in which ids of two sources may agree: the form as an expression, and its SQL for a dataset file."""


def matches_by_form(unknown: DataFrame, items: DataFrame) -> DataFrame:
    """``form, matches``: for each of ID_FORMS, by number, the distinct ids of ``items`` that match an ``unknown`` id in
    this form."""
    counts = []
    for number, (form, _) in enumerate(ID_FORMS.values()):
        ids, item_ids = (frame.select(form(F.col("item_id")).alias("form")).distinct() for frame in (unknown, items))
        matches = item_ids.join(F.broadcast(ids), on="form", how="left_semi")
        counts.append(matches.agg(F.count("*").alias("matches")).select(F.lit(number).alias("form"), "matches"))
    return reduce(DataFrame.unionByName, counts)
