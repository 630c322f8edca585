"""A preset that does not fit the events."""

import logging

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.events.options import HistoryOptions
from recsys_spark.events.steps import check_event_types as step
from recsys_spark.runtime.presets import preset_values


def given(preset, **more):
    named = {name: value for name, value in preset_values(preset).items() if name in HistoryOptions.model_fields}
    return HistoryOptions(lake="l", run_date="2024-03-01", preset=preset, **named | more)


def test_types_that_never_occur_are_named(caplog):
    with caplog.at_level(logging.WARNING):
        step._check_preset({"play", "skip"}, given("music"))
    assert "preset 'music' weighs dislike, like, which never occurs" in caplog.text


def test_events_without_a_type_that_counts_for_an_item_are_refused():
    with pytest.raises(UsageError, match="preset 'music' does not fit: .* like, play, none occurs .* which has skip"):
        step._check_preset({"skip"}, given("music"))


def test_weights_of_ones_own_are_not_those_of_the_preset(caplog):
    step._check_preset({"skip"}, given("music", event_weights={"skip": -1.0, "view": 1.0}))
    assert not caplog.text
