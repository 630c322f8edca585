"""The test bench: one Spark session for the run, started by the first test that asks; tiny models built in code."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


# A first run must not depend on luck: it draws the same examples everywhere. Other examples are drawn with --slow;
# what they find becomes an @example. Tests that start Spark jobs draw fewer.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None, max_examples=100)
settings.register_profile("free", database=None, deadline=None, max_examples=1000, print_blob=True)


# Each worker takes the next file when it is done with one: a long file that starts last leaves a core without work.
LONGEST = (
    "privacy/test_forget_users.py",
    "flows/test_nights.py",
    "stream/test_stream_profiles.py",
    "recommend/test_incremental.py",
    "report/test_render_report.py",
    "ingest/test_event_log.py",
    "evaluate/test_comparison.py",
    "flows/test_auto_lists.py",
    "ingest/test_ingest_tables.py",
    "encode/test_embed_texts.py",
    "ingest/test_gate.py",
    "faults/test_killed_driver.py",
    "explain/test_reasons.py",
    "flows/test_submit.py",
    "hybrid/test_history_scorer.py",
    "profiles/test_ignored_impressions.py",
    "topk/test_recall.py",
    "tune/test_fine_tune_encoder.py",
    "lake/test_lake.py",
    "items/test_whitening.py",
    "faults/test_object_store.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow: clusters, fresh set-ups")


def pytest_configure(config: pytest.Config) -> None:
    # JVMs of tests live for seconds: the first compiler and the smallest collector take a third less of the processor.
    # The code cache of that compiler is small by default, and was swept for a sixth of the time. Set here and not on
    # import: programs that import from this file measure.
    options = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
    os.environ.setdefault("SPARK_SUBMIT_OPTS", options)
    config.addinivalue_line("markers", "slow: minutes long; runs with --slow only")
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("free" if config.getoption("--slow") else "fixed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    if not config.getoption("--slow"):
        skip = pytest.mark.skip(reason="slow: run tests/run --slow")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:  # noqa: F821
    """Settings that expose mistakes: Arrow batches of 3 rows, 3 shuffle partitions; page checksums as in production.

    Expressions are interpreted: to generate and compile code for three rows takes a fifth of the processor. Spark reads
    the class of every closure, and finds it sooner in the first JARs than in one of 300. Plans are not described for a
    page that nobody opens, nor checked after each rule. Jobs that tests start by spark-submit.sh do all this as in
    production.
    """
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    scratch = tmp_path_factory.mktemp("spark")
    jars = Path(pyspark.__file__).parent / "jars"
    first = [str(path) for name in ("core", "sql", "sql-api", "catalyst") for path in jars.glob(f"spark-{name}_*.jar")]
    session = (
        SparkSession.builder.master("local[2,4]")
        .appName("tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.ansi.enabled", "true")
        .config("spark.sql.shuffle.partitions", "3")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "3")
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.local.dir", str(scratch / "local"))
        .config("spark.driver.extraClassPath", ":".join([*first, *map(str, jars.glob("scala-library-*.jar"))]))
        .config("spark.sql.ui.explainMode", "simple")
        .config("spark.sql.lightweightPlanChangeValidation", "false")
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        .config("spark.python.daemon.module", "tests.bench.python_daemon")
        .config("spark.hadoop.parquet.page.verify-checksum.enabled", "true")
        .config("spark.driver.memory", "2g")
        .config("spark.driver.maxResultSize", "0")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


def data_folder(name: str) -> Path:
    """The folder of a real data set, or a skip that says what is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"real data is absent: {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded two-layer BERT with a WordPiece vocabulary of single characters, saved like a real model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded two-layer GPT-2 over the same vocabulary."""
    return tiny_model(tmp_path_factory.mktemp("models") / "gpt2", "gpt2")


def tiny_model(folder: Path, kind: str) -> Path:
    """The model of either fixture, saved to ``folder``."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *map(chr, range(33, 127)), *(f"##{chr(c)}" for c in range(33, 127))]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=200))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(7)
    if kind == "bert":
        shape = BertConfig(
            vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=64, pad_token_id=0,
        )  # fmt: skip
        model = BertModel(shape)
    else:
        shape = GPT2Config(
            vocab_size=len(words), n_embd=48, n_layer=2, n_head=4, n_positions=64, bos_token_id=2, eos_token_id=3
        )
        model = GPT2Model(shape)
    model.eval().save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three users and six items, with its dataset file shop.toml."""
    return write_shop(tmp_path_factory.mktemp("shop") / "shop")


def write_shop(folder: Path) -> Path:
    """The files of the shop."""
    folder.mkdir()
    (folder / "shop.toml").write_text(
        """
title = "Shop"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log.csv"
options = { header = true }
[items]
from = "products"
select = { item_id = "sku", title = "name", brand = "brand", category = "split(path, '/')", price = "price" }
text = ["{title}.", "{brand}."]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "what", timestamp = "at" }
earliest = 2024-01-01
latest = 2024-12-31
""",
        encoding="utf-8",
    )
    (folder / "products.csv").write_text(
        "sku,name,brand,path,price\n"
        "a1,red tea pot,ada,kitchen/tea,12.5\n"
        "a2,blue tea pot,ada,kitchen/tea,14\n"
        "a3,garden spade,,garden,30\n"
        "a4,garden rake,bob,garden,25\n"
        "a5,tea cup,ada,kitchen/tea,4\n"
        "a6,wool hat,,clothes,\n",
        encoding="utf-8",
    )
    (folder / "log.csv").write_text(
        "user,sku,what,at\n"
        "u1,a1,purchase,2024-02-01 10:00:00\n"
        "u1,a3,view,2024-02-02 10:00:00\n"
        "u2,a4,purchase,2024-02-03 10:00:00\n"
        "u2,a6,cancel,2024-02-04 10:00:00\n"
        "u3,a5,cart,2024-02-05 10:00:00\n"
        "u1,a2,purchase,2024-03-05 10:00:00\n"
        "u2,a3,purchase,2024-03-06 10:00:00\n",
        encoding="utf-8",
    )
    return folder


WALKS = """
title = "Walks"
[sources.products]
path = "products.csv"
options = { header = true }
[sources.log]
path = "log.csv"
options = { header = true }
[items]
from = "products"
select = { item_id = "sku", title = "name" }
text = ["{title}"]
[events]
from = "log"
select = { user_id = "user", item_id = "sku", event_type = "'rating'", timestamp = "at", value = "stars" }
earliest = 2024-01-01
latest = 2024-12-31
[reviews]
from = "log"
select = { user_id = "user", item_id = "sku", timestamp = "at", text = "words", score = "stars" }
"""


@pytest.fixture(scope="session")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users walk along a circle of 40 items; what they write tells the stars they give."""
    import numpy as np

    folder = tmp_path_factory.mktemp("walks")
    (folder / "walks.toml").write_text(WALKS, encoding="utf-8")
    rng = np.random.default_rng(0)
    names = [f"{chr(97 + item % 26)}{chr(97 + item * 7 % 26)} {chr(97 + item // 4)}" for item in range(40)]
    (folder / "products.csv").write_text(
        "sku,name\n" + "".join(f"i{item:02d},{name}\n" for item, name in enumerate(names)), encoding="utf-8"
    )
    lines = ["user,sku,at,stars,words"]
    for user in range(60):
        at = rng.integers(40)
        for step in range(rng.integers(4, 8)):
            good = rng.random() < 0.5
            words = "good fine" if good else "bad sad"
            stars = (5 if good else 2) - (rng.random() < 0.2)
            lines.append(
                f"u{user:02d},i{(at + 7 * step) % 40:02d},2024-01-{step + 1:02d} 0{user % 9}:00:00,{stars},{words}"
            )
    (folder / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
