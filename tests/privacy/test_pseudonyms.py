"""A lake with --user_key holds pseudonyms, and no raw id anywhere."""

import hashlib
import hmac
import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.errors.redaction import redacted
from recsys_spark.ingest.options import IngestOptions
from recsys_spark.ingest.steps.ingest_tables import ingest_tables
from recsys_spark.privacy.options import ForgetOptions
from recsys_spark.privacy.pseudonyms import PADS, fingerprint, hmac_pads, pseudonym, with_pseudonyms
from recsys_spark.privacy.steps.forget_users import forget_users
from recsys_spark.privacy.steps.user_key import stored_user_id, user_key
from recsys_spark.runtime.lifecycle import Run
from recsys_spark.runtime.progress import Progress
from recsys_spark.sources.dataset_file import load_dataset
from recsys_spark.stream.kernels.bad_share import BadShare
from recsys_spark.stream.steps.event_batch import BatchId, Reading, staged_batch
from recsys_spark.tables.schemas import EVENTS, QUARANTINE, USER_RULES, USERS
from tests.bench.event_files import DATASET, FIRST, Shop
from tests.bench.jobs_here import run_job
from tests.bench.lake_files import files_that_name

KEY, OTHER = "0123456789abcdef-secret", "another-secret-of-a-lake"


@pytest.mark.parametrize("key", [b"short", bytes(range(64)), b"longer than a block " * 5])
def test_a_pseudonym_is_an_hmac_whatever_computes_it(spark, key):
    ids = ["u1", "  u2\t", "用户", "", " ", None, "7"]
    pads = spark.createDataFrame([hmac_pads(key)], PADS)
    rows = spark.createDataFrame([(name, n) for n, name in enumerate(ids)], "user_id string, n int")
    found = {row.n: row.user_id for row in with_pseudonyms(rows, pads).collect()}
    plain = [
        hmac.new(key, name.strip().encode(), hashlib.sha256).hexdigest()[:32] for name in ("u1", "u2", "用户", "7")
    ]
    assert [found[n] for n in (0, 1, 2, 6)] == plain == [pseudonym(name, key) for name in ("u1", " u2", "用户", "7")]
    assert [found[n] for n in (3, 4, 5)] == ["", "", None], "a missing id stays a missing id"
    numbers = spark.createDataFrame([(7,)], "user_id bigint")
    assert with_pseudonyms(numbers, pads).collect()[0].user_id == found[6]
    assert with_pseudonyms(rows, None) is rows


class Keyed(Shop):
    """A shop whose users have texts and rules, ingested with a key."""

    def __init__(self, folder):
        text = DATASET.replace("[items]", '[sources.people]\npath = "people.csv"\noptions = { header = true }\n[items]')
        text += '[users]\nfrom = "people"\nselect = { user_id = "user", about = "about" }\ntext = ["{about}"]\n'
        text += '[user_rules]\nfrom = "people"\nselect = { user_id = "user", item_id = "\'a1\'", rule = "\'deny\'" }\n'
        super().__init__(folder, text)
        people = "user,about\nhermit,likes pots\n rower ,likes pans\n"
        (self.folder / "people.csv").write_text(people, encoding="utf-8")
        self.log("1.csv", "hermit,a1,2024-02-01,1", "rower,a2,2024-02-01,1", "hermit,,2024-02-01,1", "rower,a1,x,1,2")

    def keyed(self, lake, name="SHOP_KEY", run_date=FIRST):
        sources = {"dataset": str(self.folder / "shop.toml"), "data": str(self.folder), "max_bad_share": 1.0}
        options = IngestOptions(lake=lake.uri, run_date=run_date, user_key=name, **sources)
        return ingest_tables(Run("ingest_tables", lake, Progress()), options)

    def forget(self, lake, user, name=None):
        options = ForgetOptions(lake=lake.uri, user_ids=user, user_key=name)
        return forget_users(Run("forget_users", lake, Progress()), options)


@pytest.fixture
def keyed(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", OTHER)
    return Keyed(tmp_path / "shop")


def ids_of(spark, lake, table):
    return {row.user_id for row in lake.read(spark, table).select("user_id").collect()}


def test_no_raw_id_is_in_the_lake_and_everything_still_meets(spark, keyed):
    lake = keyed.lake()
    keyed.keyed(lake)
    names = {pseudonym(user, KEY.encode()) for user in ("hermit", "rower")}
    assert ids_of(spark, lake, EVENTS) == ids_of(spark, lake, USERS) == ids_of(spark, lake, USER_RULES) == names
    assert lake.last_commit(EVENTS).provenance.user_key == fingerprint(KEY.encode())
    assert lake.read(spark, QUARANTINE).where("row like '%withheld%'").count() == 1, "a line that could not be parsed"
    for secret in ("hermit", "rower", KEY):
        assert not files_that_name(Path(lake.uri), secret)
    keyed.log("2.csv", "hermit,a2,2024-02-02,1", "diver,a2,2024-02-02,1")
    assert keyed.keyed(lake, run_date=FIRST + timedelta(days=1))["log_read"] == "1 new files"
    assert len(ids_of(spark, lake, EVENTS)) == 3
    assert keyed.keyed(lake, run_date=FIRST + timedelta(days=1))["status"] == "unchanged"
    with pytest.raises(UsageError, match="user ids of lake .* are pseudonyms: pass --user_key=NAME"):
        keyed.ingest(lake)
    with pytest.raises(UsageError, match="made with another user key .* users would appear twice"):
        keyed.keyed(lake, "OTHER_KEY")


def test_who_is_forgotten_may_be_named_by_id_or_by_pseudonym(spark, keyed, tmp_path):
    lake, file = keyed.lake(), tmp_path / "key.txt"
    file.write_text(KEY + "\n", encoding="utf-8")
    keyed.keyed(lake, str(file))
    rower = pseudonym("rower", KEY.encode())
    with pytest.raises(UsageError, match="pseudonyms: pass --user_key"):
        keyed.forget(lake, "hermit")
    assert keyed.forget(lake, "hermit", "SHOP_KEY")["proof"]["rows_removed"]["events"] == 1
    assert ids_of(spark, lake, EVENTS) == {rower}
    assert stored_user_id(Run("test", lake, Progress()), "rower", "SHOP_KEY") == rower
    assert keyed.forget(lake, rower)["proof"]["rows_removed"]["users"] == 1
    keyed.log("2.csv", "hermit,a2,2024-02-02,1", "rower,a2,2024-02-02,1", "diver,a2,2024-02-02,1")
    keyed.keyed(lake, run_date=FIRST + timedelta(days=1))
    assert ids_of(spark, lake, EVENTS) == {pseudonym("diver", KEY.encode())}, "they stay forgotten"


def test_a_lake_of_raw_ids_stays_one(keyed):
    lake = keyed.lake()
    keyed.ingest(lake)
    with pytest.raises(UsageError, match="holds raw user ids, in old versions and files too: leave --user_key out"):
        keyed.keyed(lake)


def test_a_missing_key_is_a_sentence_that_does_not_quote_it(spark, keyed, monkeypatch):
    monkeypatch.setenv("SHORT", "abc")
    for name, sentence in (("hunter2-my-real-secret", "names? neither"), ("SHORT", "has 3 bytes, fewer than 16")):
        lake = keyed.lake()
        sources = [f"--dataset={keyed.folder / 'shop.toml'}", f"--data={keyed.folder}", f"--lake={lake.uri}"]
        done = run_job("ingest_tables", *sources, "--run_date=2024-03-01", f"--user_key={name}")
        assert done.returncode == 2
        assert re.search(sentence, done.stderr), done.stderr
        assert "hunter2" not in done.stderr + done.stdout
    stored_user_id(Run("test", keyed.lake(), Progress()), "u1", "SHOP_KEY")
    assert KEY not in redacted(f"the value was {KEY}"), "a key that was read is hidden in every message"


def test_streamed_events_and_what_is_refused_of_them_have_pseudonyms(spark, keyed):
    """A batch as a stream reads it, without the lists of a night."""
    lake, dataset = keyed.lake(), load_dataset(str(keyed.folder / "shop.toml"))
    keyed.keyed(lake)
    run = Run("stream_profiles", lake, Progress())
    night = SimpleNamespace(run_date=FIRST, until=FIRST + timedelta(days=2), tombstones=None)
    rows = [("diver", "a1", "2024-03-01", "1", None), ("hermit", None, "2024-03-01", "1", None),
            (None, None, None, None, "rower,a1,2024-03-01,1,2")]  # fmt: skip
    raw = spark.createDataFrame(rows, "user string, sku string, day string, amount string, _corrupt_record string")
    reading = Reading(dataset, BadShare(1.0), user_key(run, "SHOP_KEY"))
    batch = staged_batch(run, night, reading, raw, BatchId("test", 1))
    good = [row.user_id for row in lake.read_staged(spark, batch.events).collect()]
    assert good == [pseudonym("diver", KEY.encode())]
    refused = "".join(row.row for row in lake.read_staged(spark, batch.bad).collect())
    assert pseudonym("hermit", KEY.encode()) in refused
    assert "withheld" in refused
    assert "rower" not in refused
