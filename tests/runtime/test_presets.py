"""Presets: below every key that is set, above the defaults that the shipped files list."""

import os
import re
import tomllib

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.recommend.options import RecommendOptions
from recsys_spark.refresh.steps.refresh_lake import RefreshOptions
from recsys_spark.runtime.config import load
from recsys_spark.runtime.presets import KEYS
from tests.conftest import ROOT

PRESETS = sorted((ROOT / "conf" / "presets").glob("*.toml"))

NEEDED = ["--lake=/tmp/lake", "--run_date=2024-03-01"]

REFRESH = [*NEEDED, "--data=/tmp"]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        monkeypatch.delenv(name)


def loaded(*arguments, toml=None, options=RecommendOptions, job="recommend_items"):
    return load(options, job, [*NEEDED, *arguments], toml)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_applies_to_the_jobs_that_have_its_keys(path):
    wanted = tomllib.loads(path.read_text(encoding="utf-8"))
    toml = ROOT / "conf" / "refresh_lake.toml"
    config = load(RefreshOptions, "refresh_lake", [*REFRESH, "--dataset=movielens_100k", f"--preset={path.stem}"], toml)
    assert {name: getattr(config, name) for name in wanted} == wanted
    default = load(RefreshOptions, "refresh_lake", [*REFRESH, "--dataset=movielens_100k"], toml)
    assert {name for name, value in wanted.items() if getattr(default, name) != value} > {"event_weights"}
    assert loaded("--scorer=cosine", f"--preset={path.stem}").preset == path.stem, "keys without an effect are no fault"
    page = (ROOT / "conf" / "README.md").read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| \[`{path.stem}`\].*", page, re.MULTILINE)
    assert all(f"`{name}" in row for name in wanted if name not in ("event_weights", "metrics_k"))


def test_presets_set_keys_of_a_refresh_only():
    assert {*RefreshOptions.model_fields} >= KEYS
    assert {path.stem for path in PRESETS} == {"news", "video", "music", "social", "games", "shop", "courses"}


def test_every_key_that_is_set_goes_before_the_preset(tmp_path, monkeypatch):
    shipped = ROOT / "conf" / "recommend_items.toml"
    assert loaded("--preset=music", toml=shipped).repeats == "allow"
    assert loaded("--preset=music", "--repeats=auto", toml=shipped).repeats == "auto", "even if it is the default"
    edited = tmp_path / "edited.toml"
    edited.write_text('repeats = "mask"\nquota = 2\n', encoding="utf-8")
    config = loaded("--preset=music", toml=edited)
    assert (config.repeats, config.quota, config.half_life_days) == ("mask", 2, 60.0)
    monkeypatch.setenv("RECSYS_QUOTA", "7")
    monkeypatch.setenv("RECSYS_PRESET", "music")
    assert loaded(toml=shipped).quota == 7


def test_a_dataset_file_names_its_preset(tmp_path):
    text = (ROOT / "conf" / "datasets" / "movielens_100k.toml").read_text(encoding="utf-8")
    dataset = tmp_path / "films.toml"
    dataset.write_text('preset = "games"\n' + text, encoding="utf-8")

    def refresh(*more):
        return load(RefreshOptions, "refresh_lake", [*REFRESH, f"--dataset={dataset}", *more], None)

    assert (refresh().preset, refresh().half_life_days) == ("games", 720.0)
    assert refresh("--preset=courses").half_life_days == 365.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("newz", None, "unknown preset 'newz'; did you mean 'news'?"),
        (
            "own.toml",
            "half_life_dayz = 3",
            "sets half_life_dayz, which a preset cannot set; did you mean half_life_days?",
        ),
        ("own.toml", "lake = '/'", "sets lake, which a preset cannot set"),
        ("own.toml", "k = ", "own.toml is not TOML"),
        ("own.toml", "half_life_days = -1", "half_life_days (preset"),
        ("none.toml", None, "none.toml does not exist"),
    ],
)
def test_a_wrong_preset_is_named(tmp_path, name, text, message):
    path = tmp_path / name
    if text:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        loaded(f"--preset={path if name.endswith('.toml') else name}")
    assert message in str(raised.value)
