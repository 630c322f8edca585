"""Which pairs rules remove, raise and place: groups and classes against one pair at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.topk.kernels.routes import Barred, Route
from recsys_spark.topk.kernels.rule_masks import (
    ALL,
    Links,
    atom_matrix,
    barred_classes,
    distinct_lists,
    with_pins,
)
from recsys_spark.topk.kernels.running_topk import EMPTY, entries_of, ordinals_of

ATOMS = np.array([ALL, 0, 1, 2, 5, 1 << 62], np.int64)

_LISTS = st.lists(st.lists(st.sampled_from([0, 1, 2, 3, 5, 1 << 62]), unique=True, max_size=6), max_size=12)

_LINKS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), max_size=8)


def flat(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return np.array([one for row in lists for one in row], np.int64), offsets


def barred(users, items, links):
    groups_first, groups = distinct_lists(*flat(users))
    classes_first, classes = distinct_lists(*flat(items))
    on, kinds = atom_matrix(*flat(users), groups_first, ATOMS), atom_matrix(*flat(items), classes_first, ATOMS)
    return Barred(barred_classes(on, kinds, Links.of(links)), groups, classes)


def holds(user, item, links):
    have = [{ALL, *user}, {ALL, *item}]
    return any(ATOMS[u] in have[0] and ATOMS[i] in have[1] for u, i, _ in links)


@given(_LISTS, _LISTS, _LINKS)
def test_a_pair_is_barred_if_a_link_holds_for_its_atoms(users, items, links):
    found = barred(users, items, links)
    expected = np.array([[holds(user, item, links) for item in items] for user in users]).reshape(
        len(users), len(items)
    )
    rows, columns = np.indices(expected.shape).reshape(2, -1)
    assert (found.pairs(rows, columns).reshape(expected.shape) == expected).all()
    for start, stop in ((0, len(items)), (1, len(items) // 2 + 1)):
        some = np.arange(0, len(users), 2)
        mask = found.mask(Route(some, start, stop))
        part = expected[some, start:stop]
        assert (not part.any()) if mask is None else (mask == part).all()


@given(_LISTS)
def test_lists_of_the_same_atoms_are_one_group_in_any_order(lists):
    shuffled = [*lists, *(row[::-1] for row in lists)]
    first, groups = distinct_lists(*flat(shuffled))
    assert [set(shuffled[first[group]]) for group in groups] == [set(row) for row in shuffled]
    assert len(first) == len({frozenset(row) for row in shuffled})


@given(st.data())
def test_pinned_items_are_at_their_places_and_the_others_in_their_order(data):
    k = data.draw(st.integers(1, 6))
    length = data.draw(st.integers(0, k))
    ordinals = data.draw(st.permutations(range(8)))[:length]
    entries = np.full((1, k), EMPTY)
    entries[0, :length] = entries_of(np.linspace(1, 0, length).astype(np.float32), np.array(ordinals, np.int64))
    places = data.draw(st.lists(st.integers(1, k), unique=True, max_size=k))
    pins = data.draw(st.permutations(range(8)))[: len(places)]
    held = data.draw(st.lists(st.booleans(), min_size=len(places), max_size=len(places)))
    pinned = np.array([[entries_of(np.zeros(1, np.float32), np.array([p]))[0] if on else EMPTY
                        for p, on in zip(pins, held, strict=True)]], np.uint64).reshape(1, -1)  # fmt: skip
    listed = with_pins(entries, pinned, places)[0]
    found = [int(ordinals_of(one)) for one in listed if one != EMPTY]
    wanted = {place: pin for place, pin, on in zip(places, pins, held, strict=True) if on}
    rest = [one for one in ordinals if one not in wanted.values()]
    assert [one for one in found if one in rest] == rest[: len(found) - len(wanted)]
    assert set(wanted.values()) <= set(found)
    assert len(found) == min(k, len(wanted) + len(rest))
    assert (listed[len(found) :] == EMPTY).all()
    reached = [found.index(wanted[place]) for place in sorted(wanted)]
    assert reached == sorted(reached)
    assert all(at < place for at, place in zip(reached, sorted(wanted), strict=True))
    if len(found) == k:
        assert reached == [place - 1 for place in sorted(wanted)]
