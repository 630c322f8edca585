"""The whitening of an encoder's embeddings: fitted once, stored, and used until a refit is due."""

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
    """A whitening, the number of items it was fitted on, and its generation."""

    transform: Whitening
    items: int
    generation: int


def fitted_whitening(
    run: Run,
    encoder: str,
    vectors: DataFrame,
    content_id: str,
    *,
    shrink: float,
    refit_share: float,
    force: bool = False,
) -> Fit | None:
    """The whitening of embeddings of ``encoder``; None without any, which the caller reports.

    It is the stored one, so that new items are comparable with old ones, until the items have grown by ``refit_share``
    or ``force`` is set.

    Args:
        vectors: ``embedding`` of every item that has one.
        content_id: of the tables from which ``vectors`` were read.
        shrink: of ``kernels.whitening``.
    """
    last = _newest(run, encoder, shrink)
    if last and not force and vectors.count() < last.items * (1 + refit_share):
        return last
    moments = moments_of([(row["place"], row["units"]) for row in moment_rows(vectors).collect()])
    if not moments.count:
        return None
    fit = Fit(whitening(moments, shrink), moments.count, last.generation + 1 if last else 1)
    if last and (last.transform.name, last.items) == (fit.transform.name, fit.items):
        return last
    _store(run, encoder, shrink, fit, content_id)
    return fit


def stored_whitening(run: Run, name: str) -> Whitening:
    """The stored whitening of this name, as in the name of a vector space.

    Raises:
        InputError: the table is missing or does not have it.
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


def _store(run: Run, encoder: str, shrink: float, fit: Fit, content_id: str) -> None:
    row = {"name": fit.transform.name, "model": encoder, "shrink": shrink, "fit": fit.generation, "items": fit.items}
    numbers = {"mean": fit.transform.mean, "matrix": np.ravel(fit.transform.matrix)}
    table = pa.Table.from_pylist([row | numbers], WHITENINGS.arrow_schema)
    # Local rows would put the matrix into the task itself, of which Spark warns from 1,000 KiB on.
    shared = run.spark.sparkContext.broadcast(table)
    transform: ArrowTransform = lambda batches, _: (part for _ in batches for part in shared.value.to_batches())  # noqa: E731
    key = run_key("fit_whitening", row | {"state": content_id})
    run.lake.commit(run.lake.stage(run.spark.range(1, numPartitions=1), WHITENINGS, transform), key, append=True)
