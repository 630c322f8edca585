"""The cut points of prices: taken once, stored, and used until a refit is due, so that a new price moves no other
item."""

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
    """Cut points by category, as rows of ``price_quantiles``, and the number of prices that they were taken of."""

    name: str
    prices: int
    fit: int
    rows: DataFrame


def fitted_quantiles(run: Run, options: BlockOptions, items: DataFrame, state: str) -> PriceQuantiles | None:
    """The stored cut points, until the prices have grown by ``refit_share`` or ``refit_prices`` asks for new ones.

    None where the price block is left out, or no item has a price. ``state``: what ``items`` were read from.
    """
    if not options.price_weight:
        return None
    last = _newest(run, options.category_prices)
    if last and not options.refit_prices:
        number = items.agg(F.count(finite_price())).collect()[0][0]
        if number < last.prices * (1 + options.refit_share):
            return last
    # One row per category, which the driver holds anyway to name them.
    found = [tuple(row) for row in price_quantiles(items, options.category_prices).orderBy("category").collect()]
    if not found:
        return last
    name = hashlib.sha256(json.dumps([(category, cuts) for category, _, cuts in found]).encode()).hexdigest()[:8]
    fit, prices = (last.fit + 1 if last else 1), found[0][1]  # the catalogue's row is the first
    if last and (last.name, last.prices) == (name, prices):
        return last
    rows = [
        {"name": name, "category": category, "fit": fit, "category_prices": options.category_prices}
        | {"prices": number, "cuts": cuts}
        for category, number, cuts in found
    ]
    frame = run.spark.createDataFrame(pa.Table.from_pylist(rows, PRICE_CUTS.arrow_schema))
    frame = frame.select(*(F.col(column).cast(kind) for column, kind in PRICE_CUTS.columns.items())).coalesce(1)
    key = run_key("fit_prices", {"name": name, "fit": fit, "state": state, "category_prices": options.category_prices})
    run.lake.commit(run.lake.stage(frame, PRICE_CUTS), key, append=True)
    return PriceQuantiles(name, prices, fit, frame.select("category", "prices", "cuts"))


def _newest(run: Run, category_prices: int) -> PriceQuantiles | None:
    fits = run.lake.read_or_empty(run.spark, PRICE_CUTS).where(F.col("category_prices") == category_prices)
    first = fits.orderBy(F.desc("fit"), "name", "category").first()
    if first is None:
        return None
    rows = fits.where((F.col("fit") == first["fit"]) & (F.col("name") == first["name"]))
    # Two runs that began at once may both have stored them; a name means the same cut points.
    cuts = rows.select("category", "prices", "cuts").dropDuplicates(["category"])
    return PriceQuantiles(first["name"], first["prices"], first["fit"], cuts)
