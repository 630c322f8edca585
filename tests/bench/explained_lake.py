"""A lake whose lists have reasons."""

from datetime import UTC, date, datetime, timedelta

import numpy as np

from recsys_spark.encode.kernels.model_folder import ModelSpec
from recsys_spark.hybrid.steps.fit_item_weights import fit_item_weights
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.lake import Lake
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    ITEMS,
    RECOMMENDATIONS,
    USER_RULES,
    USERS,
)
from tests.bench.stored_rows import commit_rows

DAY = date(2024, 3, 1)


MODEL = ModelSpec("nowhere", "weights", "files")


TYPES = ("view", "purchase", "rating", "skip", "cancel")


class Options(ProfileOptions, TopKOptions, BlockOptions):
    """Keys of the steps."""


class World:
    """A small lake: items with all feature blocks, users with texts, likes and dislikes."""

    def __init__(self, spark, folder, boosts=True, users=12, items=20, title="<b>{}</b>"):
        self.spark, self.lake = spark, Lake(str(folder))
        self.title, self.run = title, Run("refresh_lake", self.lake, Progress())
        random = np.random.default_rng(3)
        self.items, self.users = [f"i{n:02}" for n in range(items)], [f"u{n:02}" for n in range(users)]
        self.embeddings = {text: random.normal(size=6) for text in [*self.items[1:], *self.users[::2]]}
        self.events = [
            (
                user,
                self.items[random.integers(items)],
                TYPES[random.integers(5)],
                _time(-int(random.integers(1, 90)), number),
                float(random.integers(1, 6)),
            )
            for number, user in enumerate(self.users[:-1] * 7)
        ]
        self.boosts = {item: [None, 0.05, -0.1][n % 3] if boosts else None for n, item in enumerate(self.items)}
        self.commit(0)

    def commit(self, night):
        items = [
            (
                i,
                self.title.format(i),
                i,
                i,
                [["a", "b"], ["a", "c"], None][n % 3],
                [None, "x", "y"][n % 3],
                3.0 * n,
                "de",
                None,
            )
            + (None, self.boosts[i], None)
            for n, i in enumerate(self.items)
        ]
        rows = {
            ITEMS: items,
            USERS: [(u, u, u, "de" if n % 3 else "fr", [f"age: {n % 2}"]) for n, u in enumerate(self.users)],
            EVENTS: self.events,
            USER_RULES: [],
            EMBEDDINGS: [(t, MODEL.fingerprint, (v / np.linalg.norm(v)).tolist()) for t, v in self.embeddings.items()],
        }
        for table, records in rows.items():
            commit_rows(self.lake, table, records, f"sources-{night}")

    def refresh(self, **more):
        named = {"scorer": "cosine"} | more
        options = Options(lake=self.lake.uri, run_date=DAY, k=6, category_prices=5, user_block_rows=5, **named)
        build_item_vectors(self.run, options, MODEL)
        if options.scorer == "hybrid":
            fit_item_weights(self.run, options)
        else:
            build_profiles(self.run, options)
        return recommend_items(self.run, options)

    def rows(self):
        return self.lake.read(self.spark, RECOMMENDATIONS).orderBy("user_id", "rank").collect()


def _time(days, seconds):
    return datetime(2024, 3, 1, tzinfo=UTC) + timedelta(days=days, seconds=seconds)
