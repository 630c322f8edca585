"""Who asked to be forgotten is in no table, no file and no later refresh; and what vacuum leaves."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys_spark.forgetting import id_hash, is_named, of_ids, without_forgotten
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
    mine = tmp_path / "shop"
    shutil.copytree(shop, mine)
    for name in ("log.csv", "products.csv"):
        text = (mine / name).read_text(encoding="utf-8").replace("u2", "hermit").replace("a1", "oldpot")
        (mine / name).write_text(text, encoding="utf-8")
    with (mine / "log.csv").open("a", encoding="utf-8") as log:
        log.write("hermit,a2,view,not a time\n  hermit ,a2,view,,\nu3,oldpot,view,never\n")
    first = submit(*asked(mine, lake, tiny_bert), "--max_bad_share=0.5", "--explain=3")
    assert first.returncode == 0, first.stderr
    for name in ("_reports/2024-03-01.html", "_status/explain_user/latest.json", "_status/embed_texts/latest.json"):
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / name).write_text("<p>'hermit' bought oldpot</p>", encoding="utf-8")
    assert len(files_that_name(lake, "hermit")) > 6
    assert any("recommendations" in path for path in files_that_name(lake, "oldpot"))  # as a reason
    gone = submit("forget_users", f"--lake={lake}", "--user_ids=hermit", "--item_ids=oldpot")
    assert gone.returncode == 0, gone.stderr
    proof = last_json(gone)["proof"]
    assert proof["rows_removed"]["events"] >= 3
    assert proof["rows_removed"]["quarantine"] == 3
    assert proof["rows_left_in_files"] == {}
    assert proof["files_removed"] > 0
    assert proof["other_files_removed"] > 3
    assert {"events", "users", "recommendations", "quarantine"} <= set(proof["versions_expired"])
    assert files_that_name(lake, "hermit") == files_that_name(lake, "oldpot") == []
    another = submit("forget_users", f"--lake={lake}", "--user_ids=u3")  # without a refresh in between
    assert another.returncode == 0, another.stderr
    kept = [json.loads(path.read_text()) for path in sorted((lake / "_proofs" / "forget_users").iterdir())]
    assert len(kept) == 2
    assert {"rows_removed": proof["rows_removed"], "id_hashes": sorted(
        [id_hash("user", "hermit"), id_hash("item", "oldpot")])}.items() <= kept[0].items()  # fmt: skip
    assert files_that_name(lake, "u3") == []
    lists = pq.read_table([str(p) for p in (lake / "recommendations").glob("*.parquet")]).to_pylist()
    for user in {row["user_id"] for row in lists}:
        assert sorted(r["rank"] for r in lists if r["user_id"] == user) == list(range(1, 1 + sum(
            r["user_id"] == user for r in lists
        )))  # fmt: skip
    again = submit(*asked(mine, lake, tiny_bert, "2024-03-02"), "--max_bad_share=0.9")
    assert again.returncode == 0, again.stderr
    assert [path for path in files_that_name(lake, "hermit") if "quarantine" not in path] == []
    assert [path for path in files_that_name(lake, "oldpot") if "quarantine" not in path] == []
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


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"user_id": "u"}, True),
        ({"user_id": "  u\t"}, True),
        ({"user_id": "u2"}, False),
        ({"user_id": 7}, True),
        ({"user_id": 77, "at": "2007"}, False),
        ({"user": {"ids": [1, [7]]}}, True),
        ({"id": 'a"b\\c'}, True),
        ({"id": 'a"b'}, False),
        ({"_corrupt_record": 'x,"a""b\\c",view'}, True),
        ({"_corrupt_record": '{"id": "a\\"b\\\\c", '}, True),
        ({"_corrupt_record": "x,u,view,too many"}, True),
        ({"_corrupt_record": "x,you,view"}, False),
        ({"id": None, "other": True}, False),
        ("u,not JSON", True),
        ("not JSON", False),
    ],
)
def test_a_raw_row_is_found_however_the_id_is_written(row, found):
    assert is_named(row if isinstance(row, str) else json.dumps(row), {"u", "7", 'a"b\\c'}) == found
