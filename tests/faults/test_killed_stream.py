"""A stream that is killed or stopped between any two commits: nothing is lost, nothing is doubled."""

import pytest

from recsys_spark.tables.schemas import LIVE_RECOMMENDATIONS, STREAMED_EVENTS
from tests.bench.spark_submit import last_json, submit
from tests.bench.streams import StreamedWorld

POINTS = ("stage.after:live_profiles", "commit.after:streamed_events", "commit.after:live_recommendations")


@pytest.fixture
def world(spark, tmp_path):
    world = StreamedWorld(spark, tmp_path)
    world.commit_sources()
    world.refresh()
    return world


def stream(world, *more, **environment):
    where = [f"--lake={world.lake.uri}", f"--dataset={world.dataset}", f"--data={world.data}", "--max_files=1"]
    return submit("stream_profiles", *where, *more, **environment)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_stream_loses_and_doubles_nothing(world, point):
    world.send((0, 6, 0), (3, 9, 1))
    world.send((1, 6, 0))
    assert stream(world, RECSYS_FAULTS=f"{point}=kill").returncode in (-9, 137)
    done = stream(world)
    assert done.returncode == 0, done.stderr
    assert world.lake.rows(STREAMED_EVENTS) == 3
    assert world.live()[0] == world.batch()[0]


@pytest.mark.slow
def test_sigterm_ends_a_stream_after_the_running_batch(world):
    world.send((0, 6, 0))
    done = stream(world, "--trigger=1s", RECSYS_FAULTS="commit.before:live_profiles=term")
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert world.lake.read(world.spark, LIVE_RECOMMENDATIONS).where("user_id = 'u0'").count() == 4
    done = stream(world)
    assert (done.returncode, last_json(done)["status"]) == (0, "unchanged")
