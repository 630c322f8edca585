"""Lists under a rule base against one pair at a time, for every product and block size. Without a JVM."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.arrays.arrow import as_lists
from recsys_spark.topk.kernels import cpu_product
from recsys_spark.topk.kernels.compilation import compiled_loops
from recsys_spark.topk.kernels.rule_masks import ALL, Links, Pin, RuleTable
from recsys_spark.topk.kernels.shortlist import NUMPY
from recsys_spark.topk.lists import ListRules
from recsys_spark.topk.profile_scorer import ProfileScorer

USERS, ITEMS, WIDTH, K = 14, 60, 6, 5

ATOMS = np.array([ALL, 0, 1, 2, 1 << 62], np.int64)


def atoms_of(random, count):
    return [sorted(random.choice(ATOMS[1:], random.integers(0, 4), replace=False).tolist()) for _ in range(count)]


class Blocks:
    """Items in memory, with the interface of ``ItemBlocks``."""

    def __init__(self, random, step):
        self.rows, self.dimension, self.clusters, self._step = ITEMS, WIDTH, 0, step
        vectors = random.normal(size=(ITEMS, WIDTH))
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        self.atoms, self.boosts = atoms_of(random, ITEMS), random.choice([0.0, 0.25], ITEMS)
        self._table = pa.table(
            {
                "item_id": [f"i{n:02}" for n in range(ITEMS)],
                "match_key": pa.nulls(ITEMS, pa.string()),
                "quota_group": pa.array(random.integers(0, 9, ITEMS), pa.int64()),
                "boost": pa.array(self.boosts, pa.float32()),
                "available_from": pa.nulls(ITEMS, pa.date32()),
                "rule_atoms": pa.array(self.atoms, pa.list_(pa.int64())),
                "ordinal": np.arange(ITEMS),
                "cluster": pa.array([0] * ITEMS, pa.int32()),
                "embedding": as_lists(self.vectors),
            }
        )

    def blocks(self):
        for start in range(0, ITEMS, self._step):
            part = pa.array(range(start, min(start + self._step, ITEMS)))
            yield self._table.take(part).combine_chunks().to_batches()[0]

    ids = blocks


def users_of(random, atoms):
    vectors = random.normal(size=(USERS, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    seen = [[f"i{n:02}" for n in random.integers(0, ITEMS, 6)] for _ in range(USERS)]
    allowed = [[f"i{n:02}" for n in range(0, ITEMS, 4)] if user % 5 == 0 else None for user in range(USERS)]
    part = pa.table(
        {
            "user_id": [f"u{n:02}" for n in range(USERS)],
            "embedding": as_lists(vectors),
            "seen": pa.array(seen, pa.list_(pa.string())),
            "allowed": pa.array(allowed, pa.list_(pa.string())),
            "match_key": pa.nulls(USERS, pa.string()),
            "stratum": pa.nulls(USERS, pa.int32()),
            "floor": pa.nulls(USERS, pa.float32()),
            "rule_atoms": pa.array(atoms, pa.list_(pa.int64())),
        }
    )
    return part, vectors, seen, allowed


def links(random, count, rules):
    return [(*random.integers(0, len(ATOMS), 2).tolist(), int(random.choice(rules))) for _ in range(count)]


def drawn_table(random, most):
    """Rules 0 to 2 remove, 3 and 4 raise, 5 and 6 pin; of the removing ones some have a higher priority than a pin."""
    boosts = sorted(links(random, random.integers(0, most), [3, 4]), key=lambda row: row[2])
    pins = tuple(
        Pin(f"i{random.integers(0, 9):02}", place, int(random.integers(0, len(ATOMS))), 4 + place,
            frozenset(random.choice(3, random.integers(0, 3), replace=False).tolist()))
        for place in random.choice([1, 2, 5], random.integers(0, 5)).tolist()
    )  # fmt: skip
    raises = random.choice([0.5, -0.25], len(boosts))
    return RuleTable(
        ATOMS, ATOMS, Links.of(links(random, random.integers(0, most), [0, 1, 2])), Links.of(boosts), raises, pins
    )


def expected_lists(items, part, vectors, seen, allowed, table):
    """Lists by a loop over pairs."""
    have = lambda own, index: index == 0 or int(ATOMS[index]) in own  # noqa: E731
    holds = lambda link, u, i: have(part["rule_atoms"][u].as_py(), link[0]) and have(items.atoms[i], link[1])  # noqa: E731
    removals = list(zip(table.removals.users, table.removals.items, table.removals.rules, strict=True))
    boosts = list(zip(table.boosts.users, table.boosts.items, table.boosts.rules, strict=True))
    for u in range(USERS):
        free = [
            i for i in range(ITEMS)
            if f"i{i:02}" not in seen[u] and (allowed[u] is None or f"i{i:02}" in allowed[u])
        ]  # fmt: skip
        score = {}
        for i in free:
            raised = sum(r for link, r in zip(boosts, table.raises, strict=True) if holds(link, u, i))
            score[i] = float(vectors[u].astype(float) @ items.vectors[i].astype(float) + items.boosts[i] + raised)
        open_items = [i for i in free if not any(holds(link, u, i) for link in removals)]
        best = sorted(open_items, key=lambda i: (-np.float32(score[i]), i))
        pinned, names, places = {}, set(), set()
        for pin in table.pins:
            item = int(pin.item_id[1:])
            if not have(part["rule_atoms"][u].as_py(), pin.user) or pin.item_id in names or pin.place in places:
                continue
            names.add(pin.item_id)
            places.add(pin.place)
            if item in free and not any(link[2] in pin.bars and holds(link, u, item) for link in removals):
                pinned[pin.place] = item
        rest = [i for i in best[:K] if i not in pinned.values()]
        found = []
        while len(found) < K and (rest or pinned):
            place = len(found) + 1
            found.append(pinned.pop(place) if place in pinned else rest.pop(0) if rest else pinned.pop(min(pinned)))
        yield [f"i{i:02}" for i in found]


def in_bf16():
    from recsys_spark.topk.kernels.bf16_product import bf16_product

    return bf16_product(1)


@pytest.mark.parametrize("product", [lambda: NUMPY, in_bf16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("loops", [lambda: None, compiled_loops], ids=["NumPy", "compiled"])
def test_a_list_is_that_of_a_loop_over_pairs(product, loops):
    made, compiled = product(), loops()

    @settings(max_examples=25)
    @given(st.integers(0, 10_000), st.sampled_from([60, 17, 1]), st.sampled_from([0, 3, 8]))
    def lists(seed, step, most):
        random = np.random.default_rng(seed)
        items, table = Blocks(random, step), drawn_table(random, most + 1)
        part, *of_users = users_of(random, atoms_of(random, USERS))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cpu_product, "loops_for", lambda flops: compiled)
            patch.setattr(cpu_product, "_product", lambda flops, threads: made)
            scorer = ProfileScorer(part, items, K, ListRules(boosts=True, table=table))
            for block in items.blocks():
                scorer.update(block)
            rows = pa.Table.from_batches(list(scorer.lists())).to_pylist()
        found = [[row["item_id"] for row in rows if row["user_id"] == user] for user in part["user_id"].to_pylist()]
        assert found == list(expected_lists(items, part, *of_users, table))
        assert scorer.unfilled_slots == USERS * K - len(rows)

    lists()
