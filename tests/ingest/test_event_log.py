"""A run that reads only the new files of the log ends with the same tables as one that reads everything."""

from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys_spark.errors import UsageError
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.sources.queries import is_row_by_row
from recsys_spark.tables.schemas import CHANGES, EVENTS, ITEMS, QUARANTINE, USERS
from tests.bench.event_files import DATASET, FIRST, Shop

PATH = 'path = "log"'


_LINES = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "u3", ""]),
        st.sampled_from(["a1", "a2", "a9"]),
        st.integers(-3, 2).map(lambda days: str(FIRST + timedelta(days=days))) | st.just("1999-01-01"),
        st.sampled_from(["", "1", "2.5", "many"]),
    ).map(",".join)
    | st.just("u1,a1,2024-02-01,1,2,3"),
    max_size=5,
)


def tables_of(spark, lake, *, rows=True):
    """All tables and their content ids. ``rows=False`` leaves out raw rows in quarantine: which of two equal rows is
    kept is not defined."""
    tables = {
        t.name: sorted(map(str, lake.read(spark, t).drop(*([] if rows else ["row"])).collect()))
        for t in (ITEMS, USERS, EVENTS, QUARANTINE)
    }
    return tables, [lake.last_commit(t).content for t in (ITEMS, USERS, EVENTS)]


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_a_run_reads_new_files_and_adds_their_rows(shop, spark):
    lake = shop.lake()
    shop.log("1.csv", "u1,a1,2024-02-01,", "u2,a1,2024-02-01,4", ",a1,2024-02-01,")
    assert shop.ingest(lake)["log_read"] == "all: it is the first run"
    files = set(lake.file_uris(EVENTS, lake.last_commit(EVENTS).version))
    shop.log("2.csv", "u3,a2,2024-02-02,", "u1,a1,2024-02-01,", "u4,,2024-02-01,")
    shop.log("_SUCCESS")
    report = shop.ingest(lake, FIRST + timedelta(days=1))
    assert (report["log_read"], report["log_rows"]) == ("1 new files", 3)
    assert report["log_bytes"] == (shop.folder / "log" / "2.csv").stat().st_size < report["log_bytes_of"]
    assert report["events_changes"] == report["users_changes"] == {"added": 1, "changed": 0, "removed": 0}
    assert report["tables"] == {"quarantine": 3, "items": 2, "users": 3, "events": 3, "user_rules": 0}
    assert files < set(lake.file_uris(EVENTS, lake.last_commit(EVENTS).version)), "stored files stay unchanged"
    log = {tuple(row) for row in lake.read(spark, CHANGES).select("table", "made", "rows", "added").collect()}
    assert ("events", "1 new files", 3, 1) in log
    again = shop.lake()
    shop.ingest(again, FIRST + timedelta(days=1))
    assert tables_of(spark, lake) == tables_of(spark, again)
    assert shop.ingest(lake, FIRST + timedelta(days=1))["status"] == "unchanged"
    (shop.folder / "products.csv").write_text("sku,name,maker\na1,pot,ada\n", encoding="utf-8")
    change = (
        r"source 'products' changed since the last run: brand is missing \(it was string\); maker is new \(string\)"
    )
    with pytest.raises(UsageError, match=f"`brand` cannot be resolved.*{change}"):
        shop.ingest(lake, FIRST + timedelta(days=1))


@pytest.mark.slow
@settings(max_examples=max(1, settings.default.max_examples // 50 - 1))  # and the one that is named
@example(
    nights=[
        ["u1,a1,2024-02-01,2.5", "u3,a9,2024-03-01,many", "u1,a1,2024-02-01,1,2,3"],
        ["u2,a1,2024-03-03,", "u2,a1,2024-03-03,1", "u3,a2,1999-01-01,", ",a1,2024-03-01,1"],
    ]
)
@given(nights=st.lists(_LINES, min_size=1, max_size=4))
def test_any_runs_equal_one_that_reads_everything(nights, spark, tmp_path_factory):
    shop = Shop(tmp_path_factory.mktemp("nights"))
    lake = shop.lake()
    shop.log("0.csv", "u1,a1,2024-02-01,1", "u2,a2,2024-02-28,")
    for number, lines in enumerate(nights):
        shop.log(f"{number + 1}.csv", *lines)
        shop.ingest(lake, FIRST + timedelta(days=number))
    again = shop.lake()
    shop.ingest(again, FIRST + timedelta(days=len(nights) - 1))
    assert tables_of(spark, lake, rows=False) == tables_of(spark, again, rows=False)


def dataset_with(old, new):
    return lambda shop: (shop.folder / "shop.toml").write_text(DATASET.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda shop: shop.log("1.csv", "u1,a1,2024-02-01,7"), "files that were read before were removed or changed"),
        pytest.param(
            lambda shop: (shop.folder / "log" / "0.csv").unlink(),
            "files that were read before were removed or changed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda shop: shop.log("2.csv", "u1,a1,2024-02-01,7"),
            "new files replace stored events",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            dataset_with("'view'", "'click'"),
            "the source, the query or the software changed",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            dataset_with('"products"', '"(SELECT sku, 1 name, 2 brand FROM log)"'),
            "the events have no source of their own",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_whole_log_is_read_where_new_files_are_not_enough(change, reason, shop, spark):
    lake = shop.lake()
    shop.log("0.csv", "u0,a1,2024-02-01,1")
    shop.log("1.csv", "u1,a1,2024-02-01,1", "u1,a2,2024-02-01,3")
    shop.ingest(lake)
    change(shop)
    report = shop.ingest(lake, FIRST + timedelta(days=1))
    assert report["log_read"] == f"all: {reason}"
    again = shop.lake()
    shop.ingest(again, FIRST + timedelta(days=1))
    assert tables_of(spark, lake) == tables_of(spark, again)


def test_an_event_that_was_in_the_future_is_read_on_its_day(shop, spark):
    lake = shop.lake()
    shop.log("1.csv", "u1,a1,2024-02-01,", "u2,a1,2024-03-05,", "u2,a2,2099-01-01,")
    assert shop.ingest(lake)["tables"]["events"] == 1
    shop.log("2.csv", "u5,a1,2024-02-01,")
    report = shop.ingest(lake, FIRST + timedelta(days=3))
    assert report["log_read"] == "all: an event that was in the future has become valid"
    assert report["tables"]["events"] == 3
    reasons = {row["reason"] for row in lake.read(spark, QUARANTINE).collect()}
    assert reasons == {"timestamp after 2024-03-05"}


@pytest.mark.slow
def test_events_in_the_future_are_accepted_on_their_day(shop, spark):
    lake = shop.lake()
    shop.log("1.csv", "u1,a1,2024-02-01,", "u2,a1,2024-03-05,", "u2,a2,2099-01-01,")
    assert shop.ingest(lake)["tables"]["events"] == 1
    shop.log("3.csv", "u4,a1,2024-02-01,", "u3,a1,2024-02-01,")
    assert shop.ingest(lake, FIRST + timedelta(days=2))["log_read"] == "1 new files"
    reasons = {row["reason"] for row in lake.read(spark, QUARANTINE).collect()}
    assert reasons == {"timestamp after 2024-03-04"}, "as if this run had read everything"
    shop.log("4.csv", "u5,a1,2024-02-01,")
    report = shop.ingest(lake, FIRST + timedelta(days=3))
    assert report["log_read"] == "all: an event that was in the future has become valid"
    assert report["tables"]["events"] == 5
    shop.log("5.csv", "u6,a1,2024-02-01,")
    assert shop.ingest(lake, FIRST + timedelta(days=5))["log_read"] == "1 new files"
    shop.log("6.csv", "u7,a1,2024-02-01,")
    assert (
        shop.ingest(lake, FIRST + timedelta(days=2))["log_read"] == "all: run_date is earlier than that of the last run"
    )


@pytest.mark.slow
def test_forgotten_users_do_not_return_with_new_files(shop, spark):
    lake = shop.lake()
    shop.log("1.csv", "u1,a1,2024-02-01,", "u2,a1,2024-02-01,")
    shop.ingest(lake)
    forget_users(Run("forget_users", lake, Progress()), ForgetOptions(lake=lake.uri, user_ids="u1"))
    shop.log("2.csv", "u1,a2,2024-02-02,", "u3,a2,2024-02-02,")
    assert shop.ingest(lake)["log_read"] == "all: the last version does not say what it was made from"
    shop.log("3.csv", "u1,a2,2024-02-03,", "u4,a2,2024-02-03,")
    assert shop.ingest(lake)["log_read"] == "1 new files"
    assert {row["user_id"] for row in lake.read(spark, EVENTS).collect()} == {"u2", "u3", "u4"}
    assert {row["user_id"] for row in lake.read(spark, USERS).collect()} == {"u2", "u3", "u4"}


@pytest.mark.slow
def test_columns_in_folder_names_are_read_for_new_files_too(shop, spark):
    lake = shop.lake()
    shop.log("day=2024-02-01/1.csv", "u1,a1,", header="user,sku,amount")
    shop.ingest(lake)
    shop.log("day=2024-02-02/1.csv", "u1,a1,", header="user,sku,amount")
    assert shop.ingest(lake)["log_read"] == "1 new files"
    days = {str(row["timestamp"].date()) for row in lake.read(spark, EVENTS).collect()}
    assert days == {"2024-02-01", "2024-02-02"}


@pytest.mark.slow
def test_events_that_need_several_rows_are_read_from_the_whole_log(shop, spark):
    dataset_with('"amount"', '"max(amount) OVER ()"')(shop)
    lake = shop.lake()
    for night in range(2):
        shop.log(f"{night}.csv", f"u{night},a1,2024-02-01,{night}")
        report = shop.ingest(lake)
    assert report["log_read"] == "all: the query makes an event from more than one row"
    assert {row["value"] for row in lake.read(spark, EVENTS).collect()} == {1.0}


@pytest.mark.slow
def test_many_small_files_are_rewritten_as_few(shop, spark, monkeypatch, request):
    monkeypatch.setattr("recsys_spark.ingest.steps.event_log._MORE_FILES", 1)
    lake = shop.lake()
    spark.conf.set("spark.sql.adaptive.enabled", "false")
    request.addfinalizer(lambda: spark.conf.set("spark.sql.adaptive.enabled", "true"))
    shop.log("0.csv", *(f"u{user},a1,2024-02-01," for user in range(30)))
    shop.ingest(lake)
    assert len(lake.file_uris(EVENTS, 0)) == 3, "a full read writes more files than may be added"
    scopes = []
    for night in range(1, 5):
        shop.log(f"{night}.csv", f"u{night},a2,2024-02-01,")
        scopes.append(shop.ingest(lake)["log_read"])
    assert scopes == ["1 new files"] * 2 + ["all: the table has too many small files", "1 new files"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A letter before the first star; a dot and an underscore after it.
        pytest.param(PATH, 'path = "log/clicks*.csv"', marks=pytest.mark.slow),
        # Folders and names with marks.
        pytest.param(PATH, 'path = "log/[cd]*/*.csv"', marks=pytest.mark.slow),
        # A log that gains a column and moves the others, as in every case.
        pytest.param("", "", marks=pytest.mark.slow),
        # A window that rolls with the day of the run.
        pytest.param("earliest", "where = 'day > :run_date - INTERVAL 29 DAYS'\nearliest", marks=pytest.mark.slow),
    ],
)
def test_runs_equal_one_that_reads_everything(old, new, shop, spark):
    dataset_with(old, new)(shop)
    lake, rolls = shop.lake(), "run_date" in new
    folders = ["clicks0/", "c[1] x/", "d#%20/"] if "*/" in new else [""] * 3
    shop.log(f"{folders[0]}clicks1.csv", "u0,a1,2024-02-01,1", "u0,a2,2024-02-29,")
    shop.ingest(lake)
    scopes = []
    more = "more,user,amount,day,sku"
    for night, (name, line, header) in enumerate(
        [("clicks_2", "9,u7,1,2024-02-20,a1", more), ("clicks.3", "u8,a2", "user,sku")]
    ):
        shop.log(f"{folders[night + 1]}{name}.csv", line, header=header)
        scopes.append(shop.ingest(lake, FIRST + timedelta(days=night + 1))["log_read"])
    scope = "all: the query names :run_date, so its rows depend on the day" if rolls else "1 new files"
    assert scopes == [scope] * 2
    again = shop.lake()
    shop.ingest(again, FIRST + timedelta(days=2))
    assert tables_of(spark, lake, rows=False) == tables_of(spark, again, rows=False)
    events = {(row.user_id, row.item_id) for row in lake.read(spark, EVENTS).collect()}
    assert events == {("u0", "a2")} | (set() if rolls else {("u0", "a1")}) | ({("u7", "a1")})
    assert lake.read(spark, QUARANTINE).count() == (0 if rolls else 1), "the line without a day"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT n + 1, explode(split(s, ' ')) FROM rows WHERE s LIKE 'a%'", False),
        ("SELECT n + 1 AS n, upper(s) FROM (SELECT * FROM rows) WHERE s LIKE 'a%'", True),
        ("SELECT max(n) FROM rows", False),
        ("SELECT n, row_number() OVER (ORDER BY n) FROM rows", False),
        ("SELECT n FROM rows WHERE n = (SELECT max(n) FROM rows)", False),
        ("SELECT DISTINCT n FROM rows", False),
        ("SELECT n, rand() FROM rows", False),
        ("SELECT a.n FROM rows a JOIN rows b USING (n)", False),
        ("SELECT n FROM rows LIMIT 1", False),
    ],
)
def test_a_query_is_row_by_row_or_not(text, expected, spark, tmp_path):
    (tmp_path / "rows.csv").write_text("n,s\n1,a\n", encoding="utf-8")
    spark.read.csv(str(tmp_path / "rows.csv"), header=True).where("n IS NOT NULL").createOrReplaceTempView("rows")
    assert is_row_by_row(spark.sql(text)) is expected
