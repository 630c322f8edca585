"""One list of files is read, counted, and compared with the last run."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.errors import InputError
from recsys_spark.lake.paths import absolute
from recsys_spark.sources.dataset_file import Dataset
from recsys_spark.sources.files import is_hidden
from recsys_spark.sources.listings import list_sources
from recsys_spark.sources.reader import SourceReader

QUERY = {"from": "log", "select": {}}


def dataset_of(path, **more):
    source = {"path": path, "format": "text"} | more
    return Dataset.model_validate({"title": "t", "sources": {"log": source}, "items": QUERY, "events": QUERY})


def listed(folder, path, **more):
    listing = list_sources(dataset_of(path, **more), str(folder), lambda: pytest.fail("needs no Spark"))["log"]
    return [file.path.removeprefix(f"{folder}/") for file in listing.files]


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1", encoding="utf-8")
    return folder


NAMES = ("a.csv", "b.csv", "ab.csv", "a_2024-02-02.csv", "a.2.csv", "d/x.csv", "d/y.csv", "d/sub/x.csv", "e+1/z/w.csv",
         "dt=1/p.csv", "_SUCCESS", ".a.crc", "d/_tmp/q.csv", "a b.csv", "%20.csv", "a#1?.csv")  # fmt: skip
PATTERNS = ["*", "a*", "a*.csv", "?.csv", "[ab].csv", "[^a].csv", "[a-b]*.csv", "{a,b}*", "d/*", "*/{x,y}.csv", "d",
            "{a.csv,d/x.csv}", "e*/z", "d*", "a?b.csv", "*.csv", "dt=*", "a b.csv", "[%]20.csv", "a#*", "*/*/*",
            "d/sub/x.csv"]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_finds_what_spark_would_read(pattern, tmp_path, spark):
    fill(tmp_path, NAMES)
    assert listed(tmp_path, pattern) == of_spark(spark, tmp_path, pattern)
    assert listed(tmp_path, pattern)


def of_spark(spark, folder, pattern):
    """The files that Spark itself reads for a pattern, subfolders included. Hidden folders are left out: Spark reads
    those of an unfinished job if the pattern names them."""
    frame = spark.read.option("recursiveFileLookup", "true").text(f"{folder}/{pattern}")
    rows = frame.select("_metadata.file_path").distinct().collect()
    uris = (spark._jvm.java.net.URI(row.file_path).getPath() for row in rows)
    names = sorted(path.removeprefix(f"{folder}/") for path in uris)
    return [name for name in names if not any(map(is_hidden, name.split("/")))]


_WORD = st.text("ab_.-= ", min_size=1, max_size=3).filter(lambda name: name.strip(". ") and not name.startswith(" "))
_FILES = st.lists(st.lists(_WORD, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True)
_PART = st.sampled_from(["*", "a*", "*b", "?", "??", "[ab]*", "[^a]*", "{a,b}*", "a", "b", "*=*", "a_*", "a.*", "*.b"])


@settings(max_examples=25, deadline=None)
@given(names=_FILES, pattern=st.lists(_PART, min_size=1, max_size=3).map("/".join))
def test_any_pattern_finds_what_spark_would_read(names, pattern, spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name in names:
        try:
            fill(folder, [name])
        except OSError:  # a file of the name of a folder
            continue
    try:
        files = listed(folder, pattern)
    except InputError:
        files = []
    try:
        expected = of_spark(spark, folder, pattern)
    except Exception:  # Spark finds nothing
        expected = []
    assert files == expected


def test_names_after_a_letter_of_the_pattern_are_no_markers(tmp_path):
    fill(tmp_path, ["clicks_2024-02-02.csv", "clicks.2.csv", "clicks.csv"])
    assert listed(tmp_path, "clicks*.csv") == ["clicks.2.csv", "clicks.csv", "clicks_2024-02-02.csv"]


def test_a_data_folder_below_a_hidden_one_hides_nothing(tmp_path):
    folder = fill(tmp_path / ".x", ["a.csv", "_b.csv"])
    assert listed(folder, "*.csv") == listed(absolute(f"file://{folder}"), "*.csv") == ["a.csv"]


@pytest.mark.parametrize("name", ["shop [eu]", "a{b}", "50%20", "x#y?", "a*b", "~x", "a b"])
def test_a_data_folder_may_have_any_name(name, tmp_path, spark):
    folder = fill(tmp_path / name, ["log/dt=1/a [1].csv", "log/dt=1/b.csv", "log/dt=1/_x.csv"])
    for number, file in enumerate(("a [1]", "b")):
        (folder / f"log/dt=1/{file}.csv").write_text(f"x\n{7 + number}\n", encoding="utf-8")
    for path in ("log", "log/*/*.csv", "log/dt=1/a [[]1].csv", "log/dt=1/a [1].csv"):
        dataset = dataset_of(path, format="csv", options={"header": True})
        listing = list_sources(dataset, str(folder), lambda: spark)["log"]
        frame = SourceReader(spark, str(folder)).read("log", dataset.sources["log"], listing)
        both = ["7"] if "1].csv" in path else ["7", "8"]
        assert sorted(row.x for row in frame.collect()) == both, path
        assert ("dt" in frame.columns) == (path == "log")


@pytest.mark.parametrize(
    ("names", "path", "message"),
    [
        ([], "log.csv", "does not exist"),
        ([], "*.csv", "no file matches"),
        (["_log.csv"], "*.csv", "begin with '.' or '_', such as"),
        (["log/.a", "log/_b"], "log", "rename them"),
        (["log/_delta_log/0.json", "log/a.parquet"], "log", "is a Delta table"),
        (["log/_delta_log/0.json", "log/a.parquet"], "log/*", 'set format = "delta"'),
        (["log/metadata/v1.metadata.json", "log/data/a.parquet"], "log", "is an Iceberg table"),
        (["log/.hoodie/x", "log/a.parquet"], "log", "is a Hudi table"),
    ],
)
def test_an_unreadable_source_is_refused_with_a_reason(names, path, message, tmp_path):
    with pytest.raises(InputError, match="source 'log'") as error:
        listed(fill(tmp_path, names), path)
    assert message in str(error.value)


def test_uncommitted_files_of_a_stream_are_not_read(tmp_path):
    fill(tmp_path, ["log/a.json", "log/b.json", "log/late.json", "log/_spark_metadata/0", "log/_spark_metadata/1"])
    for number, name in enumerate("ab"):
        entry = {"path": f"file://{tmp_path}/log/{name}.json", "action": "add"}
        (tmp_path / f"log/_spark_metadata/{number}").write_text("v1\n" + json.dumps(entry), encoding="utf-8")
    assert listed(tmp_path, "log") == ["log/a.json", "log/b.json"]
