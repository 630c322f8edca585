"""Keys that would change nothing are refused, each with a remedy."""

from datetime import date

import pytest

from recsys_spark.online.options import OnlineOptions

BASE = {"lake": "lake", "run_date": date(2024, 3, 1)}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mode": "off_policy", "salt": "x"}, "salt has no effect with mode=off_policy: it belongs to mode=mix or ab"),
        ({"mode": "ab", "salt": "x", "max_weight": 3.0}, "max_weight has no effect with mode=ab"),
        ({"mode": "power", "ratio_p_value": 0.5}, "ratio_p_value has no effect with mode=power"),
        ({"mode": "mix", "salt": "x", "other_lake": "b", "level": 0.9}, "level has no effect with mode=mix"),
        ({"mode": "off_policy", "impressions": "a.csv", "window_days": 2.0}, "impressions states what was shown"),
        ({"mode": "ab", "outcomes": "a.csv", "salt": "x"}, "salt has no effect with a file: outcomes states"),
        ({"mode": "off_policy", "max_bad_share": 0.5}, "max_bad_share needs a file"),
        ({"mode": "off_policy", "rewards": "r.csv"}, "rewards needs impressions"),
        ({"mode": "ab"}, "mode=ab needs a salt"),
        ({"mode": "mix", "salt": "x"}, "mode=mix needs other_lake"),
        ({"mode": "off_policy", "max_weight": 0.0}, "greater than 0"),
    ],
)
def test_a_key_without_an_effect_is_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        OnlineOptions(**BASE, **keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"mode": "off_policy", "impressions": "a.csv", "rewards": "r.csv", "max_bad_share": 0.2, "max_weight": 5.0},
        {"mode": "off_policy", "other_lake": "b", "window_days": 0.5},
        {"mode": "mix", "salt": "x", "other_lake": "b"},
        {"mode": "interleave"},
        {"mode": "ab", "outcomes": "a.csv", "treatment_share": 0.1},
        {"mode": "power", "effect": 0.02, "users": 100},
    ],
)
def test_keys_of_the_mode_are_taken(keys):
    assert OnlineOptions(**BASE, **keys).mode == keys["mode"]
