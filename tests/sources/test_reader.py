"""Files as real systems write them: headers that move, quotes, encodings, whole JSON documents, types that change."""

import gzip
import json
from datetime import date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import InputError, RecsysError, UsageError
from recsys_spark.sources.dataset_file import Dataset, TableQuery
from recsys_spark.sources.listing import Part
from recsys_spark.sources.listings import list_sources
from recsys_spark.sources.queries import is_row_by_row, query, register
from recsys_spark.sources.reader import CORRUPT, SourceReader, malformed, well_formed

QUERY = {"from": "log", "select": {}}
HEADER = {"header": True}


@pytest.fixture
def read(tmp_path, spark):
    """Read the folder ``log`` as a dataset file says; the rows as dictionaries without nulls, sorted."""

    def frame(path="log", only=None, name="log", **source):
        source = {"path": path, "format": "csv"} | source
        dataset = Dataset.model_validate({"title": "t", "sources": {name: source}, "items": QUERY, "events": QUERY})
        listing = list_sources(dataset, str(tmp_path), lambda: spark)[name]
        part = None
        if only is not None:
            part = Part("", None, [file.path for file in listing.files if file.path.endswith(only)] if only else [])
        return SourceReader(spark, str(tmp_path)).read(name, dataset.sources[name], listing, part)

    def rows(*arguments, **more):
        parsed = well_formed(frame(*arguments, **more)).collect()
        present = ({k: v for k, v in row.asDict().items() if v is not None} for row in parsed)
        return sorted(present, key=str)

    rows.frame = frame
    (tmp_path / "log").mkdir()
    return rows


@pytest.fixture
def write(tmp_path):
    def put(name, content, encoding="utf-8"):
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode(encoding) if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)

    return put


def put_parquet(tmp_path, name, **columns):
    path = tmp_path / "log" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


# --- CSV ---


def test_columns_are_read_by_their_names_in_every_file(read, write):
    write("1.csv", "user,sku,at\nu1,a1,d1\n")
    write("2.csv", "at,user,sku\nd2,u2,a2\n")
    write("3.csv.gz", "\ufeffuser,sku,at,amount\r\nu3,a3,d3,9\r\n")
    write("4.csv", "user,sku\nu4,a4\n")
    write("5.csv", "")
    expected = [
        {"user": "u1", "sku": "a1", "at": "d1"},
        {"user": "u2", "sku": "a2", "at": "d2"},
        {"user": "u3", "sku": "a3", "at": "d3", "amount": "9"},
        {"user": "u4", "sku": "a4"},
    ]
    by_user = {row["user"]: row for row in read(options=HEADER)}
    assert [by_user[f"u{n}"] for n in range(1, 5)] == expected
    assert read(options=HEADER, only=("2.csv",)) == [expected[1]]
    frame = read.frame(options=HEADER, only=("4.csv",))
    assert {"at", "amount"} <= set(frame.columns), "a part of the files has the columns of all"
    assert read.frame(options=HEADER, only=()).collect() == []


def test_a_schema_goes_by_names_too(read, write):
    write("1.csv", "sku,amount,user\na1,1,u1\n")
    write("2.csv", "user,sku\nu2,a2\n")
    schema = "user string, sku string, amount int"
    assert read(options=HEADER, schema=schema) == [
        {"sku": "a1", "amount": 1, "user": "u1"},
        {"user": "u2", "sku": "a2"},
    ]
    with pytest.raises(UsageError, match=r"schema names itm, which no file of log has. Columns there: sku, amount"):
        read(options=HEADER, schema="user string, itm string")


def test_a_column_without_a_name_and_one_that_comes_twice_are_no_obstacle(read, write):
    write("1.csv", ",sku,name,name\n0,a1,pot,pan\n")
    [row] = read(options=HEADER)
    assert row["sku"] == "a1"
    assert "pot" in row.values()
    assert "pan" in row.values()


DOUBLED = 'sku,name,about\na1,"12"" pot","the ""best"", and last"\na2,"ends with \\",x\n'
BACKSLASH = 'sku,name,about\na1,"12\\" pot","the \\"best\\", and last"\na2,plain,x\n'


@pytest.mark.parametrize(("text", "second"), [(DOUBLED, "ends with \\"), (BACKSLASH, "plain")])
def test_quotes_within_quotes_are_read_as_they_are_written(text, second, read, write):
    write("1.csv", text)
    assert read(options=HEADER) == [
        {"sku": "a1", "name": '12" pot', "about": 'the "best", and last'},
        {"sku": "a2", "name": second, "about": "x"},
    ]


def test_both_ways_of_quoting_may_lie_side_by_side(read, write):
    write("1.csv", DOUBLED)
    write("2.csv", BACKSLASH)
    assert [row["about"] for row in read(options=HEADER)].count('the "best", and last') == 2


def test_line_breaks_within_quotes_are_recognised(read, write):
    write("1.csv", 'sku,about\na1,"two\nlines"\na2,"a ""b""\n\nc"\na3,x\n')
    write("2.csv", 'sku,about\na4,"5"" wide"\n')
    assert [row["about"] for row in read(options=HEADER)] == ["two\nlines", 'a "b"\n\nc', "x", '5" wide']


def test_a_stray_quote_joins_no_lines(read, write):
    write("1.csv", 'sku,about\na1,5" wide\na2,x\na3,"open\na4,y\na5,z\n')
    good = read(options=HEADER)
    assert {"sku": "a4", "about": "y"} in good
    assert {"sku": "a1", "about": '5" wide'} in good


@pytest.mark.parametrize("encoding", ["windows-1252", "ISO-8859-1", "UTF-16", "Shift_JIS", "gb18030", "KOI8-R"])
def test_every_encoding_that_is_named_is_read(encoding, read, write):
    name = {"Shift_JIS": "急須", "gb18030": "茶壶", "KOI8-R": "чайник"}.get(encoding, "théière")
    write("1.csv", f"sku,name\na1,{name}\n", encoding)
    write("2.csv", f"name,sku\n{name},a2\n", encoding)
    assert [row["name"] for row in read(options=HEADER | {"encoding": encoding})] == [name, name]


def test_an_encoding_that_does_not_exist_is_refused_by_name(read, write):
    write("1.csv", "sku\na1\n")
    with pytest.raises(UsageError, match=r"source 'log'.*klingon"):
        read(options=HEADER | {"encoding": "klingon"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\0\0\0", "a zip archive"),
        (gzip.compress(b"sku\na1\n", mtime=0), "compressed with gzip, but not named .gz"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no text: it holds NUL bytes"),
        ("sku\na1\n".encode("utf-16"), 'set options.encoding = "UTF-16"'),
        (b"SQLite format 3\0", "an SQLite database"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_file_that_is_no_text_is_refused_by_name(kind, content, message, read, write):
    write("1.csv", content)
    with pytest.raises(InputError, match=r"source 'log': .*/log/1.csv is ") as error:
        read(format=kind)
    assert message in str(error.value)
    assert "IHDR" not in str(error.value)


def test_a_stray_nul_belongs_to_its_value(read, write):
    write("1.csv", "sku,name\n" + "a\0b,pot\n" + "a1,a pan with a longer name than most\n" * 5)
    assert {row["sku"] for row in read(options=HEADER)} == {"a\0b", "a1"}


def test_a_log_whose_files_have_no_header_is_refused(read, write):
    for number in range(60):
        write(f"{number}.csv", f"u{number},a1\nu0,a2\n")
    with pytest.raises(InputError, match=r"60 different layouts.*Header rows such as \['u0,a1'.*every file have one"):
        read(options=HEADER)
    assert len(read()) == 120


@pytest.mark.parametrize(("sep", "option"), [(";", '";"'), ("\t", r'"\\t"'), ("|", r'"\|"')])
def test_a_separator_that_was_not_named_is_in_the_message(sep, option, read, write):
    write("1.csv", sep.join(["sku", "name"]) + "\n" + sep.join(["a1", "pot"]) + "\n")
    with pytest.raises(UsageError, match=r"header row of .*/1.csv is one column.*options.sep = " + option):
        read(options=HEADER)
    assert read(options=HEADER | {"sep": sep}) == [{"sku": "a1", "name": "pot"}]


# --- JSON ---


def test_json_documents_are_read_whole_and_lines_line_by_line(read, write):
    rows = [{"sku": "a1", "name": "pot"}, {"sku": "a2", "name": "pan"}]
    write("1.json", json.dumps(rows, indent=2))
    write("2.json", "".join(json.dumps({"sku": f"a{n}"}) + "\n" for n in (3, 4)))
    write("3.json.gz", json.dumps({"sku": "a5"}, indent=4))
    write("4.json", json.dumps([{"sku": "a6"}, {"sku": "a7"}]))
    assert sorted(row["sku"] for row in read(format="json")) == [f"a{n}" for n in range(1, 8)]


def test_a_damaged_first_line_makes_no_document(read, write):
    write("1.json", '{"sku": "a1", "na\n{"sku": "a2"}\n{"sku": "a3"}\n')
    assert [row["sku"] for row in read(format="json")] == ["a2", "a3"]
    assert len(malformed(read.frame(format="json"), "log").collect()) == 1


def test_keys_that_differ_by_case_name_source_and_key(read, write):
    write("1.json", '{"sku": "a1"}\n{"sku": "a2", "SKU": "b2"}\n')
    with pytest.raises(RecsysError, match="source 'log'") as error:
        read(format="json")
    assert error.value.exit_code in (2, 4)
    assert "sku" in str(error.value)
    assert "schema" in str(error.value)
    assert read(format="json", schema="sku string")[0]["sku"] == "a1"


# --- Parquet, Delta, folders ---


def test_nanoseconds_become_times(read, tmp_path):
    times = pd.to_datetime(["2024-02-01 10:00:00.123456789", None, "1960-01-01 00:00:00.000000999"])
    put_parquet(tmp_path, "1.parquet", sku=["a1", "a2", "a3"], at=pa.array(times))
    put_parquet(tmp_path, "2.parquet", sku=["a4"], at=pa.array(times[:1].as_unit("us")))
    put_parquet(tmp_path, "3.parquet", sku=["a5"], at=pa.array(times[:1].tz_localize("UTC").as_unit("ns")))
    expected = {
        "a1": datetime(2024, 2, 1, 10, 0, 0, 123456), "a3": datetime(1960, 1, 1),
        "a4": datetime(2024, 2, 1, 10, 0, 0, 123456), "a5": datetime(2024, 2, 1, 10, 0, 0, 123456),
    }  # fmt: skip
    times_by_sku = {row["sku"]: row.get("at") for row in read(format="parquet")}
    assert {sku: str(at) for sku, at in times_by_sku.items() if at} == {sku: str(at) for sku, at in expected.items()}
    assert len(times_by_sku) == 5
    assert read(format="parquet", schema="sku string, at timestamp", only=("1.parquet",))[0]["at"] == expected["a1"]


def test_a_column_that_changes_its_type_is_read_as_text_with_the_same_ids(read, tmp_path):
    put_parquet(tmp_path, "1.parquet", sku=pa.array([10000001, 7], "int64"), n=pa.array([1], "int32").take([0, 0]))
    put_parquet(tmp_path, "2.parquet", sku=pa.array([10000001.0, None, 1.5], "float64"), n=pa.array([2, 2, 2], "int64"))
    put_parquet(tmp_path, "3.parquet", sku=["x9"], n=pa.array([3], "int16"))
    frame = read.frame(format="parquet")
    assert dict(frame.dtypes) == {"sku": "string", "n": "bigint"}
    assert sorted(str(row.sku) for row in frame.collect()) == ["1.5", "10000001", "10000001", "7", "None", "x9"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_names_of_folders_are_columns_and_stay_text(kind, read, write, tmp_path):
    def put(name, sku):
        if kind == "csv":
            write(f"{name}.csv", f"sku\n{sku}\n")
        else:
            put_parquet(tmp_path, f"{name}.parquet", sku=[sku])

    put("shop=007/x", "a1")
    put("shop=010/y", "a2")
    put("late", "a3")
    put("2024/02/z", "a4")
    expected = [
        {"sku": "a1", "shop": "007"},
        {"sku": "a2", "shop": "010"},
        {"sku": "a3"},
        {"sku": "a4"},
    ]
    assert read(format=kind, options=HEADER) == expected
    assert read(format=kind, options=HEADER, only=(f"y.{kind}",)) == [expected[1]]
    assert read("log/*", format=kind, options=HEADER) == [{"sku": f"a{n}"} for n in (1, 2, 3, 4)], "as Spark does"


def test_a_delta_table_is_read_as_its_log_says(read, tmp_path):
    from deltalake import DeltaTable, write_deltalake

    uri = str(tmp_path / "log")
    write_deltalake(uri, pa.table({"sku": ["a1", "a2"], "day": ["05", "06 b"]}), partition_by=["day"])
    write_deltalake(uri, pa.table({"sku": ["a3"], "day": ["05"], "n": [7]}), mode="append", schema_mode="merge")
    DeltaTable(uri).delete("sku = 'a2'")
    expected = [{"sku": "a1", "day": "05"}, {"sku": "a3", "day": "05", "n": 7}]
    assert read(format="delta") == expected
    assert set(read.frame(format="delta", only=()).columns) == {"sku", "day", "n"}
    with pytest.raises(InputError, match="no Delta table"):
        read("other", format="delta")


# --- queries ---


def ask(spark, sql, **select):
    return query(spark, "events", TableQuery.model_validate({"from": sql, "select": select}), [], [], date(2024, 3, 1))


def test_the_day_of_the_run_is_the_only_clock(spark):
    spark.createDataFrame([("2024-02-20",), ("2023-01-01",)], "at string").createOrReplaceTempView("dated")
    definition = {"from": "dated", "select": {"at": "at"}, "where": "at >= :run_date - INTERVAL 30 DAYS"}
    frame = query(spark, "events", TableQuery.model_validate(definition), [], [], date(2024, 3, 1))
    assert [row.at for row in frame.collect()] == ["2024-02-20"]
    for clock in ("current_date()", "now()", "unix_timestamp()", "date_sub(current_date(), 3)", "localtimestamp()"):
        with pytest.raises(UsageError, match="write :run_date"):
            ask(spark, "dated", at=clock)
    with pytest.raises(UsageError, match="current_timestamp"):
        ask(spark, "(SELECT * FROM dated WHERE at > current_timestamp())", at="at")
    with pytest.raises(UsageError, match="current_date"):
        ask(spark, "dated", at="(SELECT max(current_date()) FROM dated)")


def test_a_source_may_have_any_name(read, write, spark):
    write("1.csv", "sku\na1\n")
    write("2.csv", "name,sku\nx,a2\n")
    for name in ("order-lines", "a.b", "x y", "select"):
        register(read.frame(options=HEADER, name=name), name)
        assert ask(spark, f"`{name}`", sku="sku").collect()[1:]
    assert is_row_by_row(ask(spark, "order-lines", sku="sku"))
    assert ask(spark, "a.b", sku="sku").collect()[1:]


def test_a_schema_that_is_none_names_source_and_word(read, write):
    write("1.csv", "sku,price\na1,3\n")
    with pytest.raises(UsageError, match=r"sources.log.*strng"):
        read(options=HEADER, schema="sku string, price strng")


def test_malformed_records_are_kept(read, write):
    write("1.csv", "sku,name\na1,x\na2,y,z\n")
    write("2.csv", "name,sku\nx,a3\na4\n")
    frame = read.frame(options=HEADER)
    assert CORRUPT in frame.columns
    assert sorted(json.loads(row.row)[CORRUPT] for row in malformed(frame, "log").collect()) == ["a2,y,z", "a4"]
