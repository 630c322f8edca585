"""Configuration of jobs: precedence of sources, all faults at once, help from the same model."""

import os
from datetime import date

import pytest
from pydantic import ValidationError

from recsys_spark.encode.options import EncoderOptions
from recsys_spark.errors import UsageError
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.recommend.options import RecommendOptions, TopKOptions
from recsys_spark.runtime.config import load
from recsys_spark.runtime.help import help_text, sections, toml_text
from recsys_spark.sources.dataset_file import load_dataset
from recsys_spark.topk.options import JoinOptions
from tests.conftest import ROOT
from tests.write_toml import job_of

JOBS = sorted((ROOT / "jobs").glob("*.py"))
NEEDED = ["--lake=/tmp/lake", "--run_date=2024-03-01"]


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def toml(tmp_path):
    def write(text: str):
        path = tmp_path / "recommend_items.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def config_of(script):
    return job_of(script).options


def complaint(options, argv, toml=None):
    with pytest.raises(UsageError) as caught:
        load(options, "some_job", argv, toml)
    return str(caught.value)


@pytest.mark.parametrize(
    ("in_toml", "in_environment", "on_command_line", "expected"),
    [
        (None, None, None, 10),
        (20, None, None, 20),
        (20, "30", None, 30),
        (20, "30", "40", 40),
        (20, None, "40", 40),
        (None, "30", None, 30),
        (None, "30", "40", 40),
        (20, "", None, 20),  # a variable that is set to nothing is not set
    ],
)
def test_each_source_overrides_the_one_before_it(in_toml, in_environment, on_command_line, expected, toml, monkeypatch):
    if in_environment is not None:
        monkeypatch.setenv("RECSYS_K", in_environment)
    path = toml(f"k = {in_toml}") if in_toml else None
    argv = NEEDED + ([f"--k={on_command_line}"] if on_command_line else [])
    assert load(TopKOptions, "recommend_items", argv, path).k == expected


def test_sources_complete_each_other(toml, monkeypatch):
    monkeypatch.setenv("RECSYS_RUN_DATE", "2024-03-01")
    config = load(TopKOptions, "recommend_items", ["--lake=/tmp/lake"], toml("k = 3\ntasks = 5"))
    assert (config.lake, config.run_date, config.k, config.tasks) == ("/tmp/lake", date(2024, 3, 1), 3, 5)


def test_config_names_another_toml_file(toml, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("k = 7", encoding="utf-8")
    config = load(TopKOptions, "recommend_items", [*NEEDED, f"--config={other}"], toml("k = 3\ntasks = 5"))
    assert (config.k, config.tasks) == (7, None)


def test_a_stray_variable_of_another_job_or_of_the_set_up_is_no_fault(monkeypatch):
    for name in ("RECSYS_POOLING", "RECSYS_PYTHON", "RECSYS_TORCH"):
        monkeypatch.setenv(name, "whatever")
    assert load(TopKOptions, "recommend_items", NEEDED, None).k == 10


def test_all_faults_are_reported_at_once(toml, monkeypatch):
    monkeypatch.setenv("RECSYS_TASKS", "many")
    path = toml('user_blok_rows = 5\nitem_block_rows = "wide"')
    argv = ["--k=0", "--rundate=2024-03-01", "--zzzzzz=1", "--dry_run=perhaps", "plain", "--seed=1", "--seed=2"]
    message = complaint(TopKOptions, argv, path)
    for part in (
        "some_job: 12 fault(s)",
        f"unknown key 'user_blok_rows' ({path}); did you mean 'user_block_rows'?",
        f"item_block_rows ({path})",
        "tasks (environment)",
        "'many'",
        "k (command line)",
        "unknown key 'rundate' (command line); did you mean 'run_date'?",
        "unknown key 'zzzzzz' (command line)\n",
        "dry_run (command line)",
        "--lake is missing: folder or URI of the lake",
        "--run_date is missing",
        "'plain' is not of the form --key=value",
        "--seed is given twice",
        "some_job --help",
    ):
        assert part in message


@pytest.mark.parametrize("argument", ["k=3", "-k=3", "--", "--=3", "3"])
def test_an_argument_that_is_not_key_value_is_refused_with_the_right_form(argument):
    assert f"'{argument}' is not of the form --key=value" in complaint(TopKOptions, [*NEEDED, argument])


def test_a_key_without_a_value_is_a_switch_and_nothing_else():
    assert load(TopKOptions, "recommend_items", [*NEEDED, "--dry_run"], None).dry_run is True
    assert "run_date (command line)" in complaint(TopKOptions, ["--lake=/tmp/lake", "--run_date"])
    assert "lake (command line)" in complaint(TopKOptions, ["--lake", "--run_date=2024-03-01"])
    assert "--config needs a file" in complaint(TopKOptions, [*NEEDED, "--config"])
    message = complaint(TopKOptions, [*NEEDED, "--k", "--min_score", "--event_weights"])
    for key in ("k", "min_score", "event_weights"):  # True is a number to pydantic, and to Python
        assert f"{key} (command line): needs a value, --{key}=…" in message


def test_shipped_files_are_read_from_the_working_folder_of_the_driver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text("k = 7\n", encoding="utf-8")
    assert load(TopKOptions, "recommend_items", [*NEEDED, "--config=/home/me/my.toml"], None).k == 7
    (tmp_path / "shop.toml").write_text("title = 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="dataset file shop.toml has"):
        load_dataset("/home/me/shop.toml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"k = ", "is not TOML"), (b"k = 1\nk = 2", "is not TOML"), (b"k = '\xff'", "is not TOML")],
)
def test_a_broken_toml_file_is_named(content, expected, tmp_path):
    path = tmp_path / "recommend_items.toml"
    path.write_bytes(content)
    message = complaint(TopKOptions, NEEDED, path)
    assert str(path) in message
    assert expected in message


def test_a_missing_toml_file_is_named_beside_the_other_faults(tmp_path):
    path = tmp_path / "absent.toml"
    message = complaint(TopKOptions, ["--lake=x", f"--config={path}"])
    assert f"{path}: No such file" in message
    assert "--run_date is missing" in message
    assert f"{tmp_path}: Is a directory" in complaint(TopKOptions, [*NEEDED, f"--config={tmp_path}"])


@pytest.mark.parametrize("source", ["toml", "environment", "command line"])
def test_weights_are_a_toml_table_or_json(source, toml, monkeypatch):
    path, argv = None, list(NEEDED)
    if source == "toml":
        path = toml("event_weights = { purchase = 3, cancel = -3.5 }")
    elif source == "environment":
        monkeypatch.setenv("RECSYS_EVENT_WEIGHTS", '{"purchase": 3, "cancel": -3.5}')
    else:
        argv.append('--event_weights={"purchase": 3, "cancel": -3.5}')
    assert load(ProfileOptions, "build_profiles", argv, path).event_weights == {"purchase": 3.0, "cancel": -3.5}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{purchase: 3}", "not JSON"),
        ('{"purchase": "much"}', "event_weights.purchase (command line)"),
        ("[1, 2]", "event_weights (command line)"),
        ("3", "event_weights (command line)"),
        ('{"purchase": NaN}', "finite number"),
        ('{"purchase": 1e999}', "finite number"),
    ],
)
def test_wrong_weights_are_refused_with_their_source(value, expected):
    assert expected in complaint(ProfileOptions, [*NEEDED, f"--event_weights={value}"])


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        (TopKOptions, "--k=ten"),
        (TopKOptions, "--k=2.5"),
        (TopKOptions, "--k=-1"),
        (TopKOptions, "--tasks=0"),
        (TopKOptions, "--run_date=01.03.2024"),
        (TopKOptions, "--run_date=2024-02-30"),
        (IngestOptions, "--max_bad_share=1.5"),
        (IngestOptions, "--max_bad_share=nan"),
        (ProfileOptions, "--half_life_days=-1"),
        (ProfileOptions, "--half_life_steps=0"),
        (ProfileOptions, "--max_events=0"),
        (ProfileOptions, "--half_life_days=inf"),
        (EncoderOptions, "--pooling=most"),
    ],
)
def test_values_out_of_range_are_refused_by_key_source_and_value(options, argument):
    key, _, value = argument.removeprefix("--").partition("=")
    message = complaint(options, ["--lake=x", argument])
    assert f"{key} (command line)" in message
    assert value in message


def test_a_loaded_configuration_is_frozen():
    config = load(TopKOptions, "recommend_items", NEEDED, None)
    with pytest.raises(ValidationError, match="frozen"):
        config.k = 5


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_lists_every_key_of_the_job(job):
    config = config_of(job)
    text = help_text(config, job.stem, "What it does.")
    assert text.startswith(f"./spark-submit.sh {job.stem}")
    assert "What it does." in text
    for name, field in config.model_fields.items():
        assert f"  --{name}=…\n" in text
        assert field.description in text
        assert not field.is_required() or f"{field.description} (required)" in text
    assert "--config=…" in text
    assert "default < TOML file < environment (RECSYS_<KEY>) < --key=value" in text


def test_keys_are_shown_by_section_required_ones_first_and_rarely_used_ones_last():
    by_title = sections(RecommendOptions)
    titles = list(by_title)
    assert titles[0] == "Required"
    assert list(by_title["Required"]) == ["lake", "run_date"]
    assert titles[1] == "Scorer"
    assert titles[-4:] == ["Approximate search", "Exploration", "Drift from the last version", "Every job"]
    assert sum(map(len, by_title.values())) == len(RecommendOptions.model_fields)
    lines = toml_text(RecommendOptions, "Lists.\n\nOf users.").splitlines()
    assert lines[:4] == ["# Lists.", "#", "# Of users.", lines[3]]
    assert "# lake = (required)" in lines
    assert "# min_score = (none)" in lines
    assert "user_block_rows = 16_384" in lines


@pytest.mark.parametrize("source", ["toml", "environment", "command line"])
def test_an_old_key_still_works_with_a_warning_that_names_the_new_one(source, toml, monkeypatch, caplog):
    path, argv = None, [*NEEDED, "--approximate=true"]
    if source == "toml":
        path = toml("lists = 7")
    elif source == "environment":
        monkeypatch.setenv("RECSYS_LISTS", "7")
    else:
        argv.append("--lists=7")
    assert load(RecommendOptions, "recommend_items", argv, path).clusters == 7
    assert "'lists'" in caplog.text
    assert "is now 'clusters'" in caplog.text


def test_an_old_key_beside_its_new_name_is_a_fault_and_a_wrong_value_names_the_new_one(caplog):
    message = complaint(RecommendOptions, [*NEEDED, "--approximate", "--lists=7", "--clusters=7"])
    assert "'lists' and 'clusters' (command line) are the same key" in message
    assert "clusters (command line)" in complaint(RecommendOptions, [*NEEDED, "--approximate", "--lists=many"])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["--scorer=cosine", "--half_life_days=30"], "half_life_days belongs to build_profiles"),
        (["--scorer=cosine", "--sif=0.001", "--max_events=9"], "max_events belongs to build_profiles"),
        (["--nprobe=3"], "nprobe needs approximate=true"),
        (["--diversify_from=3"], "diversify_from needs diversity"),
        (["--quota_on=category", "--scorer=hybrid"], "quota_on needs a quota"),
    ],
)
def test_a_key_without_an_effect_is_refused_with_its_reason(keys, expected):
    message = complaint(RecommendOptions, [*NEEDED, *keys])
    assert "keys without an effect" in message
    assert expected in message


def test_keys_that_have_an_effect_or_their_default_are_accepted():
    load(RecommendOptions, "recommend_items", [*NEEDED, "--scorer=hybrid", "--half_life_days=30"], None)
    load(RecommendOptions, "recommend_items", [*NEEDED, "--rating_center=3"], None)
    load(RecommendOptions, "recommend_items", [*NEEDED, "--approximate", "--nprobe=3"], None)


def test_a_step_of_a_larger_job_gets_its_own_keys():
    whole = load(RecommendOptions, "recommend_items", [*NEEDED, "--k=3"], None)
    part = whole.part(JoinOptions)
    assert type(part) is JoinOptions
    assert (part.k, part.lake) == (3, "/tmp/lake")
    assert not hasattr(part, "run_date")


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_every_shipped_toml_file_loads_and_states_the_defaults(job):
    config = config_of(job)
    needed = {
        "lake": "x",
        "run_date": "2024-03-01",
        "dataset": "movielens_small",
        "data": "x",
        "user_id": "u",
        "output": "x",
        "to": "folder",
        "folder": "x",
        "mode": "power",
        "epsilon": "1",
        "output_lake": "y",
        "attack": "random",
        "dialect": "duckdb",
    }
    argv = [f"--{key}={value}" for key, value in needed.items() if key in config.model_fields]
    path = ROOT / "conf" / f"{job.stem}.toml"
    assert path.is_file()
    assert load(config, job.stem, argv, path) == load(config, job.stem, argv, None)
