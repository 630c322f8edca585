"""What good rows lose on their way into a table: values that are dropped or damaged, counted while they are written.

An item without a price is a good item. A catalogue in which all prices are lost is not, and nobody would see it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys_spark.tables.task_stream import TaskStats

PRICE = "price is not a number"

REPLACED = "characters that are not UTF-8 (U+FFFD)"

NO_TEXT = "no text"

UNKNOWN_ITEM = "item_id is in no item"

_LIST_AS_TEXT = "category is a list that is written as text"

_UPDATED = "updated_at is not a time"

_MISSING = ("nan", "none", "null", "n/a", "na", "-", "\\n")
"""How files that know no null write that there is no value."""

_SAMPLES, _SAMPLE_CHARS = 3, 60

_COLUMN = "losses"


@dataclass(frozen=True)
class Loss:
    """Rows of a table that lost something, of all rows that had it to lose, with a few of the values."""

    table: str
    loss: str
    rows: int
    of: int
    samples: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.rows / max(self.of, 1)


def price_is_lost(price: Column) -> Column:
    """A price is given and is no finite number; NaN is how some files write that there is none."""
    text = F.lower(F.trim(price.cast("string")))
    number = price.cast("string").try_cast("double")
    return (F.length(text) > 0) & ~text.isin(*_MISSING) & ~F.coalesce(F.abs(number) < float("inf"), F.lit(False))


def item_losses(category: str, updated: Column, *, has_template: bool) -> Column:
    """Loss and value, of every loss of a row with the raw columns and the cleaned title, text and brand.

    Args:
        category: the type of the raw column.
        updated: what ``updated_at`` is read as.
        has_template: whether items are to have a text.
    """
    raw, changed = F.col("category"), F.col("updated_at").cast("string")
    names = raw if category == "string" else F.lit(None).cast("string")
    path = names if category != "array<string>" else F.array_join(raw, " ")
    found = [
        _loss(PRICE, price_is_lost(F.col("price")), F.col("price").cast("string")),
        _loss(_UPDATED, (F.trim(changed) != "") & updated.isNull(), changed),
        _loss(_LIST_AS_TEXT, names.rlike(r"^\s*\[.*\]\s*$"), names),
        *_text_losses(F.concat_ws(" ", "title", "text", "brand", path), "item_id", has_template=has_template),
    ]
    return F.array_compact(F.array(*found)).alias(_COLUMN)


def user_losses(*, has_template: bool) -> Column:
    """As ``item_losses``; without values, which would say something of people."""
    nothing = F.lit(None).cast("string")
    text = F.coalesce("text", F.lit(""))
    found = [
        _loss(REPLACED, text.contains("\ufffd"), nothing),
        *([_loss(NO_TEXT, text == "", nothing)] if has_template else []),
    ]
    return F.array_compact(F.array(*found)).alias(_COLUMN)


def _text_losses(texts: Column, name: str, *, has_template: bool) -> list[Column]:
    around = F.substring(texts, F.greatest(F.instr(texts, "\ufffd") - _SAMPLE_CHARS // 2, F.lit(1)), _SAMPLE_CHARS)
    replaced = _loss(REPLACED, texts.contains("\ufffd"), around)
    return [replaced, *([_loss(NO_TEXT, F.col("text").isNull(), F.col(name).cast("string"))] if has_template else [])]


def _loss(loss: str, happened: Column, value: Column) -> Column:
    return F.when(happened, F.struct(F.lit(loss).alias("loss"), F.substring(value, 1, _SAMPLE_CHARS).alias("value")))


def counting(batches: Iterator[pa.RecordBatch], notes: TaskStats) -> Iterator[pa.RecordBatch]:
    """The rows as they are, without the column of their losses: those are counted."""
    notes[_COLUMN], notes["prices"], notes["rows"] = {}, 0, 0
    for batch in batches:
        lost = pc.list_flatten(batch[_COLUMN])
        names, values = pc.struct_field(lost, "loss"), pc.struct_field(lost, "value")
        for loss in pc.unique(names).to_pylist():
            own = pc.equal(names, loss)
            known, samples = notes[_COLUMN].get(loss, (0, []))
            few = _least([*samples, *_least_of(values.filter(own))])
            notes[_COLUMN][loss] = (known + pc.sum(own).as_py(), few)
        notes["rows"] += batch.num_rows
        if "price" in batch.schema.names:
            notes["prices"] += pc.sum(pc.is_finite(batch["price"])).as_py() or 0
        yield batch.drop_columns([_COLUMN])


def _least_of(values: pa.Array) -> list[str]:
    distinct = pc.unique(values.drop_null())
    return list(distinct.take(pc.sort_indices(distinct)[:_SAMPLES]).to_pylist())


def _least(samples: Iterable[str]) -> list[str]:
    return sorted(set(samples))[:_SAMPLES]


def counted(table: str, notes: Sequence[Mapping[str, Any]]) -> list[Loss]:
    """The losses of a table by what its tasks have noted (``counting``)."""
    noted = [note for note in notes if _COLUMN in note]
    rows, prices = (sum(note[name] for note in noted) for name in ("rows", "prices"))
    found = []
    for loss in sorted({loss for note in noted for loss in note[_COLUMN]}):
        parts = [note[_COLUMN][loss] for note in noted if loss in note[_COLUMN]]
        lost, samples = sum(n for n, _ in parts), _least(sample for _, few in parts for sample in few)
        found.append(Loss(table, loss, lost, lost + prices if loss == PRICE else rows, tuple(samples)))
    return found


def losses_by_name(losses: Iterable[Loss]) -> dict[str, dict[str, Any]]:
    """For a report: ``table: loss`` to how many rows of how many, and some of the values."""
    return {
        f"{one.table}: {one.loss}": {"rows": one.rows, "of": one.of, "samples": list(one.samples)} for one in losses
    }


def unknown_items(events: DataFrame, items: DataFrame) -> DataFrame:
    """``item_id, events, known``: whether an item of the events is in the catalogue. Events are counted before they
    are shuffled: what meets the catalogue is as many rows as there are different items."""
    known = items.select("item_id", F.lit(True).alias("known"))
    counted_events = events.groupBy("item_id").agg(F.count("*").alias("events"))
    return counted_events.join(known, on="item_id", how="left")


def share_unknown(found: DataFrame) -> DataFrame:
    """One row of ``unknown_items``: ``events``, ``unknown`` ones, and the most frequent of their items (``sample``)."""
    lost = F.col("known").isNull()
    frequent = F.min_by(F.when(lost, F.col("item_id")), F.when(lost, F.struct(-F.col("events"), F.col("item_id"))))
    return found.agg(
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
"""In which ids of two sources may be the same: what makes the form, and the SQL for a dataset file."""


def meeting_forms(unknown: DataFrame, items: DataFrame) -> DataFrame:
    """One row: how many of the item ids of events that are unknown are in the catalogue in each of ID_FORMS."""
    sides = []
    for number, (form, _) in enumerate(ID_FORMS.values()):
        ours, theirs = (frame.select(form(F.col("item_id")).alias("form")).distinct() for frame in (unknown, items))
        both = theirs.join(F.broadcast(ours), on="form", how="left_semi")
        sides.append(both.agg(F.count("*").alias("met")).select(F.lit(number).alias("form"), "met"))
    return reduce(DataFrame.unionByName, sides)
