"""The hybrid scorer and the comparison as a user meets them, on a small shop."""

import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable

from tests.bench.jobs_here import run_job
from tests.bench.spark_submit import last_json

LOG = "u{user},a{item},purchase,2024-02-{day:02} 10:00:00"


@pytest.fixture(scope="module")
def busy_shop(shop: Path, tmp_path_factory) -> Path:
    """The shop with nine users of four events each; nobody had a6."""
    folder = tmp_path_factory.mktemp("busy")
    shutil.copytree(shop, folder, dirs_exist_ok=True)
    rows = [LOG.format(user=u, item=1 + (u + n) % 5, day=1 + u + n) for u in range(9) for n in range(4)]
    (folder / "log.csv").write_text("user,sku,what,at\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder


def rows_of(lake: Path, table: str) -> list[dict]:
    return DeltaTable((lake / table).as_uri()).to_pyarrow_table().to_pylist()


@pytest.mark.slow
def test_a_refresh_publishes_hybrid_lists_whose_scores_are_sums(spark, tmp_path, tiny_bert, busy_shop):
    lake = tmp_path / "my lake[1] #{x}"
    asked = ["refresh_lake", f"--dataset={busy_shop / 'shop.toml'}", f"--data={busy_shop}", f"--lake={lake}"]
    asked += ["--run_date=2024-03-01", f"--model={tiny_bert}", "--k=2", "--scorer=hybrid", "--half_life_days=0"]
    first, second = run_job(*asked), run_job(*asked)
    assert first.returncode == 0, first.stderr
    assert last_json(second)["status"] == "unchanged", second.stderr
    weights = {(row["item_id"], row["neighbor_id"]): row["weight"] for row in rows_of(lake, "item_weights")}
    seen = {}
    for row in rows_of(lake, "events"):
        seen.setdefault(row["user_id"], set()).add(row["item_id"])
    lists = rows_of(lake, "recommendations")
    assert {row["model"][:7] for row in lists} == {"hybrid-"}
    for user, had in seen.items():
        scores = {}
        for item in {f"a{n}" for n in range(1, 7)} - had:
            if any((item, other) in weights for other in had):
                scores[item] = sum(3.0 * weights.get((item, other), 0) for other in had)
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:2]
        own = sorted((row for row in lists if row["user_id"] == user), key=lambda row: row["rank"])
        assert [row["item_id"] for row in own] == [item for item, _ in best]
        assert [row["score"] for row in own] == pytest.approx([score for _, score in best], rel=1e-5)
    refused = run_job(
        "recommend_items", f"--lake={lake}", "--run_date=2024-03-01", "--scorer=hybrid", "--diversity=0.5"
    )
    assert refused.returncode == 2
    assert "--diversity compares vectors" in refused.stderr


@pytest.mark.slow
def test_models_are_compared_and_the_last_line_has_their_metrics(spark, tmp_path, tiny_bert, busy_shop):
    asked = ["evaluate_models", f"--dataset={busy_shop / 'shop.toml'}", f"--data={busy_shop}"]
    asked += [f"--lake={tmp_path / 'my lake[1]'}", f"--model={tiny_bert}", "--at=2"]
    done = run_job(*asked)
    assert done.returncode == 0, done.stderr
    report = last_json(done)
    names = ["popularity", "popularity_recent", "item_knn", "ease", "tfidf", "cosine", "cosine_whitened", "hybrid"]
    assert list(report["metrics"]) == names
    for values in report["metrics"].values():
        assert values["users"] == 9
        assert values["hit_rate@2_low"] <= values["hit_rate@2"] <= values["hit_rate@2_high"]
    assert report["chosen"]["hybrid"].keys() == {"text_weight", "ridge", "candidates", "decay"}
    assert "hybrid" in done.stdout
    again = last_json(run_job(*asked, "--scorers=popularity,ease", "--refit=false", "--mask_seen=false"))
    assert list(again["metrics"]) == ["popularity", "ease"]
    assert not list((tmp_path / "my lake[1]" / "_blocks" / "comparison").iterdir())
    wrong = run_job(*asked, "--scorers=popularity,eese")
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)
    assert "eese" in wrong.stderr
