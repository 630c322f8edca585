"""Selection from tiles of products and exact scores, as loops that numba compiles: loaded by ``compilation.py``.

The signatures are given, so that a function is compiled, or read from disk, when this file is loaded. Columns and rows
are unsigned: numba need not look for negative indices then, which would keep loops from becoming vectors. ``CACHED`` is
set by the loader if compiled code is kept on disk.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])

_CHUNK = np.uint64(64)  # products that are compared as vectors before any of them is looked at

_ONE, _EIGHT = np.uint64(1), np.uint64(8)

_SIGN, _LOWER_HALF = np.uint32(1 << 31), np.uint32(0xFFFF)


_CACHED: bool | None = globals().get("CACHED")


def _compiled(signature: str | None = None, **options: Any) -> Callable[[Function], Function]:
    """Compile a function now; without a signature, as a part of its callers; without a loader, when it is called."""
    if signature is None or _CACHED is None:
        return cast(Any, njit(nogil=True, **options))
    return cast(Any, njit(signature, nogil=True, cache=_CACHED, **options))


@_compiled()
def _as_float(bits: Any) -> Any:
    return np.uint32(np.uint32(bits) << np.uint32(16)).view(np.float32)


@_compiled()
def _rising(value: Any) -> Any:
    """A float32 as an integer that has the order of the numbers."""
    bits = np.float32(value).view(np.uint32)
    return np.uint32(~bits) if bits >> np.uint32(31) else np.uint32(bits | _SIGN)


@_compiled()
def _float_of(rising: Any) -> Any:
    if rising >> np.uint32(31):
        return np.uint32(rising ^ _SIGN).view(np.float32)
    return np.uint32(~rising).view(np.float32)


@_compiled()
def _least_score(product: Any, absolute: Any, short: bool) -> Any:
    """Smallest exact score of a pair with this product: ``ErrorBound.scores``, ``Bf16ErrorBound.scores``."""
    if short and product != np.float32(0) and np.abs(product) != np.float32(np.inf):
        bits = np.float32(product).view(np.uint32)
        half = np.uint32(0x8000) if bits >> np.uint32(31) else np.uint32(0xFFFF8000)
        return np.float32(np.uint32(bits + half).view(np.float32) - absolute)
    return np.float32(product - absolute)


@_compiled()
def _least_product(score: Any, absolute: Any, short: bool) -> Any:
    """Smallest product of a pair with this exact score: ``ErrorBound.products``, ``Bf16ErrorBound.products``."""
    product = np.float32(score - absolute)
    if short:
        bits = np.float32(product).view(np.uint32)
        even = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
        return np.uint32(even & ~_LOWER_HALF).view(np.float32)
    return product


@_compiled()
def _greatest(values: Any, count: Any, k: int) -> Any:
    """The k-th greatest of ``count`` integers, bit by bit: no branch depends on a value."""
    found = np.uint32(0)
    for place in range(32):
        tried = np.uint32(found | (_SIGN >> np.uint32(place)))
        reached = np.int32(0)
        for near in range(count):
            reached += np.int32(values[near] >= tried)
        found = tried if reached >= k else found
    return found


@_compiled()
def _thin(
    row: Any, floor: Any, absolute: Any, short: bool, listed: Any, columns: Any, products: Any, counts: Any, spare: Any
) -> None:
    """Raise the floor of a row to its k-th lower bound, and drop the pairs of the row that are below."""
    k, size, count = listed.shape[1], np.uint64(0), np.uint64(counts[row])
    while size < k and listed[row, size] > -np.inf:
        spare[size] = _rising(listed[row, size])
        size += _ONE
    for place in range(count):
        spare[size + place] = _rising(_least_score(products[row, place], absolute, short))
    size += count
    if size >= k:
        floor[row] = max(floor[row], _least_product(_float_of(_greatest(spare, size, k)), absolute, short))
    left, bound = np.uint64(0), floor[row]
    for place in range(count):
        product = products[row, place]
        if product >= bound:
            columns[row, left], products[row, left] = columns[row, place], product
            left += _ONE
    counts[row] = left


@_compiled()
def _product(tile: Any, bits: Any, line: Any, column: Any, short: bool) -> Any:
    return _as_float(bits[line, column]) if short else tile[line, column]


@_compiled()
def _reached(tile: Any, line: Any, start: Any, bound: Any) -> bool:
    """Whether a product of a whole chunk is at least ``bound``: a count without an early end, which becomes vectors."""
    count = np.int32(0)
    for near in range(_CHUNK):
        count += np.int32(tile[line, start + near] >= bound)
    return bool(count > 0)


@_compiled()
def _short_reached(bits: Any, line: Any, start: Any, bound: Any) -> bool:
    count = np.int32(0)
    for near in range(_CHUNK):
        count += np.int32(_as_float(bits[line, start + near]) >= bound)
    return bool(count > 0)


@_compiled(inline="always")
def _flag(tile: Any, bits: Any, line: Any, start: Any, end: Any, short: bool, bound: Any, flags: Any) -> None:
    """Write 1 for each product of a chunk that is at least ``bound``, and 0 for the others."""
    if start + _CHUNK > end:
        for near in range(_CHUNK):
            flags[near] = start + near < end and _product(tile, bits, line, start + near, short) >= bound
    elif short:
        for near in range(_CHUNK):
            flags[near] = np.uint8(_as_float(bits[line, start + near]) >= bound)
    else:
        for near in range(_CHUNK):
            flags[near] = np.uint8(tile[line, start + near] >= bound)


_READ_FLOATS = "Array(float32, 2, 'C', readonly=True)"

_STATE = "float32[::1], float32, boolean, float32[:, ::1], int32[:, ::1], float32[:, ::1], int64[::1]"


@_compiled(f"int64(float32[:, ::1], uint16[:, ::1], int64[::1], int64[::1], uint64, uint64, float32, {_STATE})")
def append(
    tile: NDArray[np.float32],
    bits: NDArray[np.uint16],
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    width: Any,
    first: Any,
    min_product: Any,
    floor: NDArray[np.float32],
    absolute: Any,
    short: bool,
    listed: NDArray[np.float32],
    columns: NDArray[np.int32],
    products: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> int:
    """Append the pairs of a tile that are at or above their floors to the rows that they belong to.

    Args:
        tile, bits: products in float32; or, where ``short``, in bfloat16. Line i belongs to ``rows[i]``, whose columns
            ``starts[i]`` … ``width`` − 1 are to be looked at.
        first: column of the tile's first product in its block.
        min_product: smaller products are left out.
        floor, absolute, short, listed, columns, products, counts: of a ``Reservoir``.

    Returns:
        The number of lines that found no room for a chunk. Their ``starts`` are where to go on.
    """
    spare, flags = np.empty(listed.shape[1] + columns.shape[1], np.uint32), np.zeros(_CHUNK, np.uint8)
    eights, room, unfinished = flags.view(np.uint64), np.uint64(columns.shape[1]), 0
    for number in range(len(rows)):
        line, row, column = np.uint64(number), np.uint64(rows[number]), np.uint64(starts[number])
        bound, count = max(floor[row], min_product), np.uint64(counts[row])
        while column < width:
            if column + _CHUNK <= width:
                found = _short_reached(bits, line, column, bound) if short else _reached(tile, line, column, bound)
                if not found:
                    column += _CHUNK
                    continue
            if count + _CHUNK > room:
                counts[row] = count
                _thin(row, floor, absolute, short, listed, columns, products, counts, spare)
                bound, count = max(floor[row], min_product), np.uint64(counts[row])
                if count + _CHUNK > room:
                    unfinished += 1
                    break
            _flag(tile, bits, line, column, width, short, bound, flags)
            for eight in range(_EIGHT):
                if eights[eight]:
                    for near in range(_EIGHT * eight, _EIGHT * eight + _EIGHT):
                        if flags[near]:
                            columns[row, count] = first + column + near
                            products[row, count] = _product(tile, bits, line, column + near, short)
                            count += _ONE
            column += _CHUNK
        starts[number], counts[row] = min(column, width), count
    return unfinished


@_compiled(f"void({_STATE})")
def thin(
    floor: NDArray[np.float32],
    absolute: Any,
    short: bool,
    listed: NDArray[np.float32],
    columns: NDArray[np.int32],
    products: NDArray[np.float32],
    counts: NDArray[np.int64],
) -> None:
    """Raise the floors of all rows of a ``Reservoir`` to their k-th lower bounds, and drop the pairs below."""
    spare = np.empty(listed.shape[1] + columns.shape[1], np.uint32)
    for row in range(len(counts)):
        if counts[row]:
            _thin(np.uint64(row), floor, absolute, short, listed, columns, products, counts, spare)


@_compiled(fastmath={"reassoc", "contract"})  # sums in any order: callers allow for it
def _dot(queries: Any, row: Any, items: Any, column: Any) -> float:
    total = 0.0
    for place in range(np.uint64(queries.shape[1])):
        total += np.float64(queries[row, place]) * np.float64(items[column, place])
    return total


@_compiled(f"float64({_READ_FLOATS})")
def longest(vectors: NDArray[np.float32]) -> float:
    """Greatest length of a vector; 0 of none."""
    squared = 0.0
    for row in range(np.uint64(len(vectors))):
        squared = max(squared, _dot(vectors, row, vectors, row))
    return float(np.sqrt(squared))


@_compiled(
    f"int64({_READ_FLOATS}, {_READ_FLOATS}, int64[::1], int64[::1], int64[::1], float64, float32[::1], int64[::1])"
)
def score(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    order: NDArray[np.int64],
    slack: float,
    scores: NDArray[np.float32],
    unsure: NDArray[np.int64],
) -> int:
    """Write the float64 dot product of each pair, rounded to float32, to ``scores``.

    Args:
        queries, items: (n, d) and (m, d).
        rows, columns: (p,) pairs.
        order: the pairs that are scored, in this order.
        slack: how far a product may be from that of another order of summation.
        unsure: takes the pairs for which that may be another float32; as long as ``order``.

    Returns:
        The number of pairs written to ``unsure``.
    """
    count = 0
    for place in range(len(order)):
        pair = order[place]
        total = _dot(queries, np.uint64(rows[pair]), items, np.uint64(columns[pair]))
        scores[pair] = np.float32(total - slack)
        if scores[pair] != np.float32(total + slack):
            unsure[count] = pair
            count += 1
    return count
