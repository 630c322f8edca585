"""Metadata of commits: to JSON and back, under the keys that lakes of earlier releases have."""

import json
from datetime import date

import hypothesis.strategies as st
from hypothesis import given

from recsys_spark.lake.provenance import (
    ChangeRecord,
    EventLogRecord,
    Outcome,
    Provenance,
    RewriteRecord,
    from_json,
    to_json,
)

FULL = Provenance.of(
    inputs={"events": "3-0f"},
    run_date=date(2018, 1, 1),
    versions={"events": 3},
    identities={"events": "a-b"},
    weights={"rating_center": 3.0},
    history={"max_events": None},
    ignored={"weight": -0.1},
    user_text_weight=0.5,
    segment_weight=0.0,
    feature_blocks={"text": 1.0},
    scorer="hybrid",
    interests=2,
    diversity=0.0,
    event_log=EventLogRecord([["a.csv", 3, 5]], "2018-01-01", {"query": "q"}, 4, 1.5),
    reviewed={"events": 7},
    forgotten="2-1",
    tombstone_key="abc",
    k=10,
    min_score=None,
)
OUTCOME = Outcome(
    {"rows": 3.0}, ["rows: 1 → 9"], ChangeRecord("all", 3, {"added": 3}, "2018-01-01"), RewriteRecord(4, ["x"]),
    {"items": 2}, {"price": [1, 2]}, {"recall": 0.99},
)  # fmt: skip


def stored(provenance, outcome):
    return json.loads(json.dumps(to_json(provenance, outcome), sort_keys=True))


def test_provenance_and_outcome_come_back_from_a_commit():
    assert from_json(stored(FULL, OUTCOME)) == (FULL, OUTCOME)
    assert from_json({}) == (Provenance(), Outcome())


def test_the_keys_of_a_commit_are_those_of_earlier_releases():
    content = stored(FULL, OUTCOME)
    assert set(content) == {
        "inputs", "run_date", "versions", "identities", "weights", "history", "ignored", "user_text_weight",
        "segment_weight", "blocks", "scorer", "interests", "diversity", "log", "judged", "forgotten", "key", "k",
        "min_score", "about",
    }  # fmt: skip
    assert set(content["log"]) == {"files", "run_date", "query", "table_files", "late"}
    assert set(content["about"]) == {"figures", "accepted_drift", "changes", "renewed", "fitted", "losses", "recall"}
    assert set(content["about"]["changes"]) == {"made", "rows", "kinds", "run_date"}
    assert set(content["about"]["renewed"]) == {"of", "files"}


def test_an_evaluation_of_an_earlier_release_has_its_figures_beside_its_provenance():
    assert from_json({"figures": {"k": 10}})[1] == Outcome(figures={"k": 10})


def test_merged_outcomes_take_the_values_of_the_second():
    merged = Outcome(figures={"a": 1}, fitted={"items": 1}, more={"x": 1, "y": 1}) | Outcome(
        figures={"a": 2}, more={"y": 2}
    )
    assert merged == Outcome(figures={"a": 2}, fitted={"items": 1}, more={"x": 1, "y": 2})


def test_other_settings_ignores_inputs_and_run_date():
    other_inputs = Provenance.of(inputs={"events": "9-9"}, run_date=date(2019, 1, 1), k=10, scorer="cosine")
    same = Provenance.of(inputs={"events": "1-1"}, versions={"events": 1}, k=10, scorer="cosine")
    assert other_inputs.other_settings(same) is None
    assert Provenance.of(k=11).other_settings(Provenance.of(k=10)) == "k was 10, is 11"
    assert Provenance.of(scorer="hybrid").other_settings(Provenance()) == "scorer was None, is hybrid"


def test_records_of_a_later_release_are_read_without_its_fields():
    content = stored(FULL, OUTCOME)
    content["about"]["changes"]["seconds"] = content["about"]["renewed"]["bytes"] = 7
    assert from_json(content) == (FULL, OUTCOME)


@given(st.dictionaries(st.text(min_size=1), st.none() | st.integers() | st.text(), max_size=4))
def test_unknown_keys_of_a_later_release_are_kept(settings):
    fields = set(Provenance.of().__dict__) | {"blocks", "log", "judged", "key", "about", "figures", "settings"}
    settings = {name: value for name, value in settings.items() if name not in fields}
    assert stored(*from_json(settings)) == {**settings, "about": {}}
