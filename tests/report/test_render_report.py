"""A report and one user's explanation: their numbers are those of the lake, and titles are never code."""

import json
import re
import time
from datetime import date, timedelta

import numpy as np
import pytest

from recsys_spark.errors import InputError
from recsys_spark.evaluate.list_metrics import popular_items, popularity_lists, relevant_pairs
from recsys_spark.events.relevance import is_positive_event
from recsys_spark.explain.steps.explain_user import ExplainUserOptions, explain_user
from recsys_spark.lake.lake_key import lake_key
from recsys_spark.privacy.rules import id_hash
from recsys_spark.report.aggregates import (
    evaluated_users,
    history_lengths,
    list_drift,
    metric_slices,
    popularity,
    text_lengths,
)
from recsys_spark.report.page import Note, Section, Share, TableElement, format_cell, render_page
from recsys_spark.report.steps.drift import drift
from recsys_spark.report.steps.list_quality import _gaps
from recsys_spark.report.steps.render_report import ReportOptions, render_report
from recsys_spark.runtime.lifecycle import PERSONAL
from recsys_spark.runtime.progress import Progress
from recsys_spark.tables.schemas import CHANGES, EVENTS, METRICS, RECOMMENDATIONS, Table
from tests.bench.explained_lake import DAY, World, _time
from tests.bench.report_parts import Parts
from tests.report.browser import open_page

HOSTILE = "</title><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">\x1b[2J {}"


@pytest.fixture(scope="module")
def hostile(spark, tmp_path_factory):
    """A lake of hostile titles, refreshed twice, with events after the run date."""
    world = World(spark, tmp_path_factory.mktemp("lake"), boosts=False, title=HOSTILE)
    world.refresh(explain=2)
    world.events += [(u, world.items[n], "purchase", _time(3, n), None) for n, u in enumerate(world.users)] * 1
    world.events.append((world.users[0], world.items[7], "purchase", _time(-1, 0), None))
    world.commit(1)
    world.refresh(explain=2)
    past = [(date(2024, 1, 1) + timedelta(days=n), "cosine", "ndcg", 10, n / 1000, 9) for n in range(40)]
    past += [(day, scorer, "hit_rate", k, value, n) for day, scorer, _, k, value, n in past]
    newer = [date(2024, 2, 9), "cosine", "ndcg", 10]
    older = {name: METRICS.columns[name] for name in [*METRICS.columns][:6]}  # before evaluations were numbered
    tables = (
        (Table(METRICS.name, older, METRICS.key[:4]), past),
        (METRICS, [(*newer, 0.5, 9, 2, None), (*newer, 0.25, 9, 1, None)]),
    )
    for table, rows in tables:
        staged = world.lake.stage(spark.createDataFrame(rows, table.ddl), table)
        world.lake.commit(staged, f"past {len(rows)}", append=True)
    status = {"job": "evaluate_models", "status": "done", "run_date": "2024-03-01", "protocol": "leave_one_out"}
    values = {"users": 9, "ndcg@10": 0.25, "ndcg@10_low": 0.2, "ndcg@10_high": 0.3}
    for name in ("2024-03-01", "2024-03-01.done"):
        world.lake.plain.write_status("evaluate_models", name, status | {"metrics": {"<i>ease</i>": values}})
    refresh = {"job": "demo", "run_date": "2024-03-01", "tables": {}}
    published = refresh | {"status": "done", "tokens": 77, "padding_share": 0.25, "stages": {"embed_texts": 3.0}}
    published |= {"software": {"torch": "2.13.0"}, "model": "667a", "model_name": "package:tiny"}
    world.lake.plain.write_status("demo", "2024-03-01.done", published)
    return world


@pytest.fixture(scope="module")
def written(hostile):
    options = ReportOptions(lake=hostile.lake.uri, run_date=DAY, report_items=20)
    idle = {"job": "demo", "run_date": "2024-03-01", "status": "unchanged", "tables": {}}
    return render_report(hostile.run, options, idle)


@pytest.fixture(scope="module")
def parts(written):
    with open(written["report"], encoding="utf-8") as file:
        return Parts(file.read())


def test_all_sections_are_there(written):
    assert written["sections"] == ["gallery", "quality", "fairness", "drift", "space", "data", "ran"]


def test_titles_are_text(parts):
    assert not [tag for tag, _ in parts.tags if tag in ("script", "img", "i", "iframe", "object")]
    assert not [attributes for _, attributes in parts.tags if any(name.startswith("on") for name in attributes)]
    assert sum(tag == "title" for tag, _ in parts.tags) == 1 + 19, "that of the page, and one per point of the map"


def test_nothing_is_loaded_from_elsewhere(parts):
    links = [value for _, a in parts.tags for name, value in a.items() if name in ("src", "href", "xlink:href", "data")]
    assert links
    assert all(link.startswith(("#", "data:,")) for link in links)


def test_figures_and_tables_are_accessible(parts):
    images = [attributes for tag, attributes in parts.tags if attributes.get("role") == "img"]
    assert len(images) == 6
    assert all(len(attributes["aria-label"]) > 20 for attributes in images)
    headers = [attributes for tag, attributes in parts.tags if tag == "th"]
    assert headers
    assert all(attributes.get("scope") in ("row", "col") for attributes in headers)
    assert sum(tag == "table" for tag, _ in parts.tags) == sum(tag == "caption" for tag, _ in parts.tags)


def test_numbers_are_those_of_the_tables(hostile, parts):
    table = {row[0]: row[1:] for row in parts.tables["Tables"]}
    version = hostile.lake.version(RECOMMENDATIONS)
    assert table["recommendations"][:2] == [str(version), str(hostile.lake.rows(RECOMMENDATIONS))]
    types = {row[0]: int(row[1]) for row in parts.tables["Events"][1:]}
    assert sum(types.values()) == len(hostile.events)
    assert types["cancel"] == sum(event[2] == "cancel" for event in hostile.events)
    listed = listed_items(hostile)
    exposure = next(rows for caption, rows in parts.tables.items() if caption.startswith("Distribution over items"))
    assert exposure[2][2] == f"{100 * len(listed) / len(hostile.items):.3g} %"
    compared = next(rows for caption, rows in parts.tables.items() if caption.startswith("Comparison of scorers"))
    assert compared[1] == ["<i>ease</i>", "9", "0.2500 (0.2000 to 0.3000)"]


def listed_items(world):
    return {row["item_id"] for row in world.rows()}


def test_an_unchanged_run_does_not_hide_the_cost_of_the_last_one(parts):
    jobs = {row[0]: row[1:] for row in parts.tables["Last run of each job"]}
    assert jobs["demo"][1] == "unchanged"
    assert ["tokens", "77"] in parts.tables["Cost"]
    assert ["padding share", "25 %"] in parts.tables["Cost"]
    assert parts.tables["Duration of each stage"][1] == ["embed_texts", "3.00", "100 %"]
    software = parts.tables["Software versions, run date 2024-03-01"]
    assert ["torch", "2.13.0"] in software
    assert ["model", "package:tiny"] in software


def test_audit_figures_and_changes_are_reported(hostile, parts):
    audited = next(rows for caption, rows in parts.tables.items() if caption.startswith("Audit figures"))
    figures = {(row[0], row[1]): row[2:] for row in audited[1:]}
    commits = hostile.lake.commits(RECOMMENDATIONS, 2)
    now, was = (commit.outcome.figures for commit in commits)
    assert figures["recommendations", "rows"] == [f"{was['rows']:.0f}", f"{now['rows']:.0f}"]
    assert figures["recommendations", "share of changed lists"] == ["–", f"{100 * now['changed_lists']:.3g} %"]
    assert figures["item_vectors", "mean vector norm"] == ["–", "1.00"]
    assert ("user_profiles", "mean cosine of two vectors") in figures
    changes = next(rows for caption, rows in parts.tables.items() if caption.startswith("Rows changed by"))
    rows = [["–" if v is None else str(v) for v in row] for row in hostile.lake.read(hostile.spark, CHANGES).collect()]
    assert sorted(changes[1:]) == sorted(rows)


def test_old_evaluations_are_a_curve_and_not_a_long_table(parts):
    past = parts.tables["Past evaluations: the last 5 run dates"]
    assert [row[0] for row in past[1:]] == [f"2024-02-0{n}" for n in (9, 9, 9, 8, 7, 6, 5)]
    values = [["0.5000", ""], ["0.2500", ""], ["0.0390", "0.0390"]]
    assert [row[1:] for row in past[1:4]] == [["cosine", "9", *row] for row in values], "the newest evaluation first"


@pytest.mark.slow
def test_accepted_drift_is_reported(spark, tmp_path):
    world = World(spark, tmp_path / "lake", boosts=False)
    world.refresh()
    world.embeddings = {name: np.abs(vector) for name, vector in world.embeddings.items()}
    world.commit(1)
    world.refresh(accept_drift=True, drift_from_rows=0, max_changed_lists=0, full=True)
    section = drift(world.run)
    notes = [element.text for element in section.elements if element.kind == "note"]
    assert any("--accept_drift: table 'recommendations'" in note and "lists have changed" in note for note in notes)


def test_users_are_named_only_with_show_ids(hostile, written, parts):
    with open(written["report"], encoding="utf-8") as file:
        text = file.read()
    assert not [user for user in hostile.users if re.search(rf"\b{user}\b", text)]
    hashes = re.findall(r"<h3>User (\S+)</h3>", text)
    assert len(hashes) == 4
    assert set(hashes) <= {id_hash("user", user, lake_key(hostile.lake.uri))[5:13] for user in hostile.users}
    options = ReportOptions(lake=hostile.lake.uri, run_date=DAY, report_items=20, report_users=12, show_ids=True)
    with open(render_report(hostile.run, options)["report"], encoding="utf-8") as file:
        named = file.read()
    assert all(f"<h3>User {user}</h3>\n<p>{user}</p>" in named for user in hostile.users[:1])


def test_lists_for_another_day_are_refused(hostile):
    with pytest.raises(InputError, match="2024-03-01"):
        render_report(hostile.run, ReportOptions(lake=hostile.lake.uri, run_date=date(2024, 4, 1)))


@pytest.mark.parametrize(
    ("width", "dark"), [(390, False), pytest.param(390, True, marks=pytest.mark.slow), (1200, False)]
)
def test_a_browser_shows_the_page_without_complaints(written, tmp_path, width, dark):
    from pathlib import Path

    with open_page(Path(written["report"]), tmp_path / "profile", width, dark=dark) as tab:
        assert tab.value("document.title") == "Recommendation report"
        assert tab.value("window.innerWidth") == width
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value("document.scripts.length") == 0
        paper = tab.value("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 24, 31)" if dark else "rgb(253, 253, 252)")
        tab.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 20_000
        assert not tab.complaints
        assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


def test_a_user_is_explained_on_the_terminal(hostile, capsys):
    report = explain_user(hostile.run, ExplainUserOptions(lake=hostile.lake.uri, user_id="u00", explain=2))
    output = capsys.readouterr().out
    assert report["adds_up"]
    assert set(report) == {"tables", "lists_of", "largest_error", "adds_up", PERSONAL}
    report = report[PERSONAL]
    assert [row["rank"] for row in report["list"]] == list(range(1, 7))
    stored = {row["item_id"]: row for row in hostile.rows() if row["user_id"] == "u00"}
    for row in report["list"]:
        assert row["score"] == stored[row["item_id"]]["score"]
        assert row["sum"] == pytest.approx(row["score"], abs=1e-5)
        assert [r["contribution"] for r in row["reasons"]] == [
            r["contribution"] for r in stored[row["item_id"]]["reasons"]
        ]
    assert "\x1b[2J" not in output
    assert "newest events" in output
    json.dumps(report)  # as its status is written


def test_days_are_those_of_utc_and_ids_are_no_markup(hostile, capsys, monkeypatch):
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        explain_user(hostile.run, ExplainUserOptions(lake=hostile.lake.uri, user_id="u00", explain=2))
    finally:
        monkeypatch.undo()
        time.tzset()
    output = capsys.readouterr()
    newest = hostile.lake.read(hostile.run.spark, EVENTS).where("user_id = 'u00'")
    days = {row.day for row in newest.selectExpr("date_format(timestamp, 'yyyy-MM-dd') AS day").collect()}
    assert any(day in output.out for day in days)
    with Progress().step("explain the list of user [/x] a[b]c"):
        pass
    assert "user [/x] a[b]c" in capsys.readouterr().err


def test_groups_of_a_few_users_have_no_gap():
    def group(name, users, ndcg):
        return {"slice": f"users: age: {name}", "users": users, "ndcg": ndcg, "ndcg_sd": 0.1 * (users > 1)}

    gaps = _gaps([group("one", 1, 0.9), group("young", 50, 0.3), group("old", 40, 0.2)], "ndcg", "Gaps")
    assert [row[1:3] for row in gaps.rows] == [["young", "old"]]
    assert _gaps([group("one", 1, 0.9), group("young", 50, 0.3)], "ndcg", "Gaps").rows == []


def test_a_user_without_a_list_is_an_error_that_says_so(hostile):
    with pytest.raises(InputError, match="has no list") as error:
        explain_user(hostile.run, ExplainUserOptions(lake=hostile.lake.uri, user_id="nobody"))
    assert "nobody" not in str(error.value)


def test_popularity_and_exposure_are_counted_together(spark):
    items = spark.createDataFrame([(i,) for i in "abcd"], "item_id string")
    events = spark.createDataFrame([(i,) for i in "aaab"], "item_id string")
    lists = spark.createDataFrame([(i,) for i in "bbcx"], "item_id string")
    rows = [tuple(row) for row in popularity(items, events, lists).collect()]
    assert rows == [(0, 0, 1), (0, 1, 1), (1, 2, 1), (3, 0, 1)]


def test_lengths_fall_between_a_power_of_two_and_the_next(spark):
    items = spark.createDataFrame(
        [("x" * n,) for n in (1, 2, 3, 4, 7, 8, 1023, 1024)] + [(None,), ("",)], "text string"
    )
    assert [tuple(row) for row in text_lengths(items).collect()] == [
        (1, 1),
        (2, 2),
        (4, 2),
        (8, 1),
        (512, 1),
        (1024, 1),
    ]
    events = spark.createDataFrame([("u",)] * 5 + [("v",)], "user_id string")
    assert [tuple(row) for row in history_lengths(events).collect()] == [(1, 1), (4, 1)]


def test_drift_compares_lists_user_by_user(spark):
    ddl = "user_id string, item_id string"
    now = spark.createDataFrame([("a", "1"), ("a", "2"), ("b", "1"), ("new", "1")], ddl)
    was = spark.createDataFrame([("a", "2"), ("a", "3"), ("b", "1"), ("lost", "9")], ddl)
    row = list_drift(now, was).collect()[0]
    assert row.asDict() == {"users": 2, "overlap": 0.75, "same": 1, "new_users": 1, "lost_users": 1}


def test_users_are_evaluated_as_evaluate_recommendations_does(hostile):
    world, weights = hostile, {"view": 1.0, "purchase": 3.0, "rating": 1.0}
    events, lists = (world.lake.read(world.spark, table) for table in (EVENTS, RECOMMENDATIONS))
    day, first = date(2024, 2, 1), lists.where("rank <= 4")
    users = evaluated_users(
        events, lists, popular_items(events, day), day, is_positive_event(weights, 4.0), 4
    ).collect()
    pairs = {(row["user_id"], item) for row in users for item in row["relevant"]}
    relevant = relevant_pairs(events, day, weights, 4.0)
    listed = {row["user_id"] for row in lists.collect()}
    assert pairs == {tuple(row) for row in relevant.collect() if row["user_id"] in listed}
    assert pairs
    popular = popularity_lists(events, lists, day, 4).collect()
    offered = {(row["user_id"], item, rank) for row in users for rank, item in enumerate(row["popular"], 1)}
    evaluated = {row["user_id"] for row in users}
    assert offered == {tuple(row) for row in popular if row["user_id"] in evaluated}
    pairs_listed = {(row["user_id"], item) for row in users for item in row["listed"]}
    assert pairs_listed == {(r["user_id"], r["item_id"]) for r in first.collect() if r["user_id"] in evaluated}
    counts = {row["user_id"]: sum(e[0] == row["user_id"] and e[3].date() < day for e in world.events) for row in users}
    assert {row["user_id"]: row["events"] for row in users} == counts


def test_slices_are_means_over_their_users(spark):
    metrics = spark.createDataFrame(
        [("a", "x", 1.0), ("b", "x", 0.0), ("c", "x", 0.5), ("a", "y", 0.0)],
        "user_id string, scorer string, ndcg double",
    )
    attributes = spark.createDataFrame(
        [("a", 6, ["age: 1", "sex: f"]), ("b", 0, ["age: 1"]), ("c", None, None)],
        "user_id string, events bigint, groups array<string>",
    )
    slices = metric_slices(metrics, attributes).collect()
    assert {(row["slice"], row["users"]) for row in slices if row["scorer"] == "y"} == {
        (name, 1) for name in ("all", "history: 5 to 20", "users: age: 1", "users: sex: f")
    }
    rows = {row["slice"]: row for row in slices if row["scorer"] == "x"}
    assert {name: (row["users"], row["ndcg"]) for name, row in rows.items()} == {
        "all": (3, 0.5),
        "history: 5 to 20": (1, 1.0),
        "history: none": (2, 0.25),
        "users: age: 1": (2, 0.5),
        "users: sex: f": (1, 1.0),
    }
    assert rows["all"]["ndcg_sd"] == pytest.approx(0.5)
    assert rows["users: sex: f"]["ndcg_sd"] == 0


def test_cells_are_formatted():
    values = [None, float("nan"), 0, 1234567, 0.123456, 12.3456, "a & b", True, Share(0.5143)]
    texts = ["–", "–", "0", "1,234,567", "0.1235", "12.35", "a & b", "True", "51.4 %"]
    assert [format_cell(value) for value in values] == texts
    text = render_page("<t>", "<l>", [Section("s", "<h>", [Note("<n>"), TableElement("<c>", ("<a>",), [["<b>"]])])])
    assert not re.search("<[tlhcn]>", text)
