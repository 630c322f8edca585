"""Item vectors as block files: their content, and the state that a killed run leaves."""

import os

import numpy as np
import pyarrow as pa
import pytest

import recsys_spark.blocks.item_blocks as item_blocks_module
import recsys_spark.blocks.steps.block_files as block_files_module
from recsys_spark.arrays.vectors import unit_rows
from recsys_spark.blocks.kernels.spherical_kmeans import nearest_clusters, nearest_rows, spherical_kmeans
from recsys_spark.blocks.steps.block_files import (
    _number,
    drop_unused_blocks,
    mark_used,
    open_item_blocks,
    write_item_blocks,
)
from recsys_spark.errors import InputError, UsageError

DDL = "item_id string, embedding array<float>"


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(4).normal(size=(50, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def items(spark, vectors):
    rows = [(f"i{n:02}", v) for n, v in enumerate(vectors.tolist())]
    return spark.createDataFrame([*rows, ("none", None), ("zero", [0.0] * 6)], DDL).repartition(3)


def test_blocks_hold_unit_vectors_in_the_order_of_ids_under_ascending_numbers(items, vectors, tmp_path):
    blocks = write_item_blocks(items, str(tmp_path / "b"), 7, tasks=3)
    assert (blocks.rows, blocks.dimension, blocks.block_rows) == (50, 6, 7)
    batches = list(blocks.blocks())
    assert max(batch.num_rows for batch in batches) == 7
    table = pa.Table.from_batches(batches)
    assert table["item_id"].to_pylist() == [f"i{n:02}" for n in range(50)]
    assert (np.diff(table["ordinal"].to_numpy()) > 0).all()
    stored = table["embedding"].combine_chunks().values.to_numpy().reshape(50, 6)
    assert (stored == unit_rows(vectors)).all()
    ids = pa.Table.from_batches(list(blocks.ids()))
    assert ids.column_names == ["item_id", "ordinal"]
    assert ids["item_id"].to_pylist() == table["item_id"].to_pylist()


def test_clustered_blocks_have_the_ordinals_of_plain_ones_and_the_nearest_centroid_of_each_item(
    items, vectors, tmp_path
):
    plain = pa.Table.from_batches(list(write_item_blocks(items, str(tmp_path / "a"), 9, tasks=2).blocks()))
    centroids = spherical_kmeans(unit_rows(vectors), 5)
    blocks = write_item_blocks(items, str(tmp_path / "b"), 9, tasks=2, centroids=centroids)
    clustered = pa.Table.from_batches(list(blocks.blocks()))
    numbers = [dict(zip(t["item_id"].to_pylist(), t["ordinal"].to_pylist(), strict=True)) for t in (plain, clustered)]
    assert numbers[0] == numbers[1]
    clusters = dict(zip(clustered["item_id"].to_pylist(), clustered["cluster"].to_pylist(), strict=True))
    expected = nearest_rows(unit_rows(vectors), centroids)
    assert clusters == {f"i{n:02}": int(number) for n, number in enumerate(expected)}
    assert (blocks.centroids() == centroids).all()


def test_blocks_are_opened_whole_or_not_at_all(items, tmp_path):
    first, second = str(tmp_path / "one"), str(tmp_path / "two")
    blocks = write_item_blocks(items, first, 20, tasks=2)
    assert open_item_blocks(first) == blocks
    (tmp_path / "one" / "blocks.json").unlink()  # the manifest is written last
    assert open_item_blocks(first) is None
    assert open_item_blocks(str(tmp_path / "nowhere")) is None
    write_item_blocks(items, second, 20, tasks=2)


def test_blocks_are_removed_once_no_run_has_used_them_for_long_and_not_before(items, tmp_path):
    for name in ("streamed", "reused", "old"):
        write_item_blocks(items, str(tmp_path / name), 20, tasks=2)
    (tmp_path / "killed").mkdir()
    now = mark_used(str(tmp_path / "streamed"))
    for path in (tmp_path / "killed", *(tmp_path / "old").iterdir(), *(tmp_path / "reused").iterdir()):
        os.utime(path, ns=(0, now - 49 * 3_600_000_000_000))
    mark_used(str(tmp_path / "reused"))
    assert drop_unused_blocks(str(tmp_path), 48, now, dry_run=True) == 2
    assert drop_unused_blocks(str(tmp_path), 48, now) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reused", "streamed"]
    assert drop_unused_blocks(str(tmp_path / "nowhere"), 48, now) == 0


def test_a_flipped_byte_in_a_block_is_an_error_and_not_another_score(items, tmp_path):
    blocks = write_item_blocks(items, str(tmp_path / "b"), 20, tasks=2)
    path = tmp_path / "b" / blocks.paths[1]
    content = bytearray(path.read_bytes())
    offset = content.index(np.asarray(blocks.block(1)["embedding"].values[:6], np.float32).tobytes())
    content[offset + 2] ^= 1
    path.write_bytes(content)
    item_blocks_module._VERIFIED.clear()  # another process
    with pytest.raises(InputError, match=f"block file {path} is damaged: remove folder {tmp_path / 'b'} and run again"):
        list(blocks.blocks())


def test_more_items_than_a_task_can_number_are_a_usage_error(monkeypatch):
    monkeypatch.setattr(block_files_module, "_POSITION_BITS", 1)
    batch = {"item_id": ["a", "b", "c"], "match_key": [None] * 3, "quota_group": [None] * 3, "boost": [None] * 3}
    batch |= {"available_from": [None] * 3, "available_until": [None] * 3, "embedding": [[1.0], [2.0], [3.0]]}
    rows = pa.RecordBatch.from_pydict(batch)
    with pytest.raises(UsageError, match="more than 2 items in one task that writes item blocks: use more tasks"):
        list(_number(None, [*batch, "ordinal", "cluster"], zeros=False)(iter([rows])))


def test_kmeans_finds_the_directions_of_the_sample_and_is_deterministic():
    random = np.random.default_rng(0)
    centres = unit_rows(random.normal(size=(4, 20)))
    sample = unit_rows(np.repeat(centres, 30, axis=0) + random.normal(size=(120, 20)) * 0.02)
    centroids = spherical_kmeans(sample[random.permutation(120)], 12, seed=3)
    assert ((sample @ centroids.T).max(axis=1) > 0.98).all()
    assert (spherical_kmeans(sample, 12, seed=3) == spherical_kmeans(sample, 12, seed=3)).all()
    assert len(spherical_kmeans(sample[:3], 12)) == 3


def test_the_nearest_clusters_are_in_the_order_of_distance():
    random = np.random.default_rng(1)
    vectors, centroids = unit_rows(random.normal(size=(30, 5))), unit_rows(random.normal(size=(9, 5)))
    expected = np.argsort(-(vectors.astype(np.float64) @ centroids.T), axis=1)[:, :4]
    assert (nearest_clusters(vectors, centroids, 4) == expected).all()
    assert nearest_clusters(vectors, centroids, 99).shape == (30, 9)
