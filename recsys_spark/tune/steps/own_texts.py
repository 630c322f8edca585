"""Read one's own texts to the driver, for language modelling."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pyspark.sql import functions as F

from recsys_spark.errors import InputError, UsageError
from recsys_spark.publish.steps.publishing import pin_inputs
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.sampling import hash_sample
from recsys_spark.tables.schemas import ITEMS, USERS
from recsys_spark.tune.kernels.next_item_eval import FIT, TEST, VALID
from recsys_spark.tune.kernels.own_texts import OwnTexts
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.scored_texts import distinct_texts

_DRAWS = 1 << 20


def read_own_texts(run: Run, options: TuningOptions) -> tuple[OwnTexts, Mapping[str, Any]]:
    """The distinct texts of items and users in order, their parts by hash, and the versions of the tables.

    Raises:
        InputError: too few texts.
        UsageError: the shares of validation and test leave nothing to train on.
    """
    if options.valid_share + options.test_share >= 1:
        raise UsageError(
            f"valid_share {options.valid_share} and test_share {options.test_share} leave nothing to train on"
        )
    inputs = pin_inputs(run, ITEMS, USERS)
    texts = distinct_texts(inputs.frame(run, ITEMS), inputs.frame(run, USERS))
    share = options.training_max_texts / max(run.lake.rows(ITEMS) + run.lake.rows(USERS), 1)
    if share < 1:
        texts = texts.where(hash_sample("text", share))
    rows = texts.withColumn("draw", F.pmod(F.xxhash64("text", F.lit(options.seed)), F.lit(_DRAWS))).orderBy("text")
    table = rows.toArrow()
    draw = table["draw"].to_numpy() / _DRAWS
    ends = np.cumsum([options.valid_share, options.test_share])
    part = np.where(draw < ends[0], VALID, np.where(draw < ends[1], TEST, FIT)).astype(np.int8)
    sizes = np.bincount(part, minlength=3)
    if table.num_rows < options.min_pairs or not sizes.all():
        raise InputError(
            f"{table.num_rows} distinct texts of items and users: too little to learn from; training needs min_pairs "
            f"{options.min_pairs} texts, some of them for validation and test"
        )
    return OwnTexts(table["text"].to_pylist(), part), dict(inputs.versions)
