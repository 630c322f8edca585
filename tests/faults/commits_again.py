"""Three snapshots and three rows of a log, committed by runs that are started again where the store fails.

python -m tests.faults.commits_again LAKE
"""

import sys
from contextlib import suppress

from recsys_spark.errors import RetryError
from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import Table
from tests.faults.soak import LOG, SNAPSHOT, staged


def committed(lake: Lake, table: Table, number: float, key: str, *, append: bool = False) -> None:
    """Until the run is told that it is done, or finds that it was."""
    for _ in range(3):
        if lake.has_commit(table, key):
            return
        with suppress(RetryError):
            head = lake.last_commit(table)
            files = staged(lake, table, [("a", str(int(number)), number)], head.version if head else None)
            lake.commit(files, key, append=append)
            return
    raise AssertionError(f"{key} is never told that it is done")


def main(uri: str) -> None:
    lake = Lake(uri)
    for number in (1, 2, 3):
        committed(lake, SNAPSHOT, number, f"snapshot:{number}")
        committed(lake, LOG, number, f"log:{number}", append=True)


if __name__ == "__main__":
    main(sys.argv[1])
