"""Events to what is fitted on, what is asked and what is right: protocols. Pure DataFrame functions.

Every protocol gives each event of a user one role: to fit on, to choose hyper-parameters by (validation) or to test.
"""

from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

FIT, VALID, TEST = 0, 1, 2


@dataclass(frozen=True)
class Protocol:
    """How events are split.

    - ``leave_one_out``: a user's last event is the test, the one before it the validation; users with fewer than three
      events are fitted on only.
    - ``temporal``: events from ``valid_from`` are the validation, from ``test_from`` the test.
    - ``cold_items``: all events with one item in ten are the test, with another one in ten the validation: nothing of
      them is fitted on.
    - ``new_users``: as leave_one_out, for one user in five (half of them for validation), of whom nothing is fitted
      on; others are fitted on whole.
    """

    name: str
    seed: int = 0
    valid_from: date | None = None
    test_from: date | None = None


def newest_events(events: DataFrame, most: int) -> DataFrame:
    """``user_id, item_id, timestamp, weight, age``: the newest events of each user; the newest has age 1.

    ``events``: ``user_id, item_id, timestamp, weight``. Events with one item at one time are one, their weights added;
    an item that comes again later is an event of its own.
    """
    once = events.groupBy("user_id", "item_id", "timestamp").agg(F.sum("weight").alias("weight"))
    newest = Window.partitionBy("user_id").orderBy(F.desc("timestamp"), F.desc("item_id"))
    return once.withColumn("age", F.row_number().over(newest)).where(F.col("age") <= most)


def with_roles(events: DataFrame, protocol: Protocol) -> DataFrame:
    """Events of ``newest_events`` with ``role``, and ``fitted``: whether the user's FIT events are fitted on."""
    count = F.count("*").over(Window.partitionBy("user_id"))
    counted = events.withColumn("events_of_user", count)
    role, fitted = _role(protocol)
    return counted.select("*", role.cast("int").alias("role"), fitted.alias("fitted")).drop("events_of_user")


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
    asked = F.when(F.col("age") > 1, FIT).when(tenth == 0, TEST).when(tenth == 1, VALID)
    return asked.otherwise(FIT), tenth > 1


def _tenth(name: str, seed: int) -> Column:
    return F.pmod(F.xxhash64(name, F.lit(seed)), F.lit(10))


def user_rows(events: DataFrame, items: DataFrame, users: DataFrame) -> DataFrame:
    """``user_id, user_hash, groups, fitted, items, roles, weights``: the events of a user in one row, the oldest first.

    ``items``: ``item_id, row``, the number of each item. Events with other items are left out. ``users``: ``user_id,
    groups``.
    """
    event = F.struct((-F.col("age")).alias("age"), "row", "role", F.col("weight").cast("float").alias("weight"))
    lists = events.join(F.broadcast(items), on="item_id").groupBy("user_id", "fitted")
    own = lists.agg(F.array_sort(F.collect_list(event)).alias("own"))
    fields = {"items": "row", "roles": "role", "weights": "weight"}
    arrays = [F.col(f"own.{field}").alias(name) for name, field in fields.items()]
    known = own.join(users.select("user_id", "groups"), on="user_id", how="left")
    return known.select("user_id", F.xxhash64("user_id").alias("user_hash"), "groups", "fitted", *arrays)
