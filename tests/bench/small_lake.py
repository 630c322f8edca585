"""A lake of a few rows that a test writes itself."""

from datetime import date, datetime

from recsys_spark.lake.lake import Lake
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import EVENTS, ITEM_VECTORS, RECOMMENDATIONS, USER_PROFILES
from tests.bench.stored_rows import commit_rows

DAY = date(2024, 3, 1)


THEN = datetime(2024, 2, 1)


VECTORS = {"a1": [1.0, 0.0], "a2": [0.8, 0.6], "a3": [0.0, 1.0]}


class Bench:
    """A lake of tiny hand-made tables."""

    def __init__(self, spark, folder):
        self.spark, self.lake = spark, Lake(str(folder / "lake"))

    @property
    def run(self):
        return Run("bench", self.lake, Progress())

    def put(self, table, *rows, **commit):
        full = [row + (None,) * (len(table.columns) - len(row)) for row in rows]
        commit_rows(self.lake, table, full, f"{rows}", **commit)

    def put_vectors(self, model="m-1", vectors=VECTORS):
        self.put(ITEM_VECTORS, *((item, model, vector) for item, vector in vectors.items()))

    def put_profiles(self, model="m-1", users=None):
        rows = {"u1": [1.0, 0.1], "u2": [0.1, 1.0]} if users is None else users
        self.put(USER_PROFILES, *((user, model, vector, 1, THEN, THEN) for user, vector in rows.items()))

    def put_events(self, *rows):
        self.put(EVENTS, *((user, item, kind, THEN, None) for user, item, kind in rows))

    def lists(self, **options):
        report = recommend_items(
            self.run, TopKOptions(lake=self.lake.uri, run_date=DAY, **{"scorer": "cosine", **options})
        )
        found = self.lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect()
        return report, [(row["user_id"], row["item_id"], row["rank"]) for row in found]
