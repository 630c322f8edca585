"""Private releases: what is published, what it spends, and what is refused."""

import math
from datetime import datetime

import numpy as np
import pytest

from recsys_spark.errors import InputError, QualityError, UsageError
from recsys_spark.lake.provenance import Provenance
from recsys_spark.privacy.kernels.gaussian import GRID, clipped_grid, composed_epsilon
from recsys_spark.privacy.options import ForgetOptions, ReleaseOptions
from recsys_spark.privacy.releases import Shape, count_sensitivity, group_sums, item_users, mean_sensitivity
from recsys_spark.privacy.steps.export_profiles import export_profiles
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.privacy.steps.ledger import Ledger
from recsys_spark.tables.schemas import (
    EVENTS,
    ITEMS,
    NOISY_COUNTS,
    NOISY_PROFILES,
    PRIVACY_LEDGER,
    USER_PROFILES,
    USERS,
)
from tests.bench.jobs_here import run_job
from tests.bench.small_lake import DAY, THEN, Bench

pytest.importorskip("opendp")

GROUPS = {"u1": ["gender: woman", "age: 25"], "u2": ["gender: man"], "u3": ["gender: woman"]}

VECTORS = {"u1": [3.0, 4.0], "u2": [0.1, 0.2], "u3": [-1.0, 0.0]}


def made_lake(spark, folder, **provenance):
    bench = Bench(spark, folder)
    made = Provenance.of(run_date=DAY, **provenance)
    rows = [(user, "m-1", vector, 1, THEN, THEN) for user, vector in VECTORS.items()]
    bench.put(USER_PROFILES, *rows, provenance=made)
    bench.put(USERS, *((user, None, None, None, groups) for user, groups in GROUPS.items()))
    bench.put(ITEMS, ("a1",), ("a2",), ("a3",))
    bench.put_events(("u1", "a1", "view"), ("u1", "a2", "view"), ("u2", "a1", "view"), ("u3", "zz", "view"))
    return bench


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory):
    return made_lake(spark, tmp_path_factory.mktemp("private"))


def release(bench, **more):
    return export_profiles(bench.run, ReleaseOptions(lake=bench.lake.uri, run_date=DAY, **{"epsilon": 1.0, **more}))


def entries(bench):
    return bench.lake.read_or_empty(bench.spark, PRIVACY_LEDGER).orderBy("entry").collect()


def test_releases_are_paid_once_and_together(lake, spark, monkeypatch):
    """One history: each kind of release, a repeated one, a killed one, and one above the budget."""
    budget = {"budget": 2.2}
    assert release(lake, **budget, dry_run=True)["epsilon_spent"] == pytest.approx(1.0)
    assert not entries(lake)
    first = release(lake, **budget)
    assert (first["status"], first["tables"]) == ("done", {"noisy_profiles": 3})
    rows = {row.user_id: row for row in lake.lake.read(spark, NOISY_PROFILES).collect()}
    assert {len(row.embedding) for row in rows.values()} == {2}
    assert {(row.model, row.epsilon, row.delta) for row in rows.values()} == {("m-1", 1.0, 1e-6)}
    assert release(lake, **budget)["status"] == "unchanged"
    assert len(entries(lake)) == 1, "a repeated run neither publishes nor spends"
    assert {row.user_id: row.embedding for row in lake.lake.read(spark, NOISY_PROFILES).collect()} == {
        user: row.embedding for user, row in rows.items()
    }
    monkeypatch.setenv("RECSYS_FAULTS", "commit.before:noisy_counts=fail")
    with pytest.raises(Exception, match="noisy_counts"):
        release(lake, what="counts", **budget)
    monkeypatch.delenv("RECSYS_FAULTS")
    assert (len(entries(lake)), lake.lake.version(NOISY_COUNTS)) == (2, None)
    counts = release(lake, what="counts", **budget)
    assert (counts["tables"], len(entries(lake))) == ({"noisy_counts": 3}, 2), "it was paid for"
    lake.put_vectors()
    means = release(
        lake, what="means", dimensions=1, groups="gender: woman; gender: man; nobody", epsilon=0.5, **budget
    )
    assert means["tables"] == {"noisy_means": 3}
    stored = entries(lake)
    own = [(row.scale, row.sensitivity) for row in stored]
    assert [row.total_epsilon for row in stored] == [composed_epsilon(own[: n + 1], 1e-6) for n in range(3)]
    assert [row.epsilon for row in stored] == pytest.approx([1.0, 1.0, 0.5])
    assert stored[-1].total_epsilon < 2.2
    versions = [lake.lake.version(table) for table in (NOISY_PROFILES, NOISY_COUNTS, PRIVACY_LEDGER)]
    with pytest.raises(QualityError, match=r"3 releases of lake .* have spent epsilon=1.\d+ of 2.2 .* nothing was"):
        release(lake, epsilon=2.0, **budget)
    with pytest.raises(UsageError, match="fixed by its first release; --budget=9 would raise it"):
        release(lake, epsilon=2.0, budget=9.0)
    with pytest.raises(UsageError, match="counts with delta=1e-06, not 1e-05"):
        release(lake, delta=1e-5, **budget)
    assert versions == [lake.lake.version(table) for table in (NOISY_PROFILES, NOISY_COUNTS, PRIVACY_LEDGER)]


def test_two_releases_at_once_cannot_overdraw(spark, tmp_path, monkeypatch):
    bench = made_lake(spark, tmp_path)
    opened = Ledger.open

    def overtaken(run, options):
        ledger = opened(run, options)
        monkeypatch.setattr(Ledger, "open", opened)
        release(bench, what="counts", epsilon=3.0)
        return ledger

    monkeypatch.setattr(Ledger, "open", overtaken)
    with pytest.raises(Exception, match="privacy_ledger.* was published by another run"):
        release(bench, epsilon=3.0)
    assert ([row.what for row in entries(bench)], bench.lake.version(NOISY_PROFILES)) == (["counts"], None)


def test_sums_are_exact_and_no_user_counts_for_more_than_the_sensitivity(lake, spark):
    profiles, users = lake.lake.read(spark, USER_PROFILES), lake.lake.read(spark, USERS)
    grid = {user: clipped_grid(np.array([vector]), 1.0)[0] for user, vector in VECTORS.items()}

    def sums(groups, most):
        rows = group_sums(profiles, users, groups, most, Shape(1.0)).collect()
        return {(row.group, row.position): row.total for row in rows}

    expected = {("gender: woman", -1): 2 * GRID, ("gender: man", -1): GRID}
    expected |= {("gender: woman", at): grid["u1"][at] + grid["u3"][at] for at in range(2)}
    expected |= {("gender: man", at): grid["u2"][at] for at in range(2)}
    assert sums(["gender: man", "gender: woman"], 1) == expected
    both = sums(["age: 25", "gender: woman"], 2)
    assert sums(["age: 25", "gender: woman"], 1)["gender: woman", -1] == GRID, "u1 counts for its first group only"
    without = _without(profiles, users, "u1")
    one = {key: value - without.get(key, 0) for key, value in both.items()}
    assert math.sqrt(sum(value**2 for value in one.values())) <= mean_sensitivity(2) / 2


def _without(profiles, users, user):
    rows = group_sums(
        profiles.where(f"user_id != '{user}'"), users, ["age: 25", "gender: woman"], 2, Shape(1.0)
    ).collect()
    return {(row.group, row.position): row.total for row in rows}


def test_a_user_counts_for_few_items_and_unknown_items_for_none(lake, spark):
    events, items = lake.lake.read(spark, EVENTS), lake.lake.read(spark, ITEMS)
    all_of_them = {row.item_id: row.users for row in item_users(events, items, 9).collect()}
    assert all_of_them == {"a1": 2, "a2": 1, "a3": 0}
    assert sum(row.users for row in item_users(events, items, 1).collect()) == 2
    assert count_sensitivity(8) == 4.0


@pytest.mark.parametrize(
    ("made", "sentence"),
    [({"segment_weight": 1.0}, "made with segment_weight"), ({"history": {"sif": 1.0}}, "made with sif")],
)
def test_profiles_that_depend_on_others_are_refused(spark, tmp_path, made, sentence):
    with pytest.raises(UsageError, match=f"{sentence} depend on the events of other users"):
        release(made_lake(spark, tmp_path, **made))


def test_profiles_of_another_day_are_refused(lake):
    options = ReleaseOptions(lake=lake.lake.uri, run_date=datetime(2024, 3, 2).date(), epsilon=1.0)
    with pytest.raises(InputError, match="is of run_date 2024-03-01, not 2024-03-02"):
        export_profiles(lake.run, options)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--epsilon=0"], "epsilon (command line): Input should be greater than 0; found '0'"),
        (["--epsilon=-1"], "greater than 0"),
        ([], "--epsilon is missing"),
        (["--epsilon=1", "--what=means"], "what=means needs groups"),
        (["--epsilon=1", "--groups=a: b"], "groups has no effect with what=profiles"),
    ],
)
def test_bad_input_is_a_sentence(lake, arguments, sentence):
    done = run_job("export_profiles", f"--lake={lake.lake.uri}", f"--run_date={DAY}", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_forgotten_users_leave_releases_and_the_ledger_stays(spark, tmp_path):
    bench = made_lake(spark, tmp_path)
    release(bench)
    forget_users(bench.run, ForgetOptions(lake=bench.lake.uri, user_ids="u1"))
    assert {row.user_id for row in bench.lake.read(spark, NOISY_PROFILES).collect()} == {"u2", "u3"}
    assert len(entries(bench)) == 1
