"""The profiles and lists of a stream are those of the batch jobs on the same events."""

import numpy as np
import pytest

from tests.bench.streams import StreamedWorld


@pytest.fixture
def world(spark, tmp_path):
    """A lake after its first night."""
    world = StreamedWorld(spark, tmp_path)
    world.commit_sources()
    world.refresh()
    return world


def assert_as_batch(world):
    lists, profiles = world.live()
    batch_lists, batch_profiles = world.batch()
    assert lists == batch_lists
    for user, vector in profiles.items():
        np.testing.assert_allclose(vector, batch_profiles[user], rtol=1e-5)


def test_profiles_and_lists_equal_those_of_the_batch_jobs(world):
    world.send((0, 6, 0), (3, 9, 0), (60, 2, 0))
    world.send((0, 6, 0), (1, 7, -30), (3, 5, 1))  # repeated, late, a user again
    world.send((61, 99, 0))  # a user whose only item has no vector
    report = world.stream()
    assert (report["batches"], report["lists_made"]) == (3, 7)
    assert_as_batch(world)
