"""The demo as a user runs it, then with the hybrid scorer on the same lake: the reasons of every row, every number."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from deltalake import DeltaTable

from tests.bench.report_parts import Parts
from tests.bench.spark_submit import last_json, submit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "lake"


@pytest.fixture(scope="module")
def cosine(lake):
    return _demo(lake, "--scorer=cosine")


@pytest.fixture(scope="module")
def hybrid(lake, cosine):
    """After ``cosine``, whose lists it replaces."""
    return _demo(lake, "--scorer=hybrid")


def _demo(lake, *more):
    done = submit("demo", f"--lake={lake}", *more)
    assert done.returncode == 0, done.stderr[-3000:]
    report = last_json(done)
    text = Path(report["report"]).read_text(encoding="utf-8")
    names = ("recommendations", "events", "items", "users", "metrics")
    tables = {name: DeltaTable(str(lake / name)).to_pyarrow_table().to_pylist() for name in names}
    status = {file.name: json.loads(file.read_text()) for file in (lake / "_status" / "demo").glob("*.json")}
    return SimpleNamespace(done=done, report=report, text=text, parts=Parts(text), tables=tables, status=status)


@pytest.fixture(params=["cosine", "hybrid"])
def ran(request):
    return request.getfixturevalue(request.param)


def test_the_demo_ends_with_the_path_of_its_report(ran, lake):
    assert ran.report["status"] == "done"
    assert ran.report["report"] == f"{lake}/_reports/1998-03-01.html"
    assert f"The report: {ran.report['report']}" in ran.done.stdout
    assert "Traceback" not in ran.done.stderr
    assert "WARN" not in ran.done.stderr


def test_reasons_of_every_row_add_up_to_its_score_and_name_only_the_users_events(ran):
    items_of_user = {}
    for event in ran.tables["events"]:
        items_of_user.setdefault(event["user_id"], set()).add(event["item_id"])
    rows = ran.tables["recommendations"]
    assert len(rows) == ran.report["tables"]["recommendations"] > 7000
    for row in rows:
        assert row["reasons"], row
        assert abs(math.fsum(reason["contribution"] for reason in row["reasons"]) - row["score"]) < 1e-5, row
        for reason in row["reasons"]:
            blocks = math.fsum(block["contribution"] for block in reason["blocks"])
            assert abs(blocks - reason["contribution"]) < 1e-5, row
            assert reason["sentence"]
            assert reason["item_id"] is None or reason["item_id"] in items_of_user[row["user_id"]]


def test_the_top_reason_counts_more_than_other_reasons(ran):
    fidelity = ran.report["fidelity"]
    assert fidelity["users"] > 700
    assert fidelity["low"] > 0


def test_the_page_loads_nothing(ran):
    links = [v for _, a in ran.parts.tags for name, v in a.items() if name in ("src", "href", "xlink:href", "data")]
    assert links
    assert all(link.startswith(("#", "data:,")) for link in links)
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", ran.text))
    assert all(address.startswith("http://www.w3.org/") for address in outside), "XML namespaces are never loaded"
    assert not re.search(r"@import|url\((?!#)", ran.text)


def test_numbers_of_the_page_equal_those_of_the_tables(ran):
    tables, parts = ran.tables, ran.parts.tables
    versions = {row[0]: row for row in parts["Tables"]}
    for name in ("items", "users", "events", "recommendations", "metrics"):
        assert versions[name][2] == f"{len(tables[name]):,}"
    kinds = Counter(event["event_type"] for event in tables["events"])
    assert parts["Events"][1:] == [[kind, f"{number:,}"] for kind, number in kinds.most_common()]
    have = {row[0]: row[1] for row in parts["Completeness of items"]}
    assert have["category"] == f"{sum(item['category'] is not None for item in tables['items']):,}"
    recommended = {row["item_id"] for row in tables["recommendations"]}
    exposure = next(rows for caption, rows in parts.items() if caption.startswith("Distribution over items"))[2]
    assert exposure[2] == f"{100 * len(recommended) / len(tables['items']):.3g} %"
    assert float(exposure[1]) == pytest.approx(_gini(tables), abs=1e-4)
    metrics = next(rows for caption, rows in parts.items() if caption.startswith("Metrics on events"))
    column = metrics[0].index("ndcg@10")
    ndcg = [row for row in tables["metrics"] if row["metric"] == "ndcg"]  # of both scorers after the second run
    means = {row["scorer"]: row for row in ndcg if row["users"] == ran.report["users_evaluated"]}
    scorer = "hybrid" if any(name == "hybrid" for name in means) else "cosine"
    assert metrics[1][column].startswith(f"{means[scorer]['value']:.4f} ±")
    assert metrics[2][column].startswith(f"{means['popularity']['value']:.4f} ±")
    assert int(metrics[1][1]) == means[scorer]["users"] == ran.report["users_evaluated"]


def _gini(tables):
    """Gini coefficient of exposure: 0 = equal exposure, 1 = one item takes all."""
    counts = Counter(row["item_id"] for row in tables["recommendations"])
    values = sorted(counts[item["item_id"]] for item in tables["items"])
    number = len(values)
    return sum((2 * rank - number - 1) * value for rank, value in enumerate(values, 1)) / ((number - 1) * sum(values))


def test_the_gallery_shows_the_published_lists(ran):
    titles = {item["item_id"]: item["title"] for item in ran.tables["items"]}
    users = re.findall(r"<h3>User (\S+)</h3>", ran.text)
    assert len(users) == 4
    plain = ran.text.replace("&#39;", "'").replace("&amp;", "&")
    for row in ran.tables["recommendations"]:
        if row["user_id"] in users:
            assert f"<span>{row['rank']}. {titles[row['item_id']]}</span>" in plain
            assert all(reason["sentence"] in plain for reason in row["reasons"] if reason["kind"] != "others")


def test_drift_counts_what_the_other_scorer_changed(cosine, hybrid):
    was, now = (_lists(ran.tables["recommendations"]) for ran in (cosine, hybrid))
    rows = next(rows for caption, rows in hybrid.parts.tables.items() if caption.startswith("Lists: version "))
    drift = {row[0]: row[1] for row in rows}
    both = was.keys() & now.keys()
    overlap = sum(len(now[user] & was[user]) / len(now[user]) for user in both) / len(both)
    assert drift["users with a list in both versions"] == f"{len(both):,}"
    assert drift["mean share of a list that was in the last one"] == f"{100 * overlap:.3g} %"
    assert drift["users with a list only before"] == f"{len(was.keys() - now.keys()):,}"


def _lists(rows):
    items = {}
    for row in rows:
        items.setdefault(row["user_id"], set()).add(row["item_id"])
    return items


def test_an_unchanged_run_keeps_the_numbers_of_the_one_before(lake, hybrid):
    again = _demo(lake, "--scorer=hybrid")
    assert again.report["status"] == "unchanged"
    assert again.status["1998-03-01.json"]["status"] == "unchanged"
    assert again.status["1998-03-01.done.json"] == hybrid.status["1998-03-01.done.json"]
    assert again.parts.tables["Cost"] == hybrid.parts.tables["Cost"]
    assert again.parts.tables["Duration of each stage"] == hybrid.parts.tables["Duration of each stage"]


def test_by_default_every_user_has_a_list_that_beats_the_baselines_shown(tmp_path):
    ran = _demo(tmp_path / "lake")
    assert "WARN" not in ran.done.stderr
    rows = ran.tables["recommendations"]
    assert Counter(Counter(row["user_id"] for row in rows).values()) == {10: len(ran.tables["users"])}
    for row in rows:
        assert abs(math.fsum(reason["contribution"] for reason in row["reasons"]) - row["score"]) < 1e-5, row
        assert all(reason["sentence"] for reason in row["reasons"])
    assert ran.report["metrics"]["ndcg@10"] >= 0.29
    for name, values in ran.report["baselines"].items():
        assert ran.report["metrics"]["ndcg@10"] >= values["ndcg@10"], name
    assert "NDCG against recent popularity: +" in ran.done.stdout


def test_no_status_holds_the_id_or_the_text_of_a_user(lake, hybrid):
    done = submit("explain_user", f"--lake={lake}", "--user_id=545")
    assert done.returncode == 0, done.stderr[-3000:]
    assert last_json(done)["personal"]["user_id"] == "545"
    status = json.loads((lake / "_status" / "explain_user" / "latest.json").read_text())
    assert set(status) == {
        "job",
        "status",
        "run_date",
        "lake",
        "tables",
        "lists_of",
        "largest_error",
        "adds_up",
        "seconds",
    }
    texts = {user["text"] for user in hybrid.tables["users"] if user["text"]}
    everything = "".join(file.read_text() for file in (lake / "_status").rglob("*.json"))
    assert not [text for text in texts if text in everything]
