"""Reasons of ranked lists: what each kind of feature contributes to a score, and the item of the history behind it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark.arrays.sparse import flat
from recsys_spark.blocks.item_blocks import ItemBlocks
from recsys_spark.explain.sentences import sentence
from recsys_spark.ranking.kernels.code_lists import CodeLists, Rows, positions
from recsys_spark.ranking.kernels.features import Floats
from recsys_spark.ranking.kernels.rankers import KINDS
from recsys_spark.tables.contract import ARROW_TYPES, REASONS
from recsys_spark.topk.lists import locate_items

BOOST = "boost"

_COLUMNS = (*KINDS, BOOST)

_SIMILAR = KINDS.index("similar")


@dataclass(frozen=True)
class Sources:
    """For each of n listed items the item of the history that adds most to its score: ids and titles, null for none."""

    ids: pa.Array
    titles: pa.Array


def sources_of(items: ItemBlocks, users: Rows, ordinals: Rows, histories: CodeLists, weights: Floats) -> Sources:
    """The sources of pairs of users and items.

    Args:
        items: blocks with ``neighbors, weights, code, title``.
        users, ordinals: (n,) of the pairs.
        histories: codes of the items of every user's history.
        weights: (E,) of these.
    """
    needed, rows = np.unique(ordinals, return_inverse=True)
    codes = np.zeros(len(ordinals), np.int64)
    best = np.zeros(len(ordinals))
    weight_of = np.append(weights, 0.0)  # at -1: an item that is not in the history
    for places, block, columns in locate_items(items.columns("ordinal", "neighbors", "weights"), needed):
        row_of = np.full(len(needed), -1)
        row_of[places] = columns
        pairs = np.flatnonzero(row_of[rows] >= 0)
        of_pairs = pa.array(row_of[rows[pairs]])
        neighbors, offsets = flat(block["neighbors"].take(of_pairs))
        owners = np.repeat(np.arange(len(pairs)), np.diff(offsets))
        entries = histories.entries(users[pairs[owners]], neighbors)
        terms = block["weights"].take(of_pairs).flatten().to_numpy() * weight_of[entries]
        order = np.lexsort((neighbors, -terms, owners))  # the first of each owner is its greatest term
        first = order[np.flatnonzero(np.r_[True, owners[order][1:] != owners[order][:-1]])] if len(order) else order
        codes[pairs[owners[first]]], best[pairs[owners[first]]] = neighbors[first], terms[first]
    return _named(items, np.where(best > 0, codes, 0), best > 0)


def _named(items: ItemBlocks, codes: Rows, valid: np.ndarray) -> Sources:
    """Ids and titles of codes."""
    distinct = np.unique(codes[valid])
    found = []
    for block in items.columns("code", "item_id", "title") if len(distinct) else ():
        _, matches = positions(distinct, block["code"].to_numpy())
        found.append(block.filter(pa.array(matches)))
    if not found:
        return Sources(pa.nulls(len(codes), pa.string()), pa.nulls(len(codes), pa.string()))
    table = pa.Table.from_batches(found).combine_chunks()
    rows = pc.index_in(pa.array(codes, mask=~valid), table["code"].combine_chunks(), skip_nulls=True)
    return Sources(*(table[name].combine_chunks().take(rows) for name in ("item_id", "title")))


def reason_lists(contributions: np.ndarray, sources: Sources, most: int, language: str) -> pa.ListArray:
    """The column ``reasons`` of n rows: the ``most`` greatest contributions, and the sum of all others.

    ``contributions``: (n, kinds and boost); a row adds up to the score.
    """
    amounts = np.abs(contributions)
    order = np.argsort(np.where(contributions == 0, np.inf, -contributions), axis=1, kind="stable")
    ranked = np.take_along_axis(contributions, order, axis=1)
    kept = ranked[:, :most]
    others, count = ranked[:, most:].sum(axis=1, keepdims=True), (ranked[:, most:] != 0).sum(axis=1)
    values = np.concatenate([kept, others], axis=1)
    kinds = np.concatenate([order[:, :most], np.full((len(order), 1), len(_COLUMNS))], axis=1)
    present = values != 0
    present[:, -1] &= count > 0
    rows, places = np.nonzero(present)
    flat_values, flat_kinds = values[rows, places], kinds[rows, places]
    named = (flat_kinds == _SIMILAR) & (flat_values > 0) & sources.ids.is_valid().to_numpy(zero_copy_only=False)[rows]
    shares = flat_values / np.maximum(amounts.sum(axis=1), 1e-12)[rows]
    of_rows = pa.array(rows, mask=~named)
    titles = sources.titles.take(of_rows).to_pylist()
    sentences = [
        _sentence(language, kind, value, titles[n] if named[n] else None, int(count[rows[n]]))
        for n, (kind, value) in enumerate(zip(flat_kinds, flat_values, strict=True))
    ]
    names = [*_COLUMNS, "others"]
    fields = {
        "kind": pa.array(["history" if named[n] else names[kind] for n, kind in enumerate(flat_kinds)], pa.string()),
        "item_id": sources.ids.take(of_rows),
        "contribution": pa.array(flat_values, pa.float32()),
        "share": pa.array(shares, pa.float32()),
        "sentence": pa.array(sentences, pa.string()),
    }
    kind = ARROW_TYPES[REASONS].value_type
    no_blocks = pa.nulls(0, kind.field("blocks").type.value_type)
    fields["blocks"] = pa.ListArray.from_arrays(pa.array(np.zeros(len(rows) + 1, np.int32)), no_blocks)
    columns = [fields[field.name] for field in kind]
    offsets = np.r_[0, np.cumsum(present.sum(axis=1))].astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(columns, fields=list(kind)))


def _sentence(language: str, kind: int, value: float, title: str | None, count: int) -> str:
    if title is not None:
        return sentence(language, "history", value, title=title)
    return sentence(language, [*_COLUMNS, "others"][kind], value, count=count)
