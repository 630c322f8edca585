"""A lake that a stream keeps up between two nights, and the batch jobs that its rows are compared with."""

import json
from datetime import timedelta

from recsys_spark.recommend.steps.recommend_items import recommend_items
from recsys_spark.stream.live import current_lists, newest_rows
from recsys_spark.stream.options import StreamOptions
from recsys_spark.stream.steps.stream_profiles import stream_profiles
from recsys_spark.tables.schemas import EVENTS, LIVE_PROFILES, LIVE_RECOMMENDATIONS, RECOMMENDATIONS
from tests.bench.changing_lake import World, _time
from tests.bench.stored_rows import commit_rows

DATASET = """
title = "Streamed"
[sources]
clicks = {{ path = "clicks", format = "json", schema = "{schema}" }}
things = {{ path = "things.csv" }}
[stream]
path = "arriving"
schema = "{schema}"
[items]
from = "things"
select = {{ item_id = "sku" }}
[events]
from = "clicks"
select = {{ user_id = "user", item_id = "sku", event_type = "what", timestamp = "try_to_timestamp(at)" }}
"""


class StreamedWorld(World):
    """A lake with a stream: ``send`` writes a file of events, ``stream`` processes the files."""

    def __init__(self, spark, folder, **options):
        super().__init__(spark, folder / "lake", **options)
        self.data, self.sent = folder, 0
        (folder / "arriving").mkdir()
        schema = "user string, sku string, what string, at string"
        self.dataset = folder / "streamed.toml"
        self.dataset.write_text(DATASET.format(schema=schema))

    def send(self, *events, lines=()):
        """A file of (user, item, day) and of raw ``lines``."""
        rows = [
            {"user": f"u{u}", "sku": f"i{i}", "what": "view", "at": _time(d).strftime("%Y-%m-%d %H:%M:%S")}
            for u, i, d in events
        ]
        self.sent += 1
        text = "".join(f"{line}\n" for line in [*map(json.dumps, rows), *lines])
        hidden = self.data / "arriving" / f".{self.sent}.tmp"
        hidden.write_text(text)
        hidden.rename(self.data / "arriving" / f"{self.sent:04}.json")
        self.events |= set(events)

    def stream(self, **options):
        """Process what was sent, one file a batch."""
        named = {"max_files": 1, "max_bad_share": 1.0} | options
        return stream_profiles(
            self.run, StreamOptions(lake=self.lake.uri, dataset=str(self.dataset), data=str(self.data), **named)
        )

    def live(self):
        """(lists, profiles) that count now, by user, without their date."""
        lists, live = (self.lake.read_or_empty(self.spark, t) for t in (RECOMMENDATIONS, LIVE_RECOMMENDATIONS))
        rows = current_lists(lists, live, self.run_date).select("user_id", "rank", "item_id", "score").collect()
        people = newest_rows(self.lake.read_or_empty(self.spark, LIVE_PROFILES)).collect()
        return sorted(map(tuple, rows)), {row["user_id"]: row["embedding"] for row in people}

    def batch(self, **more):
        """What the batch jobs publish from the same events, on the day after the stream's last."""
        commit_rows(
            self.lake, EVENTS, [(f"u{u}", f"i{i}", "view", _time(d), None) for u, i, d in sorted(self.events)], "again"
        )
        first, self.run_date = self.run_date, self.run_date + timedelta(days=2)
        try:
            self.profiles()
            recommend_items(self.run, self._options({}))
            lists, people = self.shown()
        finally:
            self.run_date = first
        return sorted((row[0], row[3], row[1], row[2]) for row in lists), {row[0]: row[2] for row in people}
