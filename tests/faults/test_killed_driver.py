"""The driver killed or stopped at every point of publishing: readers see whole versions, the next run completes."""

import json
import shutil
from pathlib import Path
from threading import Event, Thread

import pytest
from deltalake import DeltaTable

from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import EMBEDDINGS, ITEMS, RECOMMENDATIONS, TABLES, USERS, Table
from tests.bench.jobs_here import run_driver, run_job
from tests.bench.refreshes import grown, refresh, rows_of
from tests.bench.small_lake import DAY, Bench
from tests.bench.spark_submit import last_json, submit

PUBLISHED = (  # as they are first committed: a later step has its own part of `changes`
    "quarantine",
    "items",
    "users",
    "events",
    "user_rules",
    "changes",
    "embeddings",
    "item_vectors",
    "user_profiles",
    "recommendations",
)


HYBRID = ("item_weights", "recommendations")


PLACES = ("stage.before", "stage.after", "commit.before", "commit.after")


KILLED = (-9, 137)


def orphans(lake: Path) -> list[str]:
    """Data files that no version of their table names."""
    found = []
    for log in lake.glob("*/_delta_log"):
        commits = (json.loads(line) for path in log.glob("*.json") for line in path.read_text().splitlines())
        named = {action["add"]["path"] for action in commits if "add" in action}
        found += [str(path) for path in log.parent.glob("*.parquet") if path.name not in named]
    return found


class Reader(Thread):
    """Somebody who reads the lists all the time."""

    def __init__(self, lake: Path) -> None:
        super().__init__(daemon=True)
        self._lake, self._stop_asked = lake, Event()
        self.seen: list[list[dict]] = []
        self.reads = 0

    def run(self) -> None:
        while not self._stop_asked.wait(0.1):
            rows = rows_of(self._lake)
            self.reads += 1
            if rows not in self.seen:
                self.seen.append(rows)

    def __enter__(self) -> "Reader":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self.join()


def listed(bench: Bench) -> list[str]:
    """A job over the vectors and profiles of the lake, as its command line."""
    return ["recommend_items", f"--lake={bench.lake.uri}", f"--run_date={DAY}", "--k=2", "--scorer=cosine", "--full"]


@pytest.fixture(scope="module")
def yesterday(spark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a lake whose lists are those of yesterday's profiles."""
    folder = tmp_path_factory.mktemp("yesterday")
    bench = Bench(spark, folder)
    for table in (ITEMS, USERS, EMBEDDINGS):
        bench.put(table)
    bench.put_events(("u1", "a1", "view"))
    bench.put_vectors()
    bench.put_profiles()
    assert run_job(*listed(bench)).returncode == 0
    bench.put_profiles(users={"u1": [0.1, 1.0], "u2": [1.0, 0.1], "u3": [1.0, 1.0]})
    return folder


@pytest.fixture
def bench(spark, yesterday: Path, tmp_path: Path) -> Bench:
    """A copy of it that a test may change."""
    shutil.copytree(yesterday, tmp_path, dirs_exist_ok=True)
    return Bench(spark, tmp_path)


def test_a_job_killed_around_its_commit_shows_whole_lists_and_the_next_run_completes(bench, spark, tmp_path):
    lake = Path(bench.lake.uri)
    shutil.copytree(lake, tmp_path / "undisturbed")
    undisturbed = ["--lake=" + str(tmp_path / "undisturbed"), *listed(bench)[2:]]
    assert run_job("recommend_items", *undisturbed).returncode == 0
    before, after = rows_of(lake), rows_of(tmp_path / "undisturbed")
    with Reader(lake) as reader:
        for point, shown in (("commit.before", before), ("commit.after", after)):
            killed = run_driver(spark, *listed(bench), RECSYS_FAULTS=f"{point}:recommendations=kill")
            assert killed.returncode in KILLED, killed.stderr
            assert rows_of(lake) == shown, point
        assert run_job(*listed(bench)).returncode == 0
    assert rows_of(lake) == after != before
    assert reader.seen == [before, after]
    assert reader.reads > 10
    left = orphans(lake)
    assert left
    assert {path.rpartition("/")[2] for path in left} <= {
        path.rpartition("/")[2] for path in removed(lake, RECOMMENDATIONS)
    }
    assert not orphans(lake), "vacuum removes what killed runs have left"
    assert rows_of(lake) == after


def test_a_job_stopped_by_sigterm_ends_with_143_and_publishes_nothing(bench, spark):
    before = rows_of(Path(bench.lake.uri))
    stopped = run_driver(spark, *listed(bench), RECSYS_FAULTS="stage.before:recommendations=term_later")
    assert stopped.returncode == 143, stopped.stderr
    assert last_json(stopped)["error"] == "stopped by SIGTERM"
    assert "Traceback" not in stopped.stderr
    assert rows_of(Path(bench.lake.uri)) == before


# Whole refreshes run with --slow. A driver that is killed is a process of its own. It has a JVM of its own too in some
# cases only: all that it publishes, it publishes from Python, and a JVM takes longer than the job.
DRIVERS = ["driver", "spark-submit"]


@pytest.fixture
def run(request, spark):
    """A function that runs a job in a process of its own."""
    if request.param == "spark-submit":
        return submit
    return lambda *arguments, **environment: run_driver(spark, *arguments, **environment)


@pytest.fixture(scope="module")
def published(spark, shop: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lake = tmp_path_factory.mktemp("published") / "lake"
    done = run_job(*refresh(shop, lake, tiny_bert))
    assert done.returncode == 0, done.stderr
    return lake


@pytest.fixture(scope="module")
def changed(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grown(shop, tmp_path_factory.mktemp("changed") / "shop")


@pytest.fixture(scope="module")
def undisturbed(spark, changed: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    lake = tmp_path_factory.mktemp("undisturbed") / "lake"
    done = run_job(*refresh(changed, lake, tiny_bert))
    assert done.returncode == 0, done.stderr
    return rows_of(lake)


def killed_at(points, published, changed, undisturbed, model, lake, *more, run=submit):
    """Run after run is killed, each at the next point; the last one is left alone."""
    shutil.copytree(published, lake)
    before = rows_of(lake)
    with Reader(lake) as reader:
        for point in points:
            killed = run(*refresh(changed, lake, model, *more), RECSYS_FAULTS=f"{point}=kill")
            assert killed.returncode in KILLED, f"{point}: {killed.stderr}"
            assert rows_of(lake) == (undisturbed if point == "commit.after:recommendations" else before), point
        again = run(*refresh(changed, lake, model, *more))
        assert again.returncode == 0, again.stderr
    assert rows_of(lake) == undisturbed != before
    assert reader.seen == [before, undisturbed]
    assert reader.reads > 10
    left = orphans(lake)
    assert left or not any(point.startswith(("stage.after", "commit.before")) for point in points)
    gone = [name for table in TABLES.values() if (lake / table.name).exists() for name in removed(lake, table)]
    assert not orphans(lake), "vacuum removes what killed runs have left"
    assert {path.rpartition("/")[2] for path in left} <= {name.rpartition("/")[2] for name in gone}
    assert rows_of(lake) == undisturbed


def removed(lake: Path, table: Table) -> list[str]:
    """What vacuum takes, were a week over."""
    return Lake(str(lake)).vacuum(table, keep_hours=0)


@pytest.mark.slow
@pytest.mark.parametrize("run", DRIVERS, indirect=True)
def test_a_refresh_killed_again_and_again_ends_where_an_undisturbed_one_does(
    run, published, changed, undisturbed, tiny_bert, tmp_path
):
    points = ("commit.after:items", "stage.after:user_profiles", "commit.before:recommendations")
    killed_at(points, published, changed, undisturbed, tiny_bert, tmp_path / "lake", run=run)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_refresh_killed_at_every_point(place, published, changed, undisturbed, tiny_bert, tmp_path):
    killed_at(
        [f"{place}:{table}" for table in PUBLISHED], published, changed, undisturbed, tiny_bert, tmp_path / "lake"
    )


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_hybrid_refresh_killed_at_every_point(place, shop, changed, tiny_bert, tmp_path):
    lakes = [tmp_path / "published", tmp_path / "undisturbed"]
    for source, lake in zip((shop, changed), lakes, strict=True):
        done = submit(*refresh(source, lake, tiny_bert, "--scorer=hybrid"))
        assert done.returncode == 0, done.stderr
        if source is shop:  # new items join the weights that are there: another night than a first one
            shutil.copytree(lake, lakes[1])
    points = [f"{place}:{table}" for table in HYBRID]
    killed_at(points, lakes[0], changed, rows_of(lakes[1]), tiny_bert, tmp_path / "lake", "--scorer=hybrid")


@pytest.mark.slow
@pytest.mark.parametrize("run", DRIVERS, indirect=True)
def test_sigterm_amid_a_spark_job_stops_it_with_143(run, published, changed, tiny_bert, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(published, lake)
    before = DeltaTable(str(lake / "embeddings")).version(), rows_of(lake)
    stopped = run(*refresh(changed, lake, tiny_bert), RECSYS_FAULTS="stage.before:embeddings=term_later")
    assert stopped.returncode == 143, stopped.stderr
    assert last_json(stopped)["error"] == "stopped by SIGTERM"
    assert "Traceback" not in stopped.stderr
    assert (DeltaTable(str(lake / "embeddings")).version(), rows_of(lake)) == before


@pytest.mark.slow
@pytest.mark.parametrize("run", DRIVERS, indirect=True)
def test_sigterm_stops_a_run_with_143_and_publishes_nothing(run, published, changed, undisturbed, tiny_bert, tmp_path):
    lake = tmp_path / "lake"
    shutil.copytree(published, lake)
    before = rows_of(lake)
    stopped = run(*refresh(changed, lake, tiny_bert), RECSYS_FAULTS="commit.before:item_vectors=term")
    assert stopped.returncode == 143, stopped.stderr
    assert last_json(stopped)["error"] == "stopped by SIGTERM"
    assert "Traceback" not in stopped.stderr
    assert rows_of(lake) == before
    assert run(*refresh(changed, lake, tiny_bert)).returncode == 0
    assert rows_of(lake) == undisturbed
