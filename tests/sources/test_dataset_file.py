"""Dataset files: the shipped ones load, a wrong one is refused with every fault."""

from datetime import date

import pytest

from recsys_spark.errors import InputError, UsageError
from recsys_spark.sources.dataset_file import load_dataset
from recsys_spark.sources.queries import fields_of
from tests.conftest import ROOT

SHIPPED = sorted(path.stem for path in (ROOT / "conf" / "datasets").glob("*.toml"))
GOOD = """
title = "Shop"
[sources.log]
path = "log.csv"
options = { header = true }
[items]
from = "log"
select = { item_id = "sku" }
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "what", timestamp = "at" }
"""


@pytest.fixture
def dataset_file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def complaint(name):
    with pytest.raises(UsageError) as caught:
        load_dataset(name)
    return str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_dataset_file_loads(name):
    dataset = load_dataset(name)
    assert dataset.title
    assert {"user_id", "item_id", "event_type", "timestamp"} <= set(dataset.events.select)
    for table in filter(None, (dataset.items, dataset.users)):
        assert set(fields_of(table.text)) <= set(table.select)


def test_there_are_shipped_dataset_files():
    assert "movielens_small" in SHIPPED


def test_a_dataset_file_of_ones_own_is_named_by_its_path(dataset_file):
    dataset = load_dataset(dataset_file(GOOD))
    assert dataset.title == "Shop"
    assert (dataset.events.earliest, dataset.events.latest) == (date(1990, 1, 1), "run_date")
    assert dataset.users is None
    assert dataset.sources["log"].format == "csv"


def test_an_unknown_dataset_is_answered_with_the_nearest_and_all_known():
    message = complaint("movielens_smal")
    assert "unknown dataset 'movielens_smal'; did you mean 'movielens_small'?" in message
    for name in SHIPPED:
        assert name in message


def test_a_name_like_no_other_gets_no_guess():
    message = complaint("zzzz")
    assert "unknown dataset 'zzzz' (known: " in message
    assert "did you mean" not in message


def test_a_dataset_path_that_does_not_exist_is_a_missing_input(tmp_path):
    with pytest.raises(InputError, match="absent.toml does not exist"):
        load_dataset(str(tmp_path / "absent.toml"))


def test_all_faults_of_a_dataset_file_are_named_at_once(dataset_file):
    wrong = GOOD.replace('title = "Shop"', 'titel = "Shop"').replace('path = "log.csv"', 'path = "log.csv"\nsep = ","')
    wrong = wrong.replace('[items]\nfrom = "log"', "[items]") + 'latest = "tomorrow"\n'
    message = complaint(dataset_file(wrong))
    assert "mine.toml" in message
    for key in ("title", "titel", "sources.log.sep", "items.from", "events.latest"):
        assert f"- {key}" in message


@pytest.mark.parametrize("section", ["[sources.log]", "[items]", "[events]"])
def test_a_missing_section_is_named(section, dataset_file):
    message = complaint(dataset_file(GOOD.replace(section, "[users]" if section == "[items]" else "[other]")))
    assert section.strip("[]").partition(".")[0] in message


@pytest.mark.parametrize("content", ["title = ", "[items\n", "title = 'a'\ntitle = 'b'"])
def test_a_dataset_file_that_is_not_toml_is_named(content, dataset_file):
    assert "mine.toml is not TOML" in complaint(dataset_file(content))


def test_a_dataset_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(GOOD.replace("Shop", "Käse").encode("latin-1"))
    assert "mine.toml is not TOML" in complaint(str(path))


# --- sources that are tables ---


def with_source(text):
    return GOOD.replace('path = "log.csv"\noptions = { header = true }', text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('path = "log"', "data/log"),
        ('path = "log"\nformat = "delta"\nversion = 0\npartitions = ["day > 1"]', "data/log"),
        ('format = "iceberg"\ncatalog = "lake"\ntable = "shop.log"', "lake.shop.log"),
        ('format = "iceberg"\npath = "log/v3.metadata.json"', "data/log/v3.metadata.json"),
        ('table = "main.shop.log"', "main.shop.log"),
        ('format = "postgres"\ntable = "shop.log"', "shop.log"),
    ],
)
def test_a_source_is_a_path_or_a_table(text, place, dataset_file):
    assert load_dataset(dataset_file(with_source(text))).sources["log"].place("data") == place


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", 'format = "csv" needs path, and has none'),
        ('format = "delta"\ntable = "log"', 'format = "delta" needs path, and has none'),
        ('format = "iceberg"\npath = "x"\ntable = "log"', 'format = "iceberg" needs path or table, and has both'),
        ('format = "iceberg"\npath = "x"\ncatalog = "y"', "catalog needs the name of a table in place of a path"),
        ('path = "log"\nversion = 3', 'format = "csv" needs path, and does not take version'),
        ('table = "log"\npath = "x"', 'format = "table" needs table, and does not take path'),
    ],
)
def test_keys_that_do_not_fit_the_format_of_a_source_are_faults(text, fault, dataset_file):
    assert f"sources.log: {fault}" in complaint(dataset_file(with_source(text)))


def test_the_keys_of_tables_leave_the_run_keys_of_files_as_they_were(dataset_file):
    stored = load_dataset(dataset_file(GOOD)).model_dump(mode="json")["sources"]
    assert stored == {"log": {"path": "log.csv", "format": "csv", "options": {"header": True}, "schema_": None}}
