"""Candidates of users → re-ranked lists, in a task."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys_spark.arrays.arrow import slices
from recsys_spark.fairness.kernels.calibration import calibrated_order, divergence
from recsys_spark.fairness.kernels.exposure import (
    UNIT,
    Candidates,
    Ints,
    group_exposure,
    least_prices,
    needed_exposure,
    position_exposure,
    priced_order,
    unit_gains,
)
from recsys_spark.fairness.kernels.fair_test import least_protected, passed, passing_order
from recsys_spark.tables.task_stream import ArrowTransform, TaskStats, with_constant_columns

_USERS_AT_ONCE = 1024

Order = tuple[Ints, NDArray[np.bool_]]
"""(U, k) columns of the candidates; (U,) whether a list meets what it has to meet by itself."""


@dataclass(frozen=True)
class Rerank:
    """How lists are re-ranked.

    Args:
        k: length of a list.
        head: number of first positions that stay.
        shares: floor of each group.
        by: all, list or test, as ``exposure_by``.
        significance: of the test.
        prices: of each group, over all lists.
        item_hashes, item_prices: prices of single items, by ascending hash.
        calibration: strength; 0: none.
    """

    k: int
    head: int = 0
    shares: tuple[Fraction, ...] = ()
    by: str = "all"
    significance: float = 0.1
    prices: tuple[int, ...] = ()
    item_hashes: Ints | None = None
    item_prices: Ints | None = None
    calibration: float = 0.0


@dataclass(frozen=True)
class UserCandidates:
    """Candidates of a batch of users, as arrays.

    Args:
        users: ids.
        entries: the candidates of all users, one after the other.
        starts: (U,) first entry of each user.
        sizes: (U,) number of entries.
        history: the column of histories.
    """

    users: pa.Array
    entries: pa.StructArray
    starts: Ints
    sizes: Ints
    history: pa.Array

    @classmethod
    def of(cls, part: pa.Table) -> "UserCandidates":
        """From rows of ``candidate_lists``."""
        lists = part["candidates"].combine_chunks()
        sizes = lists.value_lengths().to_numpy().astype(np.int64)
        ids, history = (part[name].combine_chunks() for name in ("user_id", "history"))
        return cls(ids, lists.flatten(), np.cumsum(sizes) - sizes, sizes, history)

    def padded(self, name: str, fill: Any, dtype: Any) -> NDArray[Any]:
        """(U, c) a field of the candidates, with ``fill`` behind the last one of each user."""
        present = np.arange(int(self.sizes.max(initial=0))) < self.sizes[:, None]
        values = np.full(present.shape, fill, dtype)
        values[present] = self.entries.field(name).to_numpy(zero_copy_only=False)
        return values

    def candidates(self, rerank: Rerank) -> Candidates:
        """The candidates with their gains, to which the prices of items are added."""
        gains = unit_gains(self.padded("score", 0.0, np.float64), self.sizes)
        if rerank.item_hashes is not None and rerank.item_prices is not None and len(rerank.item_hashes):
            hashes = self.padded("item_hash", 0, np.int64)
            place = np.searchsorted(rerank.item_hashes, hashes).clip(max=len(rerank.item_hashes) - 1)
            gains = gains + np.where(rerank.item_hashes[place] == hashes, rerank.item_prices[place], 0)
        return Candidates(gains, self.padded("group", -1, np.int64), self.sizes, rerank.k, rerank.head)


def reranked_rows(rerank: Rerank, constant_columns: dict[str, Any], columns: list[str]) -> ArrowTransform:
    """Transform rows of ``candidate_lists`` to lists of k items with ``columns`` of the table.

    A score stays that of the scorer, and ranks say the new order. The stats of a task: ``lists``; ``unfilled_slots``;
    ``exposure`` of each group and ``total``; ``missed``, lists that do not meet a floor of their own; ``gain`` before
    and after, ``kept``, the sum of the lists' shares of the gain; with calibration ``divergence`` before and after.
    """

    def transform(batches: Iterator[pa.RecordBatch], stats: TaskStats) -> Iterator[pa.RecordBatch]:
        count = len(rerank.shares)
        stats |= {"lists": 0, "unfilled_slots": 0, "exposure": [0] * count, "total": 0, "needed": [0] * count}
        stats |= {"missed": 0, "gap": 0.0, "gain": [0.0, 0.0], "kept": 0.0, "divergence": [0.0, 0.0, 0]}
        for part in slices(batches, _USERS_AT_ONCE):
            users = UserCandidates.of(part)
            order = _order(users, rerank, stats)
            yield with_constant_columns(_rows(users, order), constant_columns).select(columns)

    return transform


def _order(users: UserCandidates, rerank: Rerank, stats: TaskStats) -> Ints:
    """(U, k) columns of the lists; adds to ``stats``."""
    candidates = users.candidates(rerank)
    if rerank.calibration:
        order, met = _calibrated(users, rerank, stats), np.ones(len(users.sizes), bool)
    elif rerank.by == "test":
        least = least_protected(rerank.k, float(rerank.shares[0]), rerank.significance)
        protected = candidates.groups == 0
        order = passing_order(protected, users.sizes, least)
        met = passed(order, protected, least)
    elif rerank.by == "list":
        prices, met = least_prices(candidates, rerank.shares, by_list=True)
        order = priced_order(candidates, prices)
        exposure, totals = group_exposure(order, candidates.groups, len(rerank.shares))
        slack = (exposure - needed_exposure(totals, rerank.shares)).astype(np.float64)
        stats["gap"] += float((prices * slack)[met].sum())
    else:
        order, met = priced_order(candidates, np.array([rerank.prices], np.int64)), np.ones(len(users.sizes), bool)
    _count(users, candidates, order, met, rerank, stats)
    return order


def _count(
    users: UserCandidates,
    candidates: Candidates,
    order: Ints,
    met: NDArray[np.bool_],
    rerank: Rerank,
    stats: TaskStats,
) -> None:
    exposure, totals = group_exposure(order, candidates.groups, len(rerank.shares))
    stats["exposure"] = [was + int(more) for was, more in zip(stats["exposure"], exposure.sum(axis=0), strict=True)]
    stats["total"] += int(totals.sum())
    stats["lists"] += len(users.sizes)
    stats["missed"] += int((~met).sum())
    stats["unfilled_slots"] += int((order < 0).sum())
    gains = unit_gains(users.padded("score", 0.0, np.float64), users.sizes)
    before, after = (_gain(gains, columns) for columns in (as_listed(users.sizes, rerank.k), order))
    stats["gain"] = [stats["gain"][0] + float(before.sum()), stats["gain"][1] + float(after.sum())]
    stats["kept"] += float(np.divide(after, before, out=np.ones_like(after), where=before > 0).sum())


def as_listed(sizes: Ints, k: int) -> Ints:
    """(U, k) columns of the first k candidates, in the order of the scorer; −1 where there are too few."""
    columns = np.arange(k)
    return np.where(columns < sizes[:, None], columns, -1)


def _gain(gains: Ints, order: Ints) -> NDArray[np.float64]:
    """(U,) Σ exposure · gain of the lists."""
    if not gains.size:
        return np.zeros(len(order))
    listed = np.take_along_axis(gains, np.maximum(order, 0), axis=1)
    return (np.where(order >= 0, listed, 0) * position_exposure(order.shape[1]).astype(np.float64)).sum(axis=1)


def _calibrated(users: UserCandidates, rerank: Rerank, stats: TaskStats) -> Ints:
    gains = unit_gains(users.padded("score", 0.0, np.float64), users.sizes) / UNIT
    history, shares = category_shares(users)
    order = calibrated_order(gains, shares, history, users.sizes, rerank.calibration, rerank.k)
    some = history.sum(axis=1) > 0
    before, after = (
        list_divergence(history, shares, columns)[some].sum() for columns in (as_listed(users.sizes, rerank.k), order)
    )
    was = stats["divergence"]
    stats["divergence"] = [was[0] + float(before), was[1] + float(after), was[2] + int(some.sum())]
    return order


def list_divergence(history: NDArray[np.float64], shares: NDArray[np.float64], order: Ints) -> NDArray[np.float64]:
    """(U,) divergence of each list's categories from the history; ``history``, ``shares``: from ``category_shares``."""
    listed = np.take_along_axis(shares, np.maximum(order, 0)[:, :, None], axis=1) * (order >= 0)[:, :, None]
    return divergence(history, listed.sum(axis=1) / np.maximum((order >= 0).sum(axis=1), 1)[:, None])


def category_shares(users: UserCandidates) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(U, m) shares of the user's categories in the history, and (U, c, m) in each candidate."""
    sizes = users.history.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    entries = users.history.flatten()
    present = np.arange(max(int(sizes.max(initial=0)), 1)) < sizes[:, None]
    names, history = np.zeros(present.shape, np.int64), np.zeros(present.shape)
    names[present], history[present] = (
        entries.field(name).to_numpy(zero_copy_only=False) for name in ("name", "share")
    )
    own = users.entries.field("names")
    counts = own.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values, of_entry = own.flatten().to_numpy(zero_copy_only=False), np.repeat(np.arange(len(counts)), counts)
    row = np.repeat(np.arange(len(users.sizes)), users.sizes)
    flat = np.zeros((len(counts), present.shape[1]))
    for column in range(present.shape[1]):  # at most MOST_NAMES
        of_user = row[of_entry]
        same = (names[of_user, column] == values) & present[of_user, column]
        np.add.at(flat[:, column], of_entry[same], 1.0 / counts[of_entry[same]])
    shares = np.zeros((len(users.sizes), int(users.sizes.max(initial=0)), present.shape[1]))
    shares[np.arange(shares.shape[1]) < users.sizes[:, None]] = flat
    return history, shares


def _rows(users: UserCandidates, order: Ints) -> pa.RecordBatch:
    rows, ranks = np.nonzero(order >= 0)
    entries = users.entries.take(pa.array(users.starts[rows] + order[rows, ranks]))
    names = ("item_id", "score", "source", "reasons")
    columns = [
        users.users.take(pa.array(rows)),
        *(entries.field(name) for name in names),
        pa.array(ranks + 1, pa.int32()),
    ]
    return pa.RecordBatch.from_arrays(columns, names=["user_id", *names, "rank"])
