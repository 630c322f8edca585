"""Collect the histories of a split on the driver."""

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.arrays.sparse import flat
from recsys_spark.evaluate.kernels.labelled_events import LabelledEvents


def labelled_events(users: DataFrame, last_role: int, share: float) -> LabelledEvents:
    """The events up to ``last_role``, and those of the next role to be found: of all users, or of a ``share`` of them.

    ``users``: rows of ``protocols.user_rows``.
    """
    if share < 1:
        users = users.where(F.pmod(F.xxhash64("user_hash", F.lit("sequence")), F.lit(1_000_000)) < share * 1_000_000)
    table = users.select("user_id", "items", "roles", "fitted").orderBy("user_id").toArrow()
    items, offsets = flat(table["items"].combine_chunks())
    roles = flat(table["roles"].combine_chunks())[0]
    owner = np.repeat(np.arange(len(table)), np.diff(offsets))
    fitted = table["fitted"].to_numpy()
    return LabelledEvents(items.astype(np.int64), owner, roles <= last_role, roles == last_role + 1, fitted)
