"""Sampled users with favourites, recommendations and reasons → a section of a report."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys_spark.evaluate.options import MetricOptions
from recsys_spark.lake.lake_key import lake_key
from recsys_spark.privacy.rules import id_hash
from recsys_spark.report.aggregates import explained_lists
from recsys_spark.report.page import Gallery, Note, Section, Share, UserCard
from recsys_spark.report.showcase import listed_users, recent_favourites, sample_users
from recsys_spark.report.steps.list_quality import persisted
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.tables.schemas import EVENTS, ITEMS, USERS

_FAVOURITES, _CANDIDATES, _HASH_DIGITS = 5, 50, 8


def gallery(run: Run, lists: DataFrame, options: MetricOptions, users: int, *, show_ids: bool) -> Section:
    """Sampled users with favourites, recommendations and reasons; ids and texts only with ``show_ids``."""
    events, items = run.lake.read(run.spark, EVENTS), run.lake.read(run.spark, ITEMS)
    candidates = _users(run, listed_users(lists, _CANDIDATES * users).collect())
    with persisted(events.join(F.broadcast(candidates), on="user_id", how="left_semi")) as histories:
        rows = sample_users(candidates, histories, options.run_date, users).collect()
        ids, sample = [row["user_id"] for row in rows], _users(run, rows)
        favourites = recent_favourites(histories, items, sample, options.run_date, _FAVOURITES).collect()
    entries = explained_lists(lists, items, sample).collect()
    texts, key = {}, lake_key(run.lake.uri, make=True) or b""
    if show_ids:
        profiles = run.lake.read_or_empty(run.spark, USERS).join(sample, on="user_id", how="left_semi")
        texts = {row["user_id"]: row["text"] for row in profiles.select("user_id", "text").collect()}
    cards = [
        UserCard(
            user if show_ids else id_hash("user", user, key).rpartition(":")[2][:_HASH_DIGITS],
            texts.get(user) or "",
            [row["title"] for row in favourites if row["user_id"] == user],
            [_recommendation(row) for row in entries if row["user_id"] == user],
        )
        for user in ids
    ]
    naming = "" if show_ids else " Users are named by the first digits of a keyed hash of their id."
    note = Note(f"{len(ids)} users sampled by a hash, those with ten or more events first.{naming}")
    return Section("gallery", "Gallery", [note, Gallery(cards)])


def _users(run: Run, rows: Sequence[Any]) -> DataFrame:
    return run.spark.createDataFrame([(row["user_id"],) for row in rows], "user_id string")


def _recommendation(row: Any) -> tuple[int, str, float, list[tuple[Share, str]]]:
    reasons = [reason for reason in row["reasons"] or () if reason["kind"] != "others"]
    return row["rank"], row["title"], row["score"], [(Share(one["share"]), one["sentence"]) for one in reasons]
