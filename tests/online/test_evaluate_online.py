"""The job evaluate_online in each mode, from files and from a lake, against figures worked out by hand."""

import hashlib
from datetime import date, datetime, timedelta
from statistics import mean

import numpy as np
import pytest
from deltalake import DeltaTable

from recsys_spark.lake.lake import Lake
from recsys_spark.tables.schemas import EVENTS, EXPOSURES, INTERLEAVED, ONLINE_METRICS, RECOMMENDATIONS, USERS
from tests.bench.jobs_here import run_job
from tests.bench.spark_submit import last_json
from tests.bench.stored_rows import commit_rows

DAY = date(2024, 3, 1)


def evaluated(lake, mode, *keys):
    few = ["--replicates=50"] if mode == "off_policy" else []
    done = run_job("evaluate_online", f"--lake={lake}", f"--run_date={DAY}", f"--mode={mode}", *keys, *few)
    assert "Traceback" not in done.stderr
    assert "nan" not in done.stdout.lower()
    return done, last_json(done)


def stored(lake, table=ONLINE_METRICS):
    return DeltaTable(f"{lake}/{table.name}").to_pyarrow_table().to_pylist()


def write(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return path


def put_lists(lake, lists, run_date=DAY):
    rows = [
        (user, item, 1 - place / 10, place + 1, run_date, "m", None, None)
        for user, items in lists.items()
        for place, item in enumerate(items)
    ]
    commit_rows(Lake(str(lake)), RECOMMENDATIONS, rows, f"{rows}")


def put_events(lake, *pairs, day=2.0):
    at = datetime(2024, 3, 1) + timedelta(days=day)
    rows = [(user, item, "purchase", at + timedelta(minutes=n), None) for n, (user, item) in enumerate(pairs)]
    commit_rows(Lake(str(lake)), EVENTS, rows, f"{rows}", append=True)


# --- off-policy ---


def impressions(path, users=60):
    """Users with two impressions each: rank 1 is always shown, rank 2 is explored; and some bad rows."""
    rng, rows = np.random.default_rng(0), []
    for user in range(users):
        rows.append((f"u{user}", "a", 1, 1.0, 1.0, int(rng.random() < 0.6)))
        explored = rng.random() < 0.5
        rows.append(
            (f"u{user}", "b" if explored else "c", 2, 0.5, float(explored), int(rng.random() < 0.2 + explored / 2))
        )
    bad = [
        ("u1", "a", 1, 0.0, 1.0, 1),
        ("", "a", 1, 1.0, 1.0, 1),
        ("u1", "a", 1, 1.0, 1.0, "inf"),
        ("u2", "a", 0, 1, 1, 1),
        ("u2", "a", 1, 1, 1, 1, "too many"),
    ]
    write(path, "user_id,item_id,rank,propensity,target_propensity,reward", [*rows, *bad])
    return rows


def test_files_give_the_figures_worked_out_by_hand_and_bad_rows_are_counted(spark, tmp_path):
    lake, file = tmp_path / "lake", tmp_path / "log.csv"
    rows = impressions(file)
    done, report = evaluated(lake, "off_policy", f"--impressions={file}", "--max_bad_share=0.1", "--max_weight=1.5")
    assert done.returncode == 0, done.stderr
    weight, reward = (np.array(column) for column in zip(*((r[4] / r[3], r[5]) for r in rows), strict=True))
    kept = np.minimum(weight, 1.5)
    expected = {"logged": reward.mean(), "ips": (kept * reward).mean(), "snips": (kept * reward).sum() / kept.sum()}
    for name, value in expected.items():
        row = report["metrics"][name]
        assert row["estimate"] == pytest.approx(value)
        assert row["low"] < row["estimate"] < row["high"]
        assert row["users"] == 60
    assert report["metrics"]["ips_gain"]["estimate"] == pytest.approx(expected["ips"] - expected["logged"])
    assert report["metrics"]["ips"]["ess"] == pytest.approx(kept.sum() ** 2 / (kept**2).sum())
    assert report["clipped_weight_share"] == pytest.approx(1 - kept.sum() / weight.sum())
    assert report["bias_bound"]["ips"] == pytest.approx(((weight - kept) * reward).mean())
    assert report["impressions"] == report["rows"] == 120
    reasons = [
        "propensity is not in (0, 1]",
        "user_id is null or blank",
        "reward is not a number",
        "rank is not a whole number from 1",
        "malformed record",
    ]
    assert report["bad_rows"] == dict.fromkeys(reasons, 1)
    support, ess = report["warnings"]
    lost = 1 / (sum(row[4] for row in rows) + 4)
    assert support.startswith(f"support is missing: {lost:.1%} of what the target policy shows has no propensity")
    assert "effective sample size" in ess
    assert "ips_gain" in done.stdout

    again = evaluated(lake, "off_policy", f"--impressions={file}", "--max_bad_share=0.1", "--max_weight=1.5")[1]
    assert (again["status"], again["metrics"]) == ("unchanged", report["metrics"])
    table = {row["metric"]: row for row in stored(lake)}
    assert table["dr"]["estimate"] == report["metrics"]["dr"]["estimate"]
    assert (table["dr"]["run_date"], table["dr"]["mode"], table["dr"]["evaluation"]) == (DAY, "off_policy", 1)

    refused, report = evaluated(lake, "off_policy", f"--impressions={file}")
    assert refused.returncode == 3
    assert "5 of 125 rows are bad, more than max_bad_share 0.01" in refused.stderr
    assert "for example 'inf'" in refused.stderr
    assert report["bad_rows"]["propensity is not in (0, 1]"] == 1


def test_rewards_of_another_file_are_added_to_the_impressions(spark, tmp_path):
    file = write(
        tmp_path / "shown.csv",
        "user_id,item_id,propensity,target_propensity",
        [(f"u{n}", item, 0.5, float(item == "a")) for n in range(3) for item in "ab"],
    )
    earned = write(tmp_path / "earned.csv", "user_id,item_id,reward", [("u0", "a", 1), ("u0", "a", 2), ("u9", "a", 5)])
    done, report = evaluated(tmp_path / "lake", "off_policy", f"--impressions={file}", f"--rewards={earned}")
    assert done.returncode == 0, done.stderr
    assert report["metrics"]["logged"]["estimate"] == pytest.approx(3 / 6)
    assert report["metrics"]["ips"]["estimate"] == pytest.approx(2 * 3 / 6)


@pytest.mark.parametrize(
    ("header", "rows", "code", "message"),
    [
        (
            "user_id,propensity,reward",
            [("u", 1, 1)],
            2,
            "has no column target_propensity; columns there: user_id, prop",
        ),
        ("user_id,propensity,target_propensity", [("u", 1, 1)], 2, "has no column reward: add it, or name a file"),
        ("user_id,propensity,target_propensity,reward", [("u", 1, 0, 1)], 4, "the log says nothing about it"),
        ("user_id,propensity,target_propensity,reward", [], 4, "has no rows"),
    ],
)
def test_logs_that_say_nothing_end_in_a_sentence(spark, tmp_path, header, rows, code, message):
    file = write(tmp_path / "log.csv", header, rows)
    done, _ = evaluated(tmp_path / "lake", "off_policy", f"--impressions={file}")
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_one_user_has_estimates_without_intervals(spark, tmp_path):
    file = write(
        tmp_path / "log.csv", "user_id,propensity,target_propensity,reward", [("u", 0.5, 1, 1), ("u", 0.5, 0, 1)]
    )
    done, report = evaluated(tmp_path / "lake", "off_policy", f"--impressions={file}")
    assert done.returncode == 0, done.stderr
    assert (report["metrics"]["ips"]["estimate"], report["metrics"]["ips"]["low"]) == (1, None)
    assert report["warnings"][0] == "all impressions are of one user: there are no intervals"
    absent, _ = evaluated(tmp_path / "lake", "off_policy", f"--impressions={tmp_path}/none.csv")
    assert absent.returncode == 4
    assert "none.csv does not exist; check --impressions" in absent.stderr


def test_a_lake_evaluates_its_explored_lists_on_later_events(spark, tmp_path):
    """u1: rank 2 was explored and the target has it; u2: as listed; u3 has no list of the target."""
    lake = tmp_path / "lake"
    put_lists(lake, {"u1": ["a", "b", "c"], "u2": ["a", "b", "c"]})
    shown = [("u1", "a", 1, 1.0), ("u1", "c", 2, 0.25), ("u2", "b", 2, 0.5), ("u2", "a", 1, 1.0), ("u3", "a", 1, 1.0)]
    old = [("u1", "c", 1, 0.1)]
    rows = [(*row[:3], DAY, row[3], "auto", draw) for draw, part in ((1, old), (2, shown)) for row in part]
    commit_rows(Lake(str(lake)), EXPOSURES, rows, "exposures")
    put_events(lake, ("u1", "c"), ("u2", "b"), ("u2", "z"), day=1.5)
    put_events(lake, ("u1", "a"), ("u2", "a"), day=9)
    done, report = evaluated(lake, "off_policy", "--window_days=2")
    assert done.returncode == 0, done.stderr
    metrics = report["metrics"]
    assert metrics["logged"]["estimate"] == pytest.approx(2 / 4)
    assert metrics["ips"]["estimate"] == pytest.approx(2 / 4), "only b of u2, with weight 2"
    assert metrics["snips"]["estimate"] == pytest.approx(2 / 4)
    assert report["users_shown"] == 3
    assert metrics["ips"]["users"] == 2
    assert not any("window" in warning for warning in report["warnings"])
    other = tmp_path / "other"
    put_lists(other, {"u1": ["a", "c"]})
    done, report = evaluated(lake, "off_policy", "--window_days=2", f"--other_lake={other}")
    assert report["metrics"]["ips"]["estimate"] == pytest.approx(4 / 2)
    assert {row["evaluation"] for row in stored(lake)} == {1, 2}
    late, _ = evaluated(lake, "off_policy", "--window_days=30")
    assert "warning: the window is not over" in late.stdout
    wrong = run_job("evaluate_online", f"--lake={lake}", "--run_date=2024-03-05", "--mode=off_policy")
    assert wrong.returncode == 4
    assert "holds lists for run_date 2024-03-01, not for 2024-03-05" in wrong.stderr


# --- interleaving ---


def test_lists_of_two_lakes_are_mixed_and_the_preferred_team_is_found(spark, tmp_path):
    lake, other = tmp_path / "lake", tmp_path / "other"
    users = [f"u{n}" for n in range(12)]
    put_lists(lake, dict.fromkeys([*users, "only a"], ["a1", "both", "a2", "a3"]))
    put_lists(other, dict.fromkeys(users, ["b1", "b2", "both", "b3"]))
    keys = [f"--other_lake={other}", "--salt=march", "--slots=4"]
    done, report = evaluated(lake, "mix", *keys)
    assert done.returncode == 0, done.stderr
    assert report["tables"] == {"interleaved": 48}
    assert evaluated(lake, "mix", *keys)[1]["status"] == "unchanged"
    lists = {user: [] for user in users}
    for row in sorted(stored(lake, INTERLEAVED), key=lambda row: row["rank"]):
        lists[row["user_id"]].append((row["item_id"], row["team"]))
    for shown in lists.values():
        assert [team for _, team in shown].count("a") == 2
        assert {shown[0][0], shown[1][0]} == {"a1", "b1"}
    assert len({shown[0] for shown in lists.values()}) == 2, "coins differ"
    team_b = [(user, item) for user in users[:9] for item, team in lists[user] if team == "b"]
    team_a = [(user, item) for user in users[9:11] for item, team in lists[user] if team == "a"]
    put_events(lake, *team_b, *team_a, *((user, lists[user][n][0]) for user in users[11:] for n in (0, 1)), day=6.9)
    done, report = evaluated(lake, "interleave")
    assert done.returncode == 0, done.stderr
    assert (report["prefer_a"], report["prefer_b"], report["ties"]) == (2, 9, 1)
    assert report["metrics"]["preference_b"]["estimate"] == pytest.approx(9 / 11)
    assert report["p_value"] == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    file = write(tmp_path / "teams.csv", "user_id,team,reward", [("u", "A", 1), ("u", "b", 1)])
    _, report = evaluated(lake, "interleave", f"--impressions={file}")
    assert report["metrics"]["preference_b"] == {"estimate": None, "low": None, "high": None, "users": 1}
    assert "there is no preference yet" in report["warnings"][0]


# --- arms ---


def test_arms_of_a_lake_are_those_of_the_hash_and_the_effect_is_their_difference(spark, tmp_path):
    lake, users = tmp_path / "lake", [f"u{n}" for n in range(40)]
    commit_rows(Lake(str(lake)), USERS, [(user, None, None, None, None) for user in users], "users")
    hashed = {user: int(hashlib.sha256(f"march:{user}".encode()).hexdigest()[:13], 16) / 16**13 for user in users}
    treated = {user: share < 0.4 for user, share in hashed.items()}
    before = [(user, f"x{n}") for place, user in enumerate(users) for n in range(place % 3)]
    during = [
        (user, f"y{n}") for place, user in enumerate(users) for n in range(place % 3 + 2 * treated[user] + place % 2)
    ]
    put_events(lake, *before, day=-5)
    put_events(lake, *during, day=6.5)
    done, report = evaluated(lake, "ab", "--salt=march", "--treatment_share=0.4", "--planned_users=40")
    assert done.returncode == 0, done.stderr
    count = sum(treated.values())
    assert report["arms"] == {"control": 40 - count, "treatment": count}
    metric = {user: sum(one == user for one, _ in during) for user in users}
    means = [mean(metric[user] for user in users if treated[user] == side) for side in (False, True)]
    assert report["metrics"]["effect"]["estimate"] == pytest.approx(means[1] - means[0])
    effects = report["metrics"]
    widths = {name: effects[name]["high"] - effects[name]["low"] for name in effects}
    assert widths["effect_cuped"] < widths["effect"]
    assert widths["effect_cuped"] < widths["effect_always_valid"]
    assert report["cuped_variance_share"] < 1
    done, report = evaluated(lake, "power", "--effect=0.1", "--window_days=10", "--treatment_share=0.4")
    assert done.returncode == 0, done.stderr
    assert report["metric"]["mean"] == pytest.approx(len(before) / 40)
    assert report["users_needed"] > 40
    assert report["metrics"]["minimum_effect"]["low"] is None


@pytest.mark.parametrize(
    ("rows", "code", "message"),
    [
        ([(f"u{n}", "control", 1) for n in range(5)], 4, "control 5, treatment 0; an effect needs at least two users"),
        ([(f"u{n}", "control" if n < 80 else "treatment", 1) for n in range(100)], 3, "80 and 20 users"),
        ([("u", "control", 1), ("u", "control", 2)], 4, "1 users have several rows"),
        (
            [("u", "placebo", 1), ("v", "control", 2)],
            3,
            "arm is neither control nor treatment (outcomes): 1, for example",
        ),
    ],
)
def test_arms_that_cannot_be_compared_are_refused(spark, tmp_path, rows, code, message):
    file = write(tmp_path / "arms.csv", "user_id,arm,metric", rows)
    done, _ = evaluated(tmp_path / "lake", "ab", f"--outcomes={file}")
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_a_metric_without_variance_has_no_interval(spark, tmp_path):
    rows = [(f"u{n}", "control" if n % 2 else "treatment", 3) for n in range(10)]
    file = write(tmp_path / "arms.csv", "user_id,arm,metric", rows)
    done, report = evaluated(tmp_path / "lake", "ab", f"--outcomes={file}")
    assert done.returncode == 0, done.stderr
    assert report["metrics"]["effect"] == {"estimate": 0, "low": None, "high": None, "users": 10}
    assert report["warnings"] == ["all users of an arm have the same metric: no intervals"]
    done, _ = evaluated(tmp_path / "lake", "power", f"--outcomes={file}")
    assert done.returncode == 4
    assert "all have the same metric" in done.stderr
