"""A lake that changes from night to night, in memory and in tables."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import pytest

from recsys_spark.encode.kernels.model_folder import user_fingerprint
from recsys_spark.errors import RetryError
from recsys_spark.errors.failpoints import VARIABLE
from recsys_spark.lake.lake import Lake
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.recommend.options import TopKOptions
from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.refresh.options import VacuumOptions
from recsys_spark.refresh.steps.vacuum_lake import vacuum_lake
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import (
    EMBEDDINGS,
    EVENTS,
    ITEM_VECTORS,
    ITEMS,
    RECOMMENDATIONS,
    TABLES,
    USER_PROFILES,
    USER_RULES,
    USERS,
)
from tests.bench.stored_rows import commit_rows

FIRST = date(2024, 3, 1)


SPACE = "enc-1#blocks"


USERS_AT_FIRST, ITEMS_AT_FIRST = 9, 14


class Options(ProfileOptions, TopKOptions):
    """Keys of the two steps."""


class World:
    """The source tables of a lake, and the nightly run over them."""

    def __init__(self, spark, folder, **options):
        self.spark, self.lake, self.options, self.nights = spark, Lake(str(folder)), options, 0
        self.run_date = FIRST
        self.vectors = {n: ((n * 7) % 5 - 2, (n * 3) % 4 - 1, n % 3 - 1, 1) for n in range(ITEMS_AT_FIRST)}
        self.about = {n: (None, None, None) for n in self.vectors}
        self.events = {
            (u, (u * 5 + n * 3) % ITEMS_AT_FIRST, -1 - n - u % 3) for u in range(USERS_AT_FIRST) for n in range(4)
        }
        self.texts, self.rules, self.locales = {}, {}, {u: "de" if u % 2 else "fr" for u in range(USERS_AT_FIRST)}

    def apply(self, change):
        kind, *what = change
        if kind == "event":
            self.events.add(tuple(what))
        elif kind == "no event":
            mine = sorted(e for e in self.events if e[0] == what[0])
            self.events -= set(mine[:1])
        elif kind == "item":
            self.vectors[what[0]] = what[1]
            self.about.setdefault(what[0], (None, None, None))
        elif kind == "no item":
            self.vectors.pop(what[0], None)
            self.about.pop(what[0], None)
        elif kind == "about" and what[0] in self.about:
            self.about[what[0]] = tuple(what[1:])
        elif kind == "rule":
            self.rules[what[0], what[1]] = what[2]
        elif kind == "locale":
            self.locales[what[0]] = what[1]
        elif kind == "text":
            self.texts[what[0]] = what[1]

    def forget(self, user):
        """Remove a user from the lake and, as ingest does, from the sources."""
        forget_users(self.run, ForgetOptions(lake=self.lake.uri, user_ids=f"u{user}"))
        self.events = {event for event in self.events if event[0] != user}
        self.rules = {key: what for key, what in self.rules.items() if key[0] != user}
        self.locales.pop(user, None)
        self.texts.pop(user, None)

    def vacuum(self):
        """Remove all versions but the newest."""
        vacuum_lake(self.run, VacuumOptions(lake=self.lake.uri, keep_hours=1))
        for table in (table for table in TABLES.values() if self.lake.version(table) is not None):
            self.lake.vacuum(table, keep_hours=0)

    def _users(self):
        for user in self.locales | self.texts:
            text = self.texts.get(user)
            yield (f"u{user}", None, text and str(text), self.locales.get(user), None)

    def commit_sources(self):
        self.nights += 1
        rows = {
            ITEMS: [_item(n, *about) for n, about in self.about.items()],
            USERS: list(self._users()),
            USER_RULES: [(f"u{u}", f"i{i}", what) for (u, i), what in self.rules.items() if what],
            ITEM_VECTORS: [(f"i{n}", SPACE, [float(x) for x in v]) for n, v in self.vectors.items()],
            EMBEDDINGS: [
                (str(v), user_fingerprint("enc"), [float(x) for x in v]) for v in set(filter(None, self.texts.values()))
            ],
            EVENTS: [(f"u{u}", f"i{i}", "view", _time(d), None) for u, i, d in sorted(self.events)],
        }
        for table, values in rows.items():
            commit_rows(self.lake, table, values, f"sources-{self.nights}")

    @property
    def run(self):
        return Run("refresh_lake", self.lake, Progress())

    def refresh(self, **more):
        return self.profiles(**more), recommend_items(self.run, self._options(more))

    def profiles(self, **more):
        return build_profiles(self.run, self._options(more))

    def _options(self, more):
        named = {"scorer": "cosine"} | self.options | more
        return Options(lake=self.lake.uri, run_date=self.run_date, k=4, user_block_rows=5, **named)

    def shown(self):
        rows = self.lake.read(self.spark, RECOMMENDATIONS).collect()
        people = self.lake.read(self.spark, USER_PROFILES).collect()
        return sorted(map(tuple, rows)), sorted(map(tuple, people))

    def crash(self, point):
        """A run that ends at ``point``, as if it were killed."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, f"{point}=fail")
            with suppress(RetryError):  # a run with nothing to publish does not reach the point
                self.refresh()

    def check(self):
        """Compare the night's run with a full one."""
        reports = self.refresh()
        incremental = self.shown()
        self.refresh(full=True)
        assert incremental == self.shown()
        return reports


def _item(n, boost, since, until):
    days = (None if d is None else FIRST + timedelta(days=d) for d in (since, until))
    return (f"i{n}", *[None] * 6, "de" if n % 3 else "fr", *days, boost, None)


def _time(days):
    return datetime(2024, 3, 1, 12, tzinfo=UTC) + timedelta(days=days)
