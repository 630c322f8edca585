"""What good rows have lost: warnings, figures, and a refusal where hardly anything is left."""

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
    UNKNOWN_ITEM,
    Loss,
    counted,
    losses_by_name,
    meeting_forms,
    share_unknown,
    unknown_items,
)
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.gate import LEAST_BAD
from recsys_spark.lake.lake import Staged
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.names import named_sources
from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS, Table

_COMPARED = 1000
"""Unknown ids that are looked for in other forms."""

_OFTEN = 0.5
"""Share from which a loss that is usual in small numbers is a warning."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LossGate:
    """Tables that are about to be published. ``part``: the events are those that came since the last run."""

    run: Run
    dataset: Dataset
    options: IngestOptions
    staged: Mapping[Table, Staged]
    part: bool

    def check(self) -> list[Loss]:
        """What was lost, after a warning for each. Raise QualityError where most prices are no numbers, or hardly any
        event is about an item of the catalogue."""
        found = [loss for table in (ITEMS, USERS) for loss in counted(table.name, self.staged[table].stats)]
        items = self.run.lake.read_staged(self.run.spark, self.staged[ITEMS])
        unknown = unknown_items(self.run.lake.read_staged(self.run.spark, self.staged[EVENTS]), items)
        found += _replaced_ids(self.staged[EVENTS])
        row = share_unknown(unknown).collect()[0]
        if row["unknown"]:
            found.append(Loss(EVENTS.name, UNKNOWN_ITEM, row["unknown"], row["events"], (row["sample"],)))
        for loss in found:
            if loss.loss not in (NO_TEXT, UNKNOWN_ITEM) or loss.share > _OFTEN:
                _logger.warning("warning: %s", self._described(loss))
        self._refuse_prices(found)
        self._refuse_unknown(found, unknown, items)
        return found

    def _described(self, loss: Loss) -> str:
        samples = ", ".join(f"'{sample}'" for sample in loss.samples)
        said = f"table '{loss.table}': {loss.loss}: {loss.rows:,} of {loss.of:,} rows"
        said += f", for example {samples}" if samples else ""
        return said + f" (source {self._sources(loss.table)})" + self._remedy(loss)

    def _remedy(self, loss: Loss) -> str:
        if loss.loss == REPLACED:
            return (
                ". If the files are not in UTF-8 name their encoding in the options of the source, such as "
                'encoding = "windows-1252"'
            )
        if loss.loss == PRICE:
            price = self.dataset.items.select.get("price", "price")
            number = f"regexp_replace({price}, '[^0-9.]', '')"
            if any(re.search(r"\d,\d{1,2}\D*$", sample) for sample in loss.samples):
                number = f"replace(regexp_replace({price}, '[^0-9,]', ''), ',', '.')"
            return f'. Make numbers of them in the dataset file, such as price = "try_cast({number} AS double)"'
        return ""

    def _refuse_prices(self, found: Sequence[Loss]) -> None:
        for loss in found:
            if loss.loss == PRICE and loss.share > self.options.max_lost_share:
                raise QualityError(
                    f"{self._described(loss)}, or raise --max_lost_share ({self.options.max_lost_share:.0%}); nothing "
                    "was published",
                    {"losses": losses_by_name(found)},
                )

    def _refuse_unknown(self, found: Sequence[Loss], unknown: DataFrame, items: DataFrame) -> None:
        loss = next((loss for loss in found if loss.loss == UNKNOWN_ITEM), None)
        if loss is None or (self.part and loss.rows < LEAST_BAD):
            return
        if loss.rows <= self.options.max_unknown_share * loss.of:
            return
        known = items.agg(F.min("item_id")).collect()[0][0]
        raise QualityError(
            f"table 'events': {loss.rows:,} of {loss.of:,} events are about no item of the catalogue "
            f"(max_unknown_share {self.options.max_unknown_share:.0%}); nothing was published. Their ids look like "
            f"'{loss.samples[0]}' (source {self._sources('events')}), those of items like '{known}' (source "
            f"{self._sources('items')}): they are of another type or form. {self._likeliest(unknown, items)}",
            {"losses": losses_by_name(found)},
        )

    def _likeliest(self, unknown: DataFrame, items: DataFrame) -> str:
        lost = unknown.where(F.col("known").isNull()).orderBy(F.desc("events"), "item_id").limit(_COMPARED)
        met = {row["form"]: row["met"] for row in meeting_forms(lost, items).collect()}
        number, (name, (_, sql)) = max(enumerate(ID_FORMS.items()), key=lambda one: (met[one[0]], -one[0]))
        if not met[number]:
            return "State in the dataset file which column of the log names an item, or raise --max_unknown_share"
        events, own = (ask.select["item_id"] for ask in (self.dataset.events, self.dataset.items))
        return (
            f'They are the same {name}: write item_id = "{sql.format(events)}" in [events.select] and '
            f'item_id = "{sql.format(own)}" in [items.select]'
        )

    def _sources(self, table: str) -> str:
        asked = {"items": self.dataset.items, "users": self.dataset.users, "events": self.dataset.events}[table]
        return ", ".join(f"'{name}'" for name in sorted(named_sources(asked, self.dataset.sources))) if asked else ""


def _replaced_ids(staged: Staged) -> list[Loss]:
    lost, rows = (sum(note.get(name, 0) for note in staged.stats) for name in ("replaced_ids", "staged"))
    return [Loss(EVENTS.name, REPLACED, lost, rows)] if lost else []
