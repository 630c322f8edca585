"""The whitening of an encoder's vectors: fitted once, stored, and used until a refit is due."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.errors import InputError
from recsys_spark.items.kernels.whitening import Whitening, whitening
from recsys_spark.items.whitening import moment_rows, moments_of
from recsys_spark.publish.steps.publishing import run_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import WHITENINGS
from recsys_spark.tables.task_stream import ArrowTransform


@dataclass(frozen=True)
class Fit:
    """A transform, and the number of items that it was fitted on."""

    transform: Whitening
    items: int
    fit: int


def fitted(
    run: Run, encoder: str, vectors: DataFrame, state: str, *, shrink: float, refit_share: float, again: bool = False
) -> Fit | None:
    """The whitening that vectors of ``encoder`` get; None where there is no vector: whoever builds with them says so.

    The stored one, so that new items meet old ones, until the items have grown by ``refit_share`` or a fit ``again`` is
    asked for.

    Args:
        vectors: ``embedding`` of every item that has one.
        state: what ``vectors`` were read from.
    """
    last = _newest(run, encoder, shrink)
    if last and not again and vectors.count() < last.items * (1 + refit_share):
        return last
    moments = moments_of([(row["place"], row["units"]) for row in moment_rows(vectors).collect()])
    if not moments.count:
        return None
    found = Fit(whitening(moments, shrink), moments.count, last.fit + 1 if last else 1)
    if last and (last.transform.name, last.items) == (found.transform.name, found.items):
        return last
    _store(run, encoder, shrink, found, state)
    return found


def stored(run: Run, name: str) -> Whitening:
    """The transform that a vector space names.

    Raises:
        InputError: the table is gone, or does not hold it.
    """
    rows = run.lake.read_or_empty(run.spark, WHITENINGS).where(F.col("name") == name).limit(1).toArrow()
    if not rows.num_rows:
        raise InputError(
            f"item_vectors were whitened by '{name}', which table 'whitenings' does not hold: "
            "run build_item_vectors with --refit_whitening=true"
        )
    return _transform(rows)


def _newest(run: Run, encoder: str, shrink: float) -> Fit | None:
    fits = run.lake.read_or_empty(run.spark, WHITENINGS).where(
        (F.col("model") == encoder) & (F.col("shrink") == shrink)
    )
    rows = fits.orderBy(F.desc("fit"), "name").limit(1).toArrow()
    return Fit(_transform(rows), rows["items"][0].as_py(), rows["fit"][0].as_py()) if rows.num_rows else None


def _transform(rows: pa.Table) -> Whitening:
    mean, matrix = (rows[name].combine_chunks().flatten().to_numpy() for name in ("mean", "matrix"))
    return Whitening(mean, matrix.reshape(len(mean), len(mean)))


def _store(run: Run, encoder: str, shrink: float, found: Fit, state: str) -> None:
    row = {"name": found.transform.name, "model": encoder, "shrink": shrink, "fit": found.fit, "items": found.items}
    numbers = {"mean": found.transform.mean, "matrix": np.ravel(found.transform.matrix)}
    table = pa.Table.from_pylist([row | numbers], WHITENINGS.arrow_schema)
    # As local rows the matrix would travel in the task itself, which Spark warns of from 1,000 KiB on.
    held = run.spark.sparkContext.broadcast(table)
    make: ArrowTransform = lambda batches, _: (part for _ in batches for part in held.value.to_batches())  # noqa: E731
    key = run_key("fit_whitening", row | {"state": state})
    run.lake.commit(run.lake.stage(run.spark.range(1, numPartitions=1), WHITENINGS, make), key, append=True)
