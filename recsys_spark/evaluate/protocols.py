"""Evaluation protocols: split the events of each user. Pure DataFrame functions.

A protocol gives each event one role: FIT, to fit on; VALID, to choose hyper-parameters; TEST, to test.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

FIT, VALID, TEST = 0, 1, 2


@dataclass(frozen=True)
class Protocol:
    """A protocol with its seed and its days.

    - ``leave_one_out``: a user's last event is for the test, the one before it for validation. Users with fewer than
      three events are for fitting only.
    - ``temporal``: events from ``valid_from`` on are for validation, from ``test_from`` on for the test.
    - ``cold_items``: all events of one item in ten are for the test, of another one in ten for validation. These items
      have no event to fit on.
    - ``new_users``: the last event of one user in ten is for the test, of another one in ten for validation. Nothing of
      these users is fitted on; all events of the others are.
    """

    name: str
    seed: int = 0
    valid_from: date | None = None
    test_from: date | None = None


def newest_events(events: DataFrame, most: int, shuffle_ties: int | None = None) -> DataFrame:
    """``user_id, item_id, timestamp, weight, age``: the ``most`` newest events of each user; the newest has age 1.

    ``events``: ``user_id, item_id, timestamp, weight``. Events of a user with the same item and timestamp are merged,
    their weights added; a later event with the same item is a separate one.

    Of events of a user at the same time, the one with the greatest item id is the newest. That order says nothing, yet
    a scorer can learn it where ids are numbered by a rule. With a seed in ``shuffle_ties``, a hash of seed, user and
    item decides instead.
    """
    once = events.groupBy("user_id", "item_id", "timestamp").agg(F.sum("weight").alias("weight"))
    shuffled = [] if shuffle_ties is None else [F.xxhash64("user_id", "item_id", F.lit(shuffle_ties))]
    newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), *shuffled, F.desc("item_id"))
    return once.withColumn("age", F.row_number().over(newest)).where(F.col("age") <= most)


def with_roles(events: DataFrame, protocol: Protocol) -> DataFrame:
    """Add ``role`` and ``fitted``, whether the user's FIT events may be fitted on, to rows of ``newest_events``."""
    count = F.count("*").over(Window.partitionBy("user_id"))
    counted = events.withColumn("events_of_user", count)
    role, fitted = _role(protocol)
    return counted.select("*", role.cast("int").alias("role"), fitted.alias("fitted")).drop("events_of_user")


def one_event_earlier(users: DataFrame) -> DataFrame:
    """Rows of ``user_rows`` whose roles are those of a split one event earlier: the last FIT event of a user is for
    validation, and the roles of later events are one greater. A user's only FIT event stays one."""
    fit = F.size(F.filter("roles", lambda role: role == FIT))
    last = lambda place: (place == fit - 1) & (fit > 1)  # noqa: E731
    roles = F.transform(
        "roles", lambda role, place: F.when(role > FIT, role + 1).when(last(place), VALID).otherwise(FIT)
    )
    return users.withColumn("roles", roles.cast("array<int>"))


def _role(protocol: Protocol) -> tuple[Column, Column]:
    always = F.lit(True)
    last = F.when(F.col("events_of_user") < 3, FIT).when(F.col("age") == 1, TEST).when(F.col("age") == 2, VALID)
    if protocol.name == "leave_one_out":
        return last.otherwise(FIT), always
    if protocol.name == "temporal":
        valid, test = (F.lit(str(day)).cast("timestamp") for day in (protocol.valid_from, protocol.test_from))
        time = F.col("timestamp")
        return F.when(time >= test, TEST).when(time >= valid, VALID).otherwise(FIT), always
    if protocol.name == "cold_items":
        tenth = _tenth("item_id", protocol.seed)
        return F.when(tenth == 0, TEST).when(tenth == 1, VALID).otherwise(FIT), always
    tenth = _tenth("user_id", protocol.seed)
    role = F.when(F.col("age") > 1, FIT).when(tenth == 0, TEST).when(tenth == 1, VALID)
    return role.otherwise(FIT), tenth > 1


def _tenth(name: str, seed: int) -> Column:
    return F.pmod(F.xxhash64(name, F.lit(seed)), F.lit(10))


def user_rows(events: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """``user_id, user_hash, groups, fitted, items, roles, weights, days``: one row per user, the oldest event first.

    ``days``: time of each event in days since 1970, with a fraction.

    Args:
        events: from ``with_roles``. Those of items that ``items`` lacks are left out.
        items: ``item_id, row``, the number of each item.
        users: ``user_id, groups``.
    """
    day = (F.unix_micros("timestamp") / 86_400e6).alias("day")
    event = F.struct((-F.col("age")).alias("age"), "row", "role", F.col("weight").cast("float").alias("weight"), day)
    by_user = events.join(F.broadcast(items), on="item_id").groupBy("user_id", "fitted")
    histories = by_user.agg(F.array_sort(F.collect_list(event)).alias("events"))
    fields = {"items": "row", "roles": "role", "weights": "weight", "days": "day"}
    arrays = [F.col(f"events.{field}").alias(name) for name, field in fields.items()]
    rows = histories.join(users.select("user_id", "groups"), on="user_id", how="left")
    return rows.select("user_id", F.xxhash64("user_id").alias("user_hash"), "groups", "fitted", *arrays)
