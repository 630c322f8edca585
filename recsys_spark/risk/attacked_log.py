"""Events of attackers, written as the users they imitate write theirs. Pure DataFrame functions.

Profiles by kind follow Burke, Mobasher and others (Mobasher, Burke, Bhaumik, Williams, ACM TOIT 7(4), 2007): a pushed
item with the greatest rating, and fillers. Every attacker imitates one user: as many events, at the distances in time
that the user has. All choices are hashes of the attacker's id and the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from recsys_spark.risk.attack_pools import bucket_count, buckets
from recsys_spark.risk.draws import normal, pick, uniform

PREFIX = "sim-"
"""The beginning of the ids of injected users and items."""

GRID = 2.0**20
"""Values are added up as integer multiples of 1 / GRID: such a sum has no order."""

_SESSIONS, _SESSION_SECONDS = 3, 900

_TURNED = 1 / 3
"""Events after a takeover, as a share of those before it."""


@dataclass(frozen=True)
class Log:
    """What attackers know of a log.

    Args:
        end: time of its newest event, in microseconds since 1970.
        ratings: mean, standard deviation, least and greatest rating; None without ratings.
        event_type: of events that are no rating, the most frequent one that speaks for an item.
        items: number of items.
    """

    end: int
    ratings: tuple[float, float, float, float] | None
    event_type: str
    items: int


@dataclass(frozen=True)
class Plan:
    """An attack: its kind, seed and days, and the ids of its pools."""

    attack: str
    seed: int
    share: float
    days: float
    targets: Sequence[str]
    popular: Sequence[str]
    segments: DataFrame | None
    farm: Sequence[str]


def is_sampled(column: str, plan: Plan) -> Column:
    """Whether an id is one of those that the attack imitates, takes over or changes."""
    return uniform(F.col(column), plan.attack, plan.seed, "sample") < plan.share


def attacker_of(user: str, plan: Plan) -> Column:
    """The id of the attacker that imitates a user."""
    name = F.concat_ws(":", F.lit(str(plan.seed)), F.lit(plan.attack), user)
    return F.concat(F.lit(PREFIX), F.substring(F.sha2(name, 256), 1, 16))


def imitated(events: DataFrame, plan: Plan) -> DataFrame:
    """The events of the sampled users with ``attacker, place, places, first, last``: place from 1 in time."""
    by_user = Window.partitionBy("user_id")
    rows = events.where(is_sampled("user_id", plan)).withColumns(
        {
            "place": F.row_number().over(by_user.orderBy("timestamp", "item_id", "event_type")),
            "places": F.count("*").over(by_user),
            "first": F.min("timestamp").over(by_user),
            "last": F.max("timestamp").over(by_user),
        }
    )
    return rows.withColumn("attacker", attacker_of("user_id", plan))


def shilling_events(events: DataFrame, items: DataFrame, log: Log, plan: Plan) -> DataFrame:
    """Events of shilling profiles, with the columns of ``events`` and ``target``."""
    rows = imitated(events, plan).withColumn("target", _target(plan))
    own = F.floor(uniform(F.col("attacker"), plan.seed, "place") * F.col("places")) + 1
    half = uniform(F.col("attacker"), F.col("place"), plan.seed, "half") < 0.5
    role = F.when(F.col("place") == own, "target").when(half & F.lit(plan.attack in ("bandwagon", "segment")), "pool")
    rows = rows.withColumn("role", F.coalesce(role, F.lit("filler")))
    rows = _with_filler(rows, items, log, plan)
    draw = uniform(F.col("attacker"), F.col("place"), plan.seed, "pool")
    if plan.segments is not None:
        near = plan.segments.withColumnRenamed("items", "near")
        rows = rows.join(F.broadcast(near), on="target", how="left")
        pooled = pick(F.col("near"), draw)
    else:
        pooled = pick(_array(plan.popular), draw)
    item = F.when(F.col("role") == "target", F.col("target")).when(F.col("role") == "pool", pooled)
    rows = rows.withColumn("item_id", F.coalesce(item, F.col("filler")))
    return _rated(rows.withColumn("timestamp", _shifted(log, plan)), events, log, plan)


def farm_events(events: DataFrame, log: Log, plan: Plan) -> DataFrame:
    """Events of click farms: half of the pool and the pushed item, in bursts of 15 minutes that all accounts share."""
    accounts = imitated(events, plan).where("place = 1").withColumn("target", _target(plan))
    one = F.concat(F.array("target"), _array(plan.farm))
    rows = accounts.withColumn("item_id", F.explode(one)).withColumn("role", F.lit("pool"))
    is_target = F.col("item_id") == F.col("target")
    chosen = uniform(F.col("attacker"), F.col("item_id"), plan.seed, "chosen") < 0.5
    session = F.floor(uniform(F.col("attacker"), F.col("item_id"), plan.seed, "session") * _SESSIONS)
    before = uniform(session, plan.seed, "start") * plan.days * 86_400 + _SESSION_SECONDS
    seconds = before - uniform(F.col("attacker"), F.col("item_id"), plan.seed, "second") * _SESSION_SECONDS
    rows = rows.where(is_target | chosen).withColumn("timestamp", _before(log.end, seconds))
    return _as_events(rows, log, F.lit(None if log.ratings is None else log.ratings[3]).cast("double"))


def takeover_events(events: DataFrame, items: DataFrame, log: Log, plan: Plan) -> DataFrame:
    """Events of users that were taken over: a third as many again at the end, first the pushed item, then fillers."""
    rows = imitated(events, plan).withColumn("target", _target(plan))
    rows = rows.where(F.col("place") <= F.ceil(F.col("places") * _TURNED)).withColumn("attacker", F.col("user_id"))
    rows = _with_filler(rows, items, log, plan)
    rows = rows.withColumn("role", F.when(F.col("place") == 1, "target").otherwise("filler"))
    item = F.when(F.col("place") == 1, F.col("target")).otherwise(F.col("filler"))
    later = F.timestamp_micros(F.unix_micros("last") + 3_600_000_000 + F.col("place").cast("bigint") * 20_000_000)
    rows = rows.withColumn("item_id", item).withColumn("timestamp", F.least(later, F.timestamp_micros(F.lit(log.end))))
    return _as_events(rows, log, F.lit(None if log.ratings is None else log.ratings[3]).cast("double"))


def _target(plan: Plan) -> Column:
    return pick(_array(plan.targets), uniform(F.col("attacker"), plan.seed, "target"))


def _array(names: Sequence[str]) -> Column:
    return F.array(*(F.lit(name) for name in names)).cast("array<string>")


def _with_filler(rows: DataFrame, items: DataFrame, log: Log, plan: Plan) -> DataFrame:
    """Add ``filler``, an item drawn from all."""
    number = bucket_count(log.items)
    bucket = F.floor(uniform(F.col("attacker"), F.col("place"), plan.seed, "bucket") * number)
    by_bucket = buckets(items.select("item_id"), log.items)
    joined = rows.withColumn("bucket", bucket).join(by_bucket, on="bucket", how="left")
    filler = pick(F.col("ids"), uniform(F.col("attacker"), F.col("place"), plan.seed, "filler"))
    return joined.withColumn("filler", filler).drop("bucket", "ids")


def _shifted(log: Log, plan: Plan) -> Column:
    """The time of the imitated event, moved into the days of the attack; a longer history is pressed together."""
    if not plan.days:
        return F.col("timestamp")
    end, days = log.end, plan.days * 86_400e6
    before = uniform(F.col("attacker"), plan.seed, "start") * days
    span = F.unix_micros("last") - F.unix_micros("first")
    scale = F.least(F.lit(1.0), before / F.greatest(span, F.lit(1)))
    elapsed = (F.unix_micros("timestamp") - F.unix_micros("first")) * scale
    return _before(end, (before - elapsed) / 1e6)


def _before(end: int, seconds: Column) -> Column:
    return F.timestamp_micros((F.lit(end) - F.round(seconds * 1e6)).cast("bigint"))


def _rated(rows: DataFrame, events: DataFrame, log: Log, plan: Plan) -> DataFrame:
    """Give the events of a profile the ratings of its kind."""
    if log.ratings is None:
        return _as_events(rows, log, F.lit(None).cast("double"))
    mean, deviation, least, most = log.ratings
    noise = normal(F.col("attacker"), F.col("item_id"), plan.seed, "rating")
    drawn = mean + deviation * noise
    if plan.attack == "average":
        exact = F.sum(F.round(F.col("value") * GRID).cast("bigint")) / F.count("value") / GRID
        ratings = events.where("event_type = 'rating'").groupBy("item_id").agg(exact.alias("usual"))
        rows = rows.join(ratings, on="item_id", how="left")
        drawn = F.coalesce("usual", F.lit(mean)) + 0.5 * noise
    if plan.attack in ("segment", "love_hate"):
        drawn = F.lit(least)
    value = F.when(F.col("role").isin("target", "pool"), F.lit(most)).otherwise(F.round(drawn))
    return _as_events(rows, log, F.greatest(F.lit(least), F.least(F.lit(most), value)))


def _as_events(rows: DataFrame, log: Log, value: Column) -> DataFrame:
    """``user_id, item_id, event_type, timestamp, value, target``: every item of an attacker once, the pushed one
    first."""
    kind = F.lit("rating" if log.ratings is not None else log.event_type)
    order = F.struct((F.col("role") != "target").alias("late"), "place", "timestamp", value.alias("value"), "target")
    once = rows.groupBy(F.col("attacker").alias("user_id"), "item_id").agg(F.min(order).alias("one"))
    columns = [F.col(f"one.{name}").alias(name) for name in ("timestamp", "value", "target")]
    return once.select("user_id", "item_id", kind.alias("event_type"), *columns)
