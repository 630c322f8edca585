"""refresh_lake --scorer=hybrid on the real data: lists that hold, and that say more of later events than others."""

import json
import subprocess

import pytest
from deltalake import DeltaTable

from tests.conftest import ROOT, data_folder


def job(*asked):
    done = subprocess.run([str(ROOT / "spark-submit.sh"), *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "folder", "day", "users"),
    [("movielens_small", "movielens-small", "2018-01-01", 581), ("online_retail", "online-retail", "2011-10-01", 3648)],
)
def test_hybrid_lists_beat_cosine_and_popularity(dataset, folder, day, users, tmp_path):
    lake = f"--lake={tmp_path / 'lake'}"
    asked = ["refresh_lake", f"--dataset={dataset}", f"--data={data_folder(folder)}", lake, f"--run_date={day}"]
    judged = ["evaluate_recommendations", lake, f"--run_date={day}", "--baselines=true"]
    job(*asked)
    cosine = job(*judged)["metrics"]
    made = job(*asked, "--scorer=hybrid")
    assert made["weights_made"] == "all: it is the first run"
    assert made["tables"]["recommendations"] == 10 * users - made["unfilled_slots"]
    found = job(*judged)
    for metric in ("hit_rate@10", "ndcg@10"):
        assert found["metrics"][metric] > max(cosine[metric], found["baselines"]["popularity"][metric])
    lists = DeltaTable(str(tmp_path / "lake" / "recommendations")).to_pyarrow_table(columns=["user_id", "item_id"])
    events = DeltaTable(str(tmp_path / "lake" / "events")).to_pyarrow_table(columns=["user_id", "item_id", "timestamp"])
    known = {(row["user_id"], row["item_id"]) for row in events.to_pylist() if str(row["timestamp"]) < day}
    assert not known & {(row["user_id"], row["item_id"]) for row in lists.to_pylist()}
    assert job(*asked, "--scorer=hybrid")["status"] == "unchanged"
