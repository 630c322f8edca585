"""Forgotten users are in no table, no file and no later refresh; vacuum removes scratch of killed runs."""

import hashlib
import json
import os
import re
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import InputError, UsageError
from recsys_spark.lake.lake import Lake
from recsys_spark.lake.lake_key import lake_key
from recsys_spark.privacy.id_lists import read_ids
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.raw_rows import IdMatcher
from recsys_spark.privacy.rules import (
    ID_COLUMNS,
    REMOVE_ROWS,
    REMOVE_UNUSED_TEXTS,
    RULES,
    RequestedIds,
    id_hash,
    is_match,
    key_pads,
    tombstones,
    with_matches,
    without_forgotten,
    without_matches,
)
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.refresh.options import VacuumOptions
from recsys_spark.refresh.steps.vacuum_lake import vacuum_lake
from recsys_spark.runtime.lifecycle import PERSONAL, Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.sources.dataset_file import load_dataset
from recsys_spark.tables.schemas import EMBEDDINGS, EVENTS, FAILED_TEXTS, QUARANTINE, RECOMMENDATIONS, TABLES, USERS
from recsys_spark.tune.options import TuningOptions
from recsys_spark.tune.steps.training_data import read_scored_texts
from tests.bench.event_files import DATASET, FIRST, Shop
from tests.bench.jobs_here import run_job
from tests.bench.lake_files import files_that_name
from tests.bench.spark_submit import last_json
from tests.bench.stored_rows import commit_rows
from tests.conftest import ROOT


def refresh_arguments(shop, lake, model, run_date="2024-03-01"):
    sources = [f"--dataset={shop / 'shop.toml'}", f"--data={shop}", f"--lake={lake}", f"--model={model}"]
    return ["refresh_lake", *sources, f"--run_date={run_date}", "--k=3", "--scorer=cosine"]


@pytest.mark.slow
def test_a_forgotten_user_is_in_no_file_and_does_not_come_back(spark, shop, tiny_bert, tmp_path):
    lake = tmp_path / "lake"
    mine = tmp_path / "shop"
    shutil.copytree(shop, mine)
    for name in ("log.csv", "products.csv"):
        text = (mine / name).read_text(encoding="utf-8").replace("u2", "hermit").replace("a1", "oldpot")
        (mine / name).write_text(text, encoding="utf-8")
    with (mine / "log.csv").open("a", encoding="utf-8") as log:
        log.write("hermit,a2,view,not a time\n  hermit ,a2,view,,\nu3,oldpot,view,never\n")
    first = run_job(*refresh_arguments(mine, lake, tiny_bert), "--max_bad_share=0.5", "--explain=3")
    assert first.returncode == 0, first.stderr
    for name in ("_reports/2024-03-01.html", "_status/explain_user/latest.json", "_status/embed_texts/latest.json"):
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / name).write_text("<p>'hermit' bought oldpot</p>", encoding="utf-8")
    assert len(files_that_name(lake, "hermit")) > 6
    assert any("recommendations" in path for path in files_that_name(lake, "oldpot"))  # as a reason
    forget = run_job("forget_users", f"--lake={lake}", "--user_ids=hermit", "--item_ids=oldpot")
    assert forget.returncode == 0, forget.stderr
    proof = last_json(forget)["proof"]
    assert proof["rows_removed"]["events"] >= 3
    assert proof["rows_removed"]["quarantine"] == 3
    assert proof["rows_left_in_files"] == {}
    assert proof["files_removed"] > 0
    assert proof["other_files_removed"] > 3
    assert {"events", "users", "recommendations", "quarantine"} <= set(proof["versions_expired"])
    assert files_that_name(lake, "hermit") == files_that_name(lake, "oldpot") == []
    another = run_job("forget_users", f"--lake={lake}", "--user_ids=u3")  # without a refresh in between
    assert another.returncode == 0, another.stderr
    proofs = [json.loads(path.read_text()) for path in sorted((lake / "_proofs" / "forget_users").iterdir())]
    assert len(proofs) == 2
    key = lake_key(str(lake))
    assert {"rows_removed": proof["rows_removed"], "id_hashes": sorted(
        [id_hash("user", "hermit", key), id_hash("item", "oldpot", key)])}.items() <= proofs[0].items()  # fmt: skip
    assert files_that_name(lake, "u3") == []
    lists = pq.read_table([str(p) for p in (lake / "recommendations").glob("*.parquet")]).to_pylist()
    for user in {row["user_id"] for row in lists}:
        assert sorted(r["rank"] for r in lists if r["user_id"] == user) == list(range(1, 1 + sum(
            r["user_id"] == user for r in lists
        )))  # fmt: skip
    again = run_job(*refresh_arguments(mine, lake, tiny_bert, "2024-03-02"), "--max_bad_share=0.9")
    assert again.returncode == 0, again.stderr
    assert [path for path in files_that_name(lake, "hermit") if "quarantine" not in path] == []
    assert [path for path in files_that_name(lake, "oldpot") if "quarantine" not in path] == []
    assert run_job("forget_users", f"--lake={lake}").returncode == 2


KEY = bytes(range(32))


def stones_of(spark, rows):
    pads = spark.createDataFrame([key_pads(KEY)], "_inner_pad binary, _outer_pad binary")
    return tombstones(spark.createDataFrame(rows, "kind string, id_hash string"), pads, KEY)


def test_tombstones_leave_everybody_else(spark):
    rows = spark.createDataFrame([("u", "a"), ("v", "b"), (None, "a"), (" w\t", "a")], "user_id string, item_id string")
    plain = hashlib.sha256(b"user:w").hexdigest()  # as lakes of earlier versions hold it
    named = [("user", "v"), ("item", "zz")]
    stones = [(kind, id_hash(kind, name, KEY)) for kind, name in named]
    stones += [("user", id_hash("item", "u", KEY)), ("user", plain)]
    left = without_forgotten(rows, stones_of(spark, stones))
    assert sorted(left.collect(), key=str) == sorted([("u", "a"), (None, "a")], key=str)
    assert without_forgotten(rows, None) is rows


def requested_ids(spark, **ids):
    rows = [(kind, name) for kind, names in ids.items() for name in names]
    return RequestedIds(spark.createDataFrame(rows, "kind string, id string"), IdMatcher(ids), ids)


@pytest.mark.parametrize(
    ("ddl", "named", "others"),
    [
        ("user_id string, item_id string", [("u", "b"), ("x", "a")], [(None, "b"), ("x", "b")]),
        ("item_id string, neighbor_id string", [("b", "a"), ("a", "b")], [("b", "c")]),
        ("row string", [('{"user": "u"}',)], [('{"user": "u2"}',)]),
        ("other string", [], [("u",)]),
    ],
)
def test_a_row_matches_by_its_ids(spark, ddl, named, others):
    frame = spark.createDataFrame([*named, *others], ddl)
    rows = with_matches(frame, requested_ids(spark, user=["u"], item=["a"]))
    assert sorted(map(tuple, rows.where(is_match(rows.columns)).select(*frame.columns).collect())) == sorted(named)
    left = without_matches(rows)
    assert (sorted(map(tuple, left.collect()), key=str), left.columns) == (sorted(others, key=str), frame.columns)


@pytest.mark.parametrize(
    ("row", "matches"),
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
        ({"id": "\u00a0abc"}, True),
        ({"id": "x\u2028y"}, True),
        ("u,not JSON", True),
        ("not JSON", False),
    ],
)
def test_a_raw_row_matches_however_the_id_is_written(row, matches):
    text = row if isinstance(row, str) else json.dumps(row)
    matcher = IdMatcher({"user": ["u", "7", 'a"b\\c', "\u00a0abc", "x\u2028y"]})
    assert bool(matcher.ids_in_row(text)) == matches


def test_ids_are_split_and_trimmed_as_ingest_does(tmp_path):
    lines, listed = tmp_path / "ids.txt", tmp_path / "ids.json"
    lines.write_bytes("\ufeff\u00a0abc\r\nx\u2028y\n z\t\n\n1,2\x85".encode())
    assert read_ids(None, str(lines)) == sorted({"\u00a0abc", "x\u2028y", "z", "1,2\x85"})
    listed.write_text('["a,b", "c\\nd", 7]', encoding="utf-8")
    assert read_ids("q, r", str(listed)) == ["7", "a,b", "c\nd", "q", "r"]
    listed.write_text('{"a": 1}', encoding="utf-8")
    with pytest.raises(UsageError, match="must be a JSON list of ids"):
        read_ids(None, str(listed))
    with pytest.raises(InputError, match="file of ids"):
        read_ids(None, str(tmp_path / "absent"))


def test_ten_thousand_ids_are_looked_for_in_one_pass():
    matcher = IdMatcher({"user": [f"user-{n:05d}" for n in range(10_000)]})
    rows = [json.dumps({"user": f"user-{n * 7 % 20_000:05d}", "about": "a word or two " * 5}) for n in range(2_000)]
    assert sum(bool(matcher.ids_in_row(row)) for row in rows) == sum(n * 7 % 20_000 < 10_000 for n in range(2_000))


def test_every_table_has_a_rule_of_forgetting():
    assert set(RULES) == set(TABLES), "say in privacy.rules.RULES what forgetting does with the new table"
    for name, rules in RULES.items():
        if set(ID_COLUMNS) & set(TABLES[name].columns) or "row" in TABLES[name].columns:
            assert REMOVE_ROWS in rules, f"{name} holds ids"
        if TABLES[name].key[:1] == ("text_hash",):
            assert REMOVE_UNUSED_TEXTS in rules


def test_every_reader_of_raw_sources_leaves_the_forgotten_out():
    for path in (ROOT / "recsys_spark").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"\b(SourceReader|query)\(", text) and path.name not in (
            "reader.py",
            "queries.py",
            "event_log.py",
        ):
            assert "without_forgotten(" in text, f"{path.name} reads raw rows"


# --- in a lake ---


class Forgetful(Shop):
    """A shop whose users have texts; ``forget_users`` with a kill point."""

    def __init__(self, folder):
        text = DATASET.replace("[items]", '[sources.people]\npath = "people.csv"\noptions = { header = true }\n[items]')
        text += '[users]\nfrom = "people"\nselect = { user_id = "user", about = "about" }\ntext = ["{about}"]\n'
        super().__init__(folder, text)

    def people(self, **texts):
        lines = [f"{user},{text}" for user, text in texts.items()]
        (self.folder / "people.csv").write_text("\n".join(["user,about", *lines]) + "\n", encoding="utf-8")

    def forget(self, lake, *users, **more):
        (self.folder / "ids.json").write_text(json.dumps(users), encoding="utf-8")
        options = ForgetOptions(lake=lake.uri, users_file=str(self.folder / "ids.json"), **more)
        return forget_users(Run("forget_users", lake, Progress()), options)


@pytest.fixture(scope="module")
def ingested(spark, tmp_path_factory):
    """The folder of a shop and its lake after one night."""
    shop = Forgetful(tmp_path_factory.mktemp("forgetful") / "shop")
    shop.people(u1="likes pots", u2="likes pans")
    shop.log("1.csv", "u1,a1,2024-02-01,1", "u2,a2,2024-02-01,1", "u1,,2024-02-01,1", "u2,u1 said so,x,1,2")
    shop.ingest(shop.lake())
    return shop.folder


@pytest.fixture
def forgetful(ingested, tmp_path):
    """A copy of it that a test may change."""
    shop = Forgetful(tmp_path / "shop")
    shutil.copytree(ingested, shop.folder, dirs_exist_ok=True)
    return shop


def put(lake, table, *rows):
    commit_rows(lake, table, rows, f"put {table.name} {len(rows)}", append=True)


def test_who_is_forgotten_is_in_no_file_of_the_lake_and_not_in_the_next_night(spark, tmp_path, monkeypatch):
    """The run is killed between two tables, and asked for again."""
    forgetful = Forgetful(tmp_path / "shop")
    lines = ("hermit,a2,2024-02-01,1", "u2,oldpot,2024-02-01,1", "u2,a1,2024-02-01,1", "hermit,,2024-02-01,1")
    forgetful.log("1.csv", *lines, "u2,a2,x,1,2")
    forgetful.people(hermit="likes pans", u2="likes pots")
    (forgetful.folder / "products.csv").write_text("sku,name,brand\na1,pot,ada\na2,spade,\noldpot,pot,\n")
    lake, hashes = forgetful.lake(), {t: hashlib.sha256(t.encode()).hexdigest() for t in ("likes pots", "likes pans")}
    forgetful.ingest(lake)
    put(lake, EMBEDDINGS, *((name, "m", [1.0, 0.0]) for name in hashes.values()))
    folder, reason = Path(lake.uri), {"kind": "history", "item_id": "oldpot", "sentence": "because of oldpot"}
    put(lake, RECOMMENDATIONS, ("hermit", "a1", 0.5, 1, FIRST, "m", None, None),
        ("u2", "oldpot", 0.7, 1, FIRST, "m", None, None), ("u2", "a2", 0.6, 2, FIRST, "m", None, None),
        ("u2", "a1", 0.5, 3, FIRST, "m", [reason], None))  # fmt: skip
    for name in ("_reports/2024-03-01.html", "_status/explain_user/latest.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("<p>'hermit' bought oldpot</p>", encoding="utf-8")
    assert len(files_that_name(folder, "hermit")) > 5
    assert len(files_that_name(folder, "oldpot")) > 3
    with monkeypatch.context() as killed:
        killed.setenv("RECSYS_FAULTS", "commit.after:events=fail")
        with pytest.raises(Exception, match="events"):
            forgetful.forget(lake, "hermit", item_ids="oldpot")
    proof = forgetful.forget(lake, "hermit", item_ids="oldpot")["proof"]
    assert proof["rows_left_in_files"] == {}
    assert proof["files_removed"] > 0
    assert files_that_name(folder, "hermit") == files_that_name(folder, "oldpot") == []
    left = [(r.user_id, r.item_id, r.rank, r.reasons) for r in lake.read(spark, RECOMMENDATIONS).collect()]
    assert sorted(left) == [("u2", "a1", 2, None), ("u2", "a2", 1, None)]
    texts = {row.text_hash for row in lake.read(spark, EMBEDDINGS).collect()}
    assert texts == {hashes["likes pots"]}, "nobody has the other one now"
    forgetful.log("2.csv", "hermit,a1,2024-02-02,1", "u3,a1,2024-02-02,1")
    forgetful.ingest(lake, FIRST + timedelta(days=1))
    assert [path for path in files_that_name(folder, "hermit") if "quarantine" not in path] == []
    assert {row.user_id for row in lake.read(spark, EVENTS).collect()} == {"u2", "u3"}


@pytest.mark.slow
def test_texts_that_nobody_has_now_are_forgotten_with_the_person(forgetful, spark):
    lake, hashes = forgetful.lake(), {}
    for text in ("likes pots", "likes pans", "garden", "likes tea"):
        hashes[text] = hashlib.sha256(text.encode()).hexdigest()
        put(lake, EMBEDDINGS, (hashes[text], "m" + text, [1.0, 0.0]))
        put(lake, FAILED_TEXTS, (hashes[text], "m" + text, "NaN"))
    forgetful.people(u1="likes tea", u2="likes pans")  # the text changes before the request
    forgetful.ingest(lake, FIRST + timedelta(days=1))
    for scratch in ("_comparison", "_blocks/comparison"):  # of runs of evaluate_models that were killed
        (Path(lake.uri) / scratch / "4f2a").mkdir(parents=True)
        (Path(lake.uri) / scratch / "4f2a" / "texts.arrow").write_bytes(b"likes pots")
    report = forgetful.forget(lake, "u1", "nobody")
    assert not list(Path(lake.uri).rglob("texts.arrow"))
    left = {row.text_hash for row in lake.read(spark, EMBEDDINGS).collect()}
    assert left == {hashes["likes pans"]}
    assert report["proof"]["rows_removed"][EMBEDDINGS.name] == 3
    assert report["proof"]["rows_left_in_files"] == {}
    assert report["ids_not_found"] == 1
    assert report[PERSONAL] == {"ids_not_found": {"user": ["nobody"]}}
    assert "nobody" not in json.dumps(report["proof"])


POINTS = [
    *("commit.after:forgotten", "commit.before:events", "commit.after:events", "commit.after:users"),
    *("stage.after:quarantine", "vacuum.before:events", "files.before:_status", "proof.before:forgotten"),
]


# The test above has one point between two tables.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "then"),
    [(point, then) for point in POINTS for then in ("forget", "refresh")],
)
def test_a_killed_run_is_completed(point, then, forgetful, spark, monkeypatch):
    if then == "refresh" and point in POINTS[5:]:
        pytest.skip("files of old versions are removed by the same command and by vacuum_lake")
    lake = forgetful.lake()
    lists = [(user, "a1", 0.5, 1, FIRST, "m", None, None) for user in ("u1", "u2")]
    put(lake, RECOMMENDATIONS, *lists)
    with monkeypatch.context() as killed:
        killed.setenv("RECSYS_FAULTS", f"{point}=fail")
        with pytest.raises(Exception, match=point.partition(":")[2]):
            forgetful.forget(lake, "u1")
    forgetful.log("2.csv", "u3,a1,2024-02-02,1")
    if then == "forget":
        assert forgetful.forget(lake, "u1")["proof"]["rows_left_in_files"] == {}
    forgetful.ingest(lake, FIRST + timedelta(days=1))
    for table in (EVENTS, USERS, RECOMMENDATIONS):
        assert "u1" not in {row.user_id for row in lake.read(spark, table).select("user_id").collect()}, table.name
    rows = [row.row for row in lake.read(spark, QUARANTINE).collect()]
    assert not [row for row in rows if "u1" in row]
    assert {row.user_id for row in lake.read(spark, EVENTS).collect()} == {"u2", "u3"}


def test_scratch_that_a_killed_comparison_left_is_vacuumed(spark, tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    put(lake, EMBEDDINGS, ("a text", "m", [1.0, 0.0]))
    for scratch in ("_comparison", "_blocks/comparison"):
        (Path(lake.uri) / scratch / "4f2a").mkdir(parents=True)
        (Path(lake.uri) / scratch / "4f2a" / "texts.arrow").write_bytes(b"likes pots")
    run = Run("vacuum_lake", lake, Progress())
    assert vacuum_lake(run, VacuumOptions(lake=lake.uri, keep_hours=1))["blocks_removed"] == 0
    for path in Path(lake.uri).rglob("texts.arrow"):
        os.utime(path, (0, 0))
    assert vacuum_lake(run, VacuumOptions(lake=lake.uri, keep_hours=1))["blocks_removed"] == 2
    assert not list(Path(lake.uri).rglob("texts.arrow"))


@pytest.mark.slow
def test_nothing_is_learned_from_reviews_of_the_forgotten(forgetful):
    with (forgetful.folder / "shop.toml").open("a", encoding="utf-8") as file:
        file.write(
            '[reviews]\nfrom = "log"\nselect = { user_id = "user", item_id = "sku", timestamp = "day || \' 10:00\'", '
            'text = "user || \' gave \' || amount", score = "amount" }\n'
        )
    forgetful.log("1.csv", *(f"{user},a1,2024-02-{day:02d},{day}" for user in ("u1", "u2") for day in range(1, 21)))
    lake = forgetful.lake()
    forgetful.ingest(lake)
    forgetful.forget(lake, "u1")
    options = TuningOptions(
        lake=lake.uri, dataset=str(forgetful.folder / "shop.toml"), data=str(forgetful.folder), output="unused",
        objective="regression", min_pairs=10,
    )  # fmt: skip
    rated, made_of = read_scored_texts(
        Run("fine_tune_encoder", lake, Progress()), options, load_dataset(options.dataset)
    )
    assert sorted(rated.texts) == sorted(f"u2 gave {day}" for day in range(1, 21))
    assert "forgotten" in made_of


@pytest.mark.slow
def test_another_blank_makes_another_person(forgetful, spark):
    lake = forgetful.lake()
    forgetful.log("2.csv", "\u00a0abc,a1,2024-02-01,1", "abc,a1,2024-02-01,1")
    forgetful.ingest(lake)
    forgetful.forget(lake, "\u00a0abc")
    assert {row.user_id for row in lake.read(spark, EVENTS).collect()} == {"u1", "u2", "abc"}


@pytest.mark.slow
def test_without_its_key_a_lake_refuses_to_bring_people_back(forgetful):
    lake = forgetful.lake()
    forgetful.forget(lake, "u1")
    (Path(lake.uri) / "_forgotten.key").unlink()
    forgetful.log("2.csv", "u1,a1,2024-02-02,1")
    with pytest.raises(InputError, match="Restore the file"):
        forgetful.ingest(lake, FIRST + timedelta(days=1))
