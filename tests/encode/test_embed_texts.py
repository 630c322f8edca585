"""The step embed_texts: slices, report, failures, dry run, roles; on tiny lakes, with models broken on purpose."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F
from safetensors.numpy import load_file, save_file

from recsys_spark.encode.embedding import embed_udf, embedding_rows, estimated_tokens, in_slice
from recsys_spark.encode.kernels.model_folder import read_model, user_fingerprint
from recsys_spark.encode.options import EncoderOptions
from recsys_spark.encode.steps import embed_texts as step
from recsys_spark.encode.steps.embed_texts import embed_texts
from recsys_spark.encode.steps.model_source import resolve_model
from recsys_spark.errors import QualityError
from recsys_spark.items.options import BlockOptions
from recsys_spark.items.steps.build_item_vectors import build_item_vectors
from recsys_spark.lake.lake import Lake
from recsys_spark.profiles.options import ProfileOptions
from recsys_spark.profiles.steps.build_profiles import build_profiles
from recsys_spark.tables.schemas import CHANGES, EMBEDDINGS, ITEMS, QUARANTINE, USER_PROFILES, USERS
from tests.bench.small_lake import DAY, Bench

WORDS = [f"text number {n} " * (n % 7 + 1) for n in range(40)]


def named(text):
    return hashlib.sha256(text.encode()).hexdigest()


def items_of(texts):
    return [(f"i{n}", text, text, named(text), None, None, None) for n, text in enumerate(texts)]


@pytest.fixture
def bench(spark, tmp_path):
    return Bench(spark, tmp_path)


@pytest.fixture
def options_with(bench, tiny_bert):
    """Build options for the tiny model, changed by keywords."""

    def build(**changes):
        return EncoderOptions(**{"lake": bench.lake.uri, "model": str(tiny_bert)} | changes)

    return build


def rows_of(bench):
    table = DeltaTable(f"{bench.lake.uri}/embeddings").to_pyarrow_table()
    return sorted((r["text_hash"], r["model"], tuple(r["embedding"])) for r in table.to_pylist())


@pytest.fixture
def poisoned(tiny_bert, tmp_path):
    """The tiny model, with NaN for every text with the letter q."""
    folder = shutil.copytree(tiny_bert, tmp_path / "poisoned")
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("word_embeddings.weight"))
    for letter in ("q", "##q"):
        token = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"][letter]
        weights[name][token] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_slices_tasks_and_budgets_change_nothing_in_the_table(bench, options_with, tmp_path, spark):
    bench.put(ITEMS, *items_of(WORDS))
    bench.put(USERS, ("u1", WORDS[0], named(WORDS[0])), ("u2", "only mine", named("only mine")))
    report = embed_texts(bench.run, options_with())
    assert (report["texts_encoded"], report["texts_failed"], report["cache_hits"]) == (41, 0, 0)
    other = Bench(spark, tmp_path / "other")
    other.put(ITEMS, *items_of(WORDS[::-1]))
    other.put(USERS, ("u2", "only mine", named("only mine")))
    changed = options_with(lake=other.lake.uri, texts_per_commit=9, tokens_per_task=1500, batch_tokens=30)
    assert embed_texts(other.run, changed)["texts_encoded"] == 41
    assert DeltaTable(f"{other.lake.uri}/embeddings").version() == 4  # 41 texts by 9: five commits
    assert rows_of(other) == rows_of(bench)


@pytest.mark.slow
@pytest.mark.parametrize("per_commit", [1000, 9])
def test_two_runs_at_once_give_every_text_one_vector(per_commit, bench, options_with, monkeypatch):
    """The other run encodes some of the same texts, and new ones, while this one is at work on its last slice."""
    bench.put(ITEMS, *items_of(WORDS[:30]))
    bench.put(USERS)
    encode, options = step._encode, options_with(texts_per_commit=per_commit)

    def overtaken(run, slice_options, work, number, slices, *more, **named):
        staged = encode(run, slice_options, work, number, slices, *more, **named)
        if number == slices - 1:
            monkeypatch.setattr(step, "_encode", encode)
            bench.put(ITEMS, *items_of(WORDS[10:]))
            embed_texts(bench.run, options)
        return staged

    monkeypatch.setattr(step, "_encode", overtaken)
    first = embed_texts(bench.run, options)
    rows = rows_of(bench)
    assert len({name for name, _, _ in rows}) == len(rows) == 40
    assert first["texts_encoded"] < 30
    assert embed_texts(bench.run, options)["texts_encoded"] == 0


def test_the_report_counts_texts_and_tokens(bench, options_with):
    bench.put(ITEMS, *items_of([*WORDS, "word " * 100]))
    bench.put(USERS)
    report = embed_texts(bench.run, options_with(max_length=32))
    assert report["texts_truncated"] == sum(len(f"{text}".replace(" ", "")) > 30 for text in [*WORDS, "word " * 100])
    assert 0 < report["padding_share"] < 0.2
    assert report["tokens"] <= 41 * 32
    assert 0 <= report["model_loads"] <= report["workers"]
    assert report["back_offs"] == 0
    assert (report["unknown_tokens"], report["unknown_share"]) == (0, 0.0)
    assert report["texts_per_second"] > 0
    assert report["tokens_per_second"] > report["texts_per_second"]


@pytest.mark.parametrize(("texts", "share", "warned"), [(["чай", "дом", "tea, 日本"], 0.4286, True), (WORDS, 0, False)])
def test_the_share_of_unknown_tokens_is_reported_with_a_warning(texts, share, warned, bench, options_with, capsys):
    bench.put(ITEMS, *items_of(texts))
    bench.put(USERS)
    report = embed_texts(bench.run, options_with())
    assert report["unknown_share"] == share
    assert ("does not know 42.9% of the tokens" in capsys.readouterr().err) == warned


def test_embedded_texts_are_cache_hits_and_the_next_run_encodes_nothing(bench, options_with, monkeypatch):
    bench.put(ITEMS, *items_of(WORDS[:10]))
    bench.put(USERS)
    embed_texts(bench.run, options_with())
    bench.put(ITEMS, *items_of(WORDS[:15]))
    report = embed_texts(bench.run, options_with())
    assert (report["cache_hits"], report["texts_encoded"]) == (10, 5)
    monkeypatch.setattr(step, "embedding_rows", None)
    assert embed_texts(bench.run, options_with())["status"] == "unchanged"
    bench.put(ITEMS, *items_of(WORDS[3:12]))  # other items, known texts
    report = embed_texts(bench.run, options_with())
    assert (report["status"], report["cache_hits"], report["texts_encoded"]) == ("unchanged", 9, 0)


def test_a_run_that_is_killed_around_its_commit_logs_the_change_once_when_it_comes_back(
    bench, options_with, monkeypatch
):
    bench.put(ITEMS, *items_of(WORDS[:3]))
    bench.put(USERS)
    commit = Lake.commit

    def killed_at(table):
        def killed(self, staged, *rest, **more):
            if staged.table is table:
                raise KeyboardInterrupt
            return commit(self, staged, *rest, **more)

        monkeypatch.setattr(Lake, "commit", killed)
        with pytest.raises(KeyboardInterrupt):
            embed_texts(bench.run, options_with())
        monkeypatch.setattr(Lake, "commit", commit)

    def logged():
        return [tuple(row) for row in bench.lake.read_or_empty(bench.spark, CHANGES).select("rows", "added").collect()]

    killed_at(EMBEDDINGS)
    assert logged() == []  # nothing was published
    bench.put(ITEMS, *items_of(WORDS[:5]))
    killed_at(CHANGES)
    assert embed_texts(bench.run, options_with(dry_run=True))["status"] == "unchanged"
    assert logged() == []
    bench.put(ITEMS, *items_of(WORDS[:7]))
    embed_texts(bench.run, options_with())
    assert embed_texts(bench.run, options_with())["status"] == "unchanged"
    assert sorted(logged()) == [(5, 5), (7, 2)]


def failed_texts(bench):
    return DeltaTable(f"{bench.lake.uri}/failed_texts").to_pyarrow_table().to_pylist()


def test_a_text_that_fails_with_nan_is_stored_apart_with_its_reason(bench, options_with, poisoned):
    bad = ["quite bad", "a quick one"]
    bench.put(ITEMS, *items_of([*WORDS, *bad]))
    bench.put(USERS)
    report = embed_texts(bench.run, options_with(model=str(poisoned)))
    assert (report["texts_encoded"], report["texts_failed"]) == (40, 2)
    failed = failed_texts(bench)
    assert {row["text_hash"] for row in failed} == {named(text) for text in bad}
    assert {row["reason"] for row in failed} == {"the model gave no finite vector for this text"}
    assert bench.lake.version(QUARANTINE) is None  # ingest's own: it would find another run's rows there
    assert not {named(text) for text in bad} & {row[0] for row in rows_of(bench)}
    assert embed_texts(bench.run, options_with(model=str(poisoned)))["status"] == "unchanged"


@pytest.mark.slow
def test_failed_texts_are_not_tried_again_without_retry(bench, options_with, poisoned, monkeypatch):
    bench.put(ITEMS, *items_of([*WORDS, "quite bad"]))
    bench.put(USERS)
    embed_texts(bench.run, options_with(model=str(poisoned)))
    bench.put(ITEMS, *items_of([*WORDS, "quite bad", "a quick one"]))  # all that is new fails, one of 42
    report = embed_texts(bench.run, options_with(model=str(poisoned)))
    assert (report["texts_encoded"], report["texts_failed"]) == (0, 1)
    bench.put(ITEMS, *items_of([*WORDS, "quite bad", "a quick one", "new"]))
    report = embed_texts(bench.run, options_with(model=str(poisoned)))
    assert (report["texts_encoded"], report["texts_failed"]) == (1, 0)
    assert embed_texts(bench.run, options_with(model=str(poisoned)))["status"] == "unchanged"
    assert embed_texts(bench.run, options_with(model=str(poisoned)), retry=True)["texts_failed"] == 2
    assert len(failed_texts(bench)) == 2  # the same two
    bench.put(ITEMS, *items_of([*WORDS, "quite bad", "a quick one", "quince"]))
    with pytest.raises(QualityError, match="3 of 43 texts have no vector"):  # the old ones count
        embed_texts(bench.run, options_with(model=str(poisoned)))
    monkeypatch.setattr(step, "_MIN_FAILURES", 1)
    with pytest.raises(QualityError, match="1 of 1 texts have no vector"):
        embed_texts(bench.run, options_with(model=str(poisoned), max_failed_share=0.5))


def test_a_model_that_fails_often_publishes_nothing(bench, options_with, poisoned):
    bench.put(ITEMS, *items_of([*WORDS[:10], "quite bad"]))
    bench.put(USERS)
    with pytest.raises(QualityError, match="1 of 11 texts have no vector.*max_failed_share 0.05.*no finite vector"):
        embed_texts(bench.run, options_with(model=str(poisoned)))
    assert bench.lake.version(EMBEDDINGS) is None
    assert bench.lake.version(QUARANTINE) is None
    assert embed_texts(bench.run, options_with(model=str(poisoned), max_failed_share=0.2))["texts_failed"] == 1


def test_a_task_reports_its_first_failures_and_counts_them_all(spark, poisoned, monkeypatch):
    monkeypatch.setattr("recsys_spark.encode.embedding.MAX_FAILURES", 3)
    bad = [f"q {n}" for n in range(7)]
    texts = [*bad, "good"]
    batches = [pa.record_batch({"text_hash": [named(t) for t in texts], "text": texts})] * 2
    stats = {}
    rows = list(embedding_rows(read_model(str(poisoned)))(iter(batches), stats))
    assert [row.num_rows for row in rows] == [2]  # one window
    assert (stats["texts_failed"], len(stats["failures"])) == (14, 3)
    assert {reason for _, reason in stats["failures"]} == {"the model gave no finite vector for this text"}


def test_the_column_function_gives_null_for_failed_texts(spark, poisoned):
    texts = spark.createDataFrame([("quite bad",), ("good",)], "text string").coalesce(1)
    rows = texts.select("text", embed_udf(read_model(str(poisoned)))("text").alias("embedding")).collect()
    assert {row["text"]: row["embedding"] is None for row in rows} == {"quite bad": True, "good": False}


@pytest.mark.slow
def test_a_run_has_at_most_twenty_slices(bench, options_with):
    bench.put(ITEMS, *items_of(WORDS[:25]))
    bench.put(USERS)
    assert embed_texts(bench.run, options_with(texts_per_commit=1))["texts_encoded"] == 25
    assert bench.lake.version(EMBEDDINGS) == 19


def test_a_dry_run_estimates_tokens_and_time_and_writes_nothing(bench, options_with):
    bench.put(ITEMS, *items_of(WORDS))
    bench.put(USERS)
    report = embed_texts(bench.run, options_with(dry_run=True))
    exact = embed_texts(bench.run, options_with())["tokens"]
    assert (report["texts_to_encode"], report["tokens_to_encode"]) == (40, exact)  # the sample is all there is
    assert report["estimated_seconds"] >= 0
    assert report["tables"] == {}


@pytest.mark.slow
def test_users_are_encoded_with_their_own_prompt_in_the_space_of_the_items(bench, options_with):
    shared = "an old sea story"
    bench.put(ITEMS, *items_of([shared, "a new land story"]))
    bench.put(USERS, ("u1", shared, named(shared)))
    options = options_with(prompt="passage: ", user_prompt="query: ")
    report = embed_texts(bench.run, options)
    assert report["texts_encoded"] == 3
    spec = resolve_model(options)
    assert {(name, model) for name, model, _ in rows_of(bench)} == {
        (named(shared), spec.fingerprint),
        (named("a new land story"), spec.fingerprint),
        (named(shared), user_fingerprint(spec.fingerprint)),
    }
    build_item_vectors(bench.run, BlockOptions(lake=bench.lake.uri), spec)
    bench.put_events()
    build_profiles(bench.run, ProfileOptions(lake=bench.lake.uri, run_date=DAY))
    user_vector = next(vector for _, model, vector in rows_of(bench) if model.endswith(".query"))
    profile = DeltaTable(f"{bench.lake.uri}/{USER_PROFILES.name}").to_pyarrow_table().to_pylist()[0]["embedding"]
    np.testing.assert_allclose(profile[: len(user_vector)], 0.5 * np.array(user_vector), atol=1e-6)


def test_every_text_is_in_one_slice_and_slices_are_even(spark):
    names = spark.createDataFrame([(named(str(n)),) for n in range(3000)], "text_hash string")
    counts = [names.where(in_slice(number, 3)).count() for number in range(3)]
    assert sum(counts) == 3000
    assert min(counts) > 900


def test_tasks_are_full_waves_of_even_work(spark):
    texts = spark.createDataFrame([("x" * 10,), ("x" * 4000,)], "text string")
    assert [row[0] for row in texts.select(estimated_tokens(256)).collect()] == [5, 256]

    def tasks(count, tokens, cores=4, tokens_per_task=1000):
        return step._tasks(step._Work(None, None, count, tokens, 0, 0), 1, cores, tokens_per_task)

    assert tasks(0, 0) == 1
    assert tasks(10, 100) == 1
    assert tasks(100, 1000) == 4
    assert tasks(1000, 4000) == 4
    assert tasks(1000, 4001) == 8
    assert tasks(10_000, 39_000) == 40


def test_tasks_have_the_same_work_although_texts_differ_in_length(spark):
    lengths = np.random.default_rng(5).lognormal(5, 0.7, 8000).astype(int)
    rows = [(named(str(n)), "x" * int(length)) for n, length in enumerate(lengths)]
    texts = spark.createDataFrame(rows, "text_hash string, text string").repartition(4, "text_hash")
    shares = texts.groupBy(F.spark_partition_id()).agg(F.sum(estimated_tokens(256)).alias("tokens")).collect()
    tokens = [row["tokens"] for row in shares]
    assert len(tokens) == 4
    assert max(tokens) < 1.1 * np.mean(tokens)
