"""Report the losses of good rows, warn about them, and refuse to publish if hardly anything is left."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import QualityError
from recsys_spark.ingest.losses import (
    ID_FORMS,
    NO_TEXT,
    PRICE,
    REPLACED,
    SCRUBBED,
    UNKNOWN_ITEM,
    Loss,
    count_unknown,
    events_by_item,
    losses_by_name,
    matches_by_form,
    total_losses,
)
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.gate import LEAST_BAD
from recsys_spark.lake.lake import Staged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.names import named_sources
from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS, Table

_COMPARED = 1000
"""Number of unknown ids to compare in other forms."""

_OFTEN = 0.5
"""Share of rows above which a loss that is common in small numbers is worth a warning."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LossGate:
    """The staged tables. ``part``: the events are only those added since the last run."""

    run: Run
    dataset: Dataset
    options: IngestOptions
    staged: Mapping[Table, Staged]
    part: bool

    def check(self) -> list[Loss]:
        """The losses, after a warning for each.

        Raises:
            QualityError: too many prices are not numbers, or too many events are about items that are not in ``items``.
        """
        losses = [loss for table in (ITEMS, USERS) for loss in total_losses(table.name, self.staged[table].stats)]
        items = self.run.lake.read_staged(self.run.spark, self.staged[ITEMS])
        events = events_by_item(self.run.lake.read_staged(self.run.spark, self.staged[EVENTS]), items)
        losses += _replaced_ids(self.staged[EVENTS])
        row = count_unknown(events).collect()[0]
        if row["unknown"]:
            losses.append(Loss(EVENTS.name, UNKNOWN_ITEM, row["unknown"], row["events"], (row["sample"],)))
        for loss in losses:
            if loss.loss.startswith(SCRUBBED):
                continue
            if loss.loss not in (NO_TEXT, UNKNOWN_ITEM) or loss.share > _OFTEN:
                _logger.warning("warning: %s", self._described(loss))
        self._refuse_prices(losses)
        self._refuse_unknown(losses, events, items)
        return losses

    def _described(self, loss: Loss) -> str:
        samples = ", ".join(f"'{sample}'" for sample in loss.samples)
        message = f"table '{loss.table}': {loss.loss}: {loss.rows:,} of {loss.of:,} rows"
        message += f", for example {samples}" if samples else ""
        return message + f" (source {self._sources(loss.table)})" + self._remedy(loss)

    def _remedy(self, loss: Loss) -> str:
        if loss.loss == REPLACED:
            return (
                ". If the files are not in UTF-8, set their encoding in the options of the source, such as "
                'encoding = "windows-1252"'
            )
        if loss.loss == PRICE:
            price = self.dataset.items.select.get("price", "price")
            number = f"regexp_replace({price}, '[^0-9.]', '')"
            if any(re.search(r"\d,\d{1,2}\D*$", sample) for sample in loss.samples):
                number = f"replace(regexp_replace({price}, '[^0-9,]', ''), ',', '.')"
            return f'. Convert them to numbers in the dataset file, such as price = "try_cast({number} AS double)"'
        return ""

    def _refuse_prices(self, losses: Sequence[Loss]) -> None:
        for loss in losses:
            if loss.loss == PRICE and loss.share > self.options.max_lost_share:
                raise QualityError(
                    f"{self._described(loss)}, or raise --max_lost_share ({self.options.max_lost_share:.0%}); nothing "
                    "was published",
                    {"losses": losses_by_name(losses)},
                )

    def _refuse_unknown(self, losses: Sequence[Loss], events: DataFrame, items: DataFrame) -> None:
        loss = next((loss for loss in losses if loss.loss == UNKNOWN_ITEM), None)
        if loss is None or (self.part and loss.rows < LEAST_BAD):
            return
        if loss.rows <= self.options.max_unknown_share * loss.of:
            return
        example = items.agg(F.min("item_id")).collect()[0][0]
        raise QualityError(
            f"table 'events': {loss.rows:,} of {loss.of:,} events are about items outside the catalogue "
            f"(max_unknown_share {self.options.max_unknown_share:.0%}); nothing was published. Their ids look like "
            f"'{loss.samples[0]}' (source {self._sources('events')}), those of items like '{example}' (source "
            f"{self._sources('items')}): the two differ in type or form. {self._likeliest_form(events, items)}",
            {"losses": losses_by_name(losses)},
        )

    def _likeliest_form(self, events: DataFrame, items: DataFrame) -> str:
        unknown = events.where(F.col("in_catalogue").isNull()).orderBy(F.desc("events"), "item_id").limit(_COMPARED)
        matches = {row["form"]: row["matches"] for row in matches_by_form(unknown, items).collect()}
        number, (name, (_, sql)) = max(enumerate(ID_FORMS.items()), key=lambda one: (matches[one[0]], -one[0]))
        if not matches[number]:
            return "Check in the dataset file which column of the log names an item, or raise --max_unknown_share"
        event_sql, item_sql = (query.select["item_id"] for query in (self.dataset.events, self.dataset.items))
        return (
            f'They are the same {name}: write item_id = "{sql.format(event_sql)}" in [events.select] and '
            f'item_id = "{sql.format(item_sql)}" in [items.select]'
        )

    def _sources(self, table: str) -> str:
        query = {"items": self.dataset.items, "users": self.dataset.users, "events": self.dataset.events}[table]
        return ", ".join(f"'{name}'" for name in sorted(named_sources(query, self.dataset.sources))) if query else ""


def _replaced_ids(staged: Staged) -> list[Loss]:
    lost, rows = (sum(note.get(name, 0) for note in staged.stats) for name in ("replaced_ids", "staged"))
    return [Loss(EVENTS.name, REPLACED, lost, rows)] if lost else []
