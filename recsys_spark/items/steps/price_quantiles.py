"""Price quantiles: computed once, stored, and used until a refit is due, so that a new price moves no other item."""

import hashlib
import json
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.items.options import BlockOptions
from recsys_spark.items.price_quantiles import finite_price, price_quantiles
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import PRICE_CUTS


@dataclass(frozen=True)
class PriceQuantiles:
    """Rows of ``price_quantiles`` with their name, the number of prices they are from, and their generation."""

    name: str
    prices: int
    generation: int
    rows: DataFrame


def fitted_quantiles(run: Run, options: BlockOptions, items: DataFrame, content_id: str) -> PriceQuantiles | None:
    """The stored quantiles, or new ones if the prices have grown by ``refit_share`` or ``refit_prices`` is set.

    None if the price block is left out or no item has a price.

    Args:
        content_id: of the tables from which ``items`` were read.
    """
    if not options.price_weight:
        return None
    last = _newest(run, options.category_prices)
    if last and not options.refit_prices:
        number = items.agg(F.count(finite_price())).collect()[0][0]
        if number < last.prices * (1 + options.refit_share):
            return last
    # One row per category, of which the driver also computes the name.
    quantiles = [tuple(row) for row in price_quantiles(items, options.category_prices).orderBy("category").collect()]
    if not quantiles:
        return last
    name = hashlib.sha256(json.dumps([(category, cuts) for category, _, cuts in quantiles]).encode()).hexdigest()[:8]
    generation, prices = (last.generation + 1 if last else 1), quantiles[0][1]  # the first row is the catalogue's
    if last and (last.name, last.prices) == (name, prices):
        return last
    rows = [
        {"name": name, "category": category, "fit": generation, "category_prices": options.category_prices}
        | {"prices": number, "cuts": cuts}
        for category, number, cuts in quantiles
    ]
    frame = run.spark.createDataFrame(pa.Table.from_pylist(rows, PRICE_CUTS.arrow_schema))
    frame = frame.select(*(F.col(column).cast(kind) for column, kind in PRICE_CUTS.columns.items())).coalesce(1)
    provenance = {"name": name, "fit": generation, "state": content_id, "category_prices": options.category_prices}
    key = run_key("fit_prices", provenance)
    run.lake.commit(run.lake.stage(frame, PRICE_CUTS), key, append=True)
    return PriceQuantiles(name, prices, generation, frame.select("category", "prices", "cuts"))


def _newest(run: Run, category_prices: int) -> PriceQuantiles | None:
    fits = run.lake.read_or_empty(run.spark, PRICE_CUTS).where(F.col("category_prices") == category_prices)
    first = fits.orderBy(F.desc("fit"), "name", "category").first()
    if first is None:
        return None
    rows = fits.where((F.col("fit") == first["fit"]) & (F.col("name") == first["name"]))
    # Two concurrent runs may both have stored them; quantiles of one name are equal.
    cuts = rows.select("category", "prices", "cuts").dropDuplicates(["category"])
    return PriceQuantiles(first["name"], first["prices"], first["fit"], cuts)
