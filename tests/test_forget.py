"""Who asked to be forgotten is in no table, no file and no later refresh; and what vacuum leaves."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys_spark.forgetting import id_hash, of_ids, without_forgotten
from tests.test_submit import last_json, submit


def asked(shop, lake, model, run_date="2024-03-01"):
    known = [f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--lake={lake}", f"--model={model}"]
    return ["refresh_lake", *known, f"--run_date={run_date}", "--k=3"]


def files_that_name(lake: Path, name: str) -> list[str]:
    """Every file below the lake that holds the id, data files decoded."""
    found = []
    for path in (path for path in lake.rglob("*") if path.is_file()):
        text = json.dumps(pq.read_table(path).to_pylist(), default=str) if path.suffix == ".parquet" else ""
        if name in text or name.encode() in path.read_bytes():
            found.append(str(path.relative_to(lake)))
    return found


def test_a_forgotten_user_is_in_no_file_and_does_not_come_back(shop, tiny_bert, tmp_path):
    lake = tmp_path / "lake"
    source = (shop / "log.csv").read_text(encoding="utf-8")
    for folder, text in (("shop", source.replace("u2", "hermit") + "hermit,a1,view,not a time\n"),):
        mine = tmp_path / folder
        mine.mkdir()
        for name in ("shop.toml", "products.csv"):
            (mine / name).write_text((shop / name).read_text(encoding="utf-8"), encoding="utf-8")
        (mine / "log.csv").write_text(text, encoding="utf-8")
    first = submit(*asked(mine, lake, tiny_bert), "--max_bad_share=0.5")
    assert first.returncode == 0, first.stderr
    assert files_that_name(lake, "hermit")
    gone = submit("forget_users", f"--lake={lake}", "--user_ids=hermit", "--item_ids=a2")
    assert gone.returncode == 0, gone.stderr
    proof = last_json(gone)["proof"]
    assert proof["rows_removed"]["events"] >= 3
    assert proof["rows_removed"]["quarantine"] == 1
    assert proof["rows_left_in_files"] == {}
    assert proof["files_removed"] > 0
    assert files_that_name(lake, "hermit") == []
    lists = pq.read_table([str(p) for p in (lake / "recommendations").glob("*.parquet")]).to_pylist()
    for user in {row["user_id"] for row in lists}:
        assert sorted(r["rank"] for r in lists if r["user_id"] == user) == list(range(1, 1 + sum(
            r["user_id"] == user for r in lists
        )))  # fmt: skip
    again = submit(*asked(mine, lake, tiny_bert, "2024-03-02"), "--max_bad_share=0.5")
    assert again.returncode == 0, again.stderr
    assert files_that_name(lake, "hermit") == []
    assert "a2" not in {row["item_id"] for row in pq.read_table(str(lake / "recommendations")).to_pylist()}
    assert submit("forget_users", f"--lake={lake}").returncode == 2


def test_tombstones_leave_everybody_else(spark):
    rows = spark.createDataFrame([("u", "a"), ("v", "b"), (None, "a")], "user_id string, item_id string")
    stones = [("user", id_hash("user", "v")), ("item", id_hash("item", "zz")), ("user", id_hash("item", "u"))]
    left = without_forgotten(rows, spark.createDataFrame(stones, "kind string, id_hash string"))
    assert sorted(left.collect(), key=str) == sorted([("u", "a"), (None, "a")], key=str)


@pytest.mark.parametrize(
    ("ddl", "row", "found"),
    [
        ("user_id string, item_id string", ("u", "b"), True),
        ("user_id string, item_id string", ("x", "a"), True),
        ("user_id string, item_id string", (None, "b"), False),
        ("item_id string, neighbor_id string", ("b", "a"), True),
        ("row string", ('{"user": "u"}',), True),
        ("row string", ('{"user": "u2"}',), False),
        ("other string", ("u",), False),
    ],
)
def test_a_row_is_found_by_its_ids(spark, ddl, row, found):
    frame = spark.createDataFrame([row], ddl)
    assert frame.where(of_ids(frame.columns, {"user": ["u"], "item": ["a"]})).count() == found
