"""The demo as a user runs it, and the hybrid scorer over the same lake: every row's reasons, every figure's source."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from deltalake import DeltaTable

from tests.flows.test_submit import last_json, submit
from tests.report.test_render_report import Parts

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "lake"


@pytest.fixture(scope="module")
def cosine(lake):
    return _demo(lake)


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


def test_it_ends_with_the_path_of_its_report(ran, lake):
    assert ran.report["status"] == "done"
    assert ran.report["report"] == f"{lake}/_reports/1998-03-01.html"
    assert f"The report: {ran.report['report']}" in ran.done.stdout
    assert "Traceback" not in ran.done.stderr
    assert "WARN" not in ran.done.stderr


def test_reasons_of_every_row_add_up_to_its_score_and_name_own_events_only(ran):
    own = {}
    for event in ran.tables["events"]:
        own.setdefault(event["user_id"], set()).add(event["item_id"])
    rows = ran.tables["recommendations"]
    assert len(rows) == ran.report["tables"]["recommendations"] > 7000
    for row in rows:
        assert row["reasons"], row
        assert abs(math.fsum(reason["contribution"] for reason in row["reasons"]) - row["score"]) < 1e-5, row
        for reason in row["reasons"]:
            blocks = math.fsum(block["contribution"] for block in reason["blocks"])
            assert abs(blocks - reason["contribution"]) < 1e-5, row
            assert reason["sentence"]
            assert reason["item_id"] is None or reason["item_id"] in own[row["user_id"]]


def test_the_top_reason_is_the_one_that_counts(ran):
    fidelity = ran.report["fidelity"]
    assert fidelity["users"] > 700
    assert fidelity["low"] > 0


def test_the_page_loads_nothing(ran):
    links = [v for _, a in ran.parts.tags for name, v in a.items() if name in ("src", "href", "xlink:href", "data")]
    assert links
    assert all(link.startswith(("#", "data:,")) for link in links)
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", ran.text))
    assert all(address.startswith("http://www.w3.org/") for address in outside), "names of XML, which nobody loads"
    assert not re.search(r"@import|url\((?!#)", ran.text)


def test_numbers_of_the_page_are_those_of_the_tables(ran):
    tables, parts = ran.tables, ran.parts.tables
    versions = {row[0]: row for row in parts["Tables"]}
    for name in ("items", "users", "events", "recommendations", "metrics"):
        assert versions[name][2] == f"{len(tables[name]):,}"
    kinds = Counter(event["event_type"] for event in tables["events"])
    assert parts["Events"][1:] == [[kind, f"{number:,}"] for kind, number in kinds.most_common()]
    have = {row[0]: row[1] for row in parts["Completeness of items"]}
    assert have["category"] == f"{sum(item['category'] is not None for item in tables['items']):,}"
    shown = {row["item_id"] for row in tables["recommendations"]}
    exposed = next(rows for caption, rows in parts.items() if caption.startswith("Distribution over items"))[2]
    assert exposed[2] == f"{100 * len(shown) / len(tables['items']):.3g} %"
    assert float(exposed[1]) == pytest.approx(_gini(tables), abs=1e-4)
    judged = next(rows for caption, rows in parts.items() if caption.startswith("Metrics on events"))
    place = judged[0].index("ndcg@10")
    ndcg = [row for row in tables["metrics"] if row["metric"] == "ndcg"]  # of both scorers after the second run
    means = {row["scorer"]: row for row in ndcg if row["users"] == ran.report["users_evaluated"]}
    scorer = "hybrid" if any(name == "hybrid" for name in means) else "cosine"
    assert judged[1][place].startswith(f"{means[scorer]['value']:.4f} ±")
    assert judged[2][place].startswith(f"{means['popularity']['value']:.4f} ±")
    assert int(judged[1][1]) == means[scorer]["users"] == ran.report["users_evaluated"]


def _gini(tables):
    """Of how often items are listed: 0 all alike, 1 one item has all."""
    counts = Counter(row["item_id"] for row in tables["recommendations"])
    values = sorted(counts[item["item_id"]] for item in tables["items"])
    number = len(values)
    return sum((2 * place - number - 1) * value for place, value in enumerate(values, 1)) / ((number - 1) * sum(values))


def test_the_gallery_shows_the_lists_that_were_published(ran):
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
    told = {row[0]: row[1] for row in rows}
    both = was.keys() & now.keys()
    kept = sum(len(now[user] & was[user]) / len(now[user]) for user in both) / len(both)
    assert told["users with a list in both versions"] == f"{len(both):,}"
    assert told["mean share of a list that was in the last one"] == f"{100 * kept:.3g} %"
    assert told["users with a list only before"] == f"{len(was.keys() - now.keys()):,}"


def _lists(rows):
    found = {}
    for row in rows:
        found.setdefault(row["user_id"], set()).add(row["item_id"])
    return found


def test_a_run_with_nothing_to_do_keeps_the_figures_of_the_one_before(lake, hybrid):
    again = _demo(lake, "--scorer=hybrid")
    assert again.report["status"] == "unchanged"
    assert again.status["1998-03-01.json"]["status"] == "unchanged"
    assert again.status["1998-03-01.done.json"] == hybrid.status["1998-03-01.done.json"]
    assert again.parts.tables["Cost"] == hybrid.parts.tables["Cost"]
    assert again.parts.tables["Duration of each stage"] == hybrid.parts.tables["Duration of each stage"]


def test_no_status_names_a_user_or_holds_what_is_written_about_one(lake, hybrid):
    done = submit("explain_user", f"--lake={lake}", "--user_id=545")
    assert done.returncode == 0, done.stderr[-3000:]
    assert last_json(done)["personal"]["user_id"] == "545"
    kept = json.loads((lake / "_status" / "explain_user" / "latest.json").read_text())
    assert set(kept) == {
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
