"""The pages, checked against the code: links, headings that messages name, files, commands, examples, the floors."""

import ast
import importlib
import os
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import pytest

from recsys_spark.errors import UsageError
from recsys_spark.runtime.config import ENVIRONMENT_PREFIX, load
from recsys_spark.sources.dataset_file import Dataset, load_dataset
from tests.bench.floors import ALLOWED, GROUND, JOBS, PACKAGE, package_of
from tests.conftest import ROOT
from tests.write_toml import job_of

CHANGELOG = ROOT / ".github" / "CHANGELOG.md"
HISTORY = [ROOT / "tests" / "benchmarks" / name for name in ("LOG.md", "QUALITY.md")]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / ".github").glob("*.md")),
    *sorted((ROOT / "recsys_spark").rglob("*.md")),
    ROOT / "conf" / "README.md",
    ROOT / "conf" / "deploy" / "README.md",
    ROOT / "tests" / "README.md",
    *HISTORY,
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|toml|md|html)|\w+\.(?:py|html))`")
PLACEHOLDER = re.compile("JOB|LAKE|PACKAGE")
REFERENCE = re.compile(r"(?:(\w+)/)?README(?:\.md)?, [\"“]?(?=([A-Z].{,60}))")
COMMAND = re.compile(r"\./spark-submit\.sh ([^`\n]*)")


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def headings(page: Path) -> list[str]:
    """The headings below the title; a comment in a block of code is none."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#{2,} (.+)$", text, re.MULTILINE)


def anchor(heading: str) -> str:
    """As forges make it: small letters, hyphens for spaces, no other marks."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# --- links, files, headings ---


def broken_links(page: Path) -> list[str]:
    """Relative links to a file, folder or heading that is not there."""
    found = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, wanted = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (wanted and wanted not in map(anchor, headings(target))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_a_link_leads_to_a_file_and_a_heading(page):
    assert not broken_links(page)


def test_a_link_to_nothing_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n[a](#here) [b](#there) [c](none.md) [d](page.md#here)\n## Here\n", encoding="utf-8")
    assert broken_links(page) == ["#there", "none.md"]


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY], ids=short)
def test_a_file_that_a_page_names_is_there(page):
    folders = [page.parent, ROOT, ROOT / "recsys_spark", ROOT / "tests"]
    named = [name for name in PATH.findall(page.read_text(encoding="utf-8")) if not PLACEHOLDER.search(name)]
    assert not [name for name in named if not any((folder / name).is_file() for folder in folders)]


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = {link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8"))}
        pages = {(page.parent / link).resolve() for link in links if link.endswith(".md")}
        waiting += pages - reached
    assert set(PAGES) <= reached


def page_of(name: str) -> Path:
    """The page that a message calls NAME/README, or README."""
    if name in ("", "recsys_spark", "conf", "tests"):
        return ROOT / name / "README.md"
    return ROOT / "recsys_spark" / name / "README.md"


def references(text: str) -> list[tuple[str, str]]:
    """(page, heading and what follows it) of each "README, Heading" or "PACKAGE/README, Heading"."""
    joined = re.sub(r"\"\s*\n\s*[rf]*\"", "", text)  # a string that goes on in the next line
    return REFERENCE.findall(re.sub(r"\s*\n#? *", " ", joined))


def wrong_references(text: str) -> list[str]:
    """References to a page or a heading that is not there."""
    found = []
    for name, words in references(text):
        page = page_of(name)
        known = headings(page) if page.is_file() else []
        if not any(re.match(rf"{re.escape(heading)}(?!\w)", words) for heading in known):
            found.append(f"{name}/README, {words[:30]}")
    return found


def test_a_message_that_names_a_page_names_a_heading_of_it():
    texts = {short(path): path.read_text(encoding="utf-8") for path in [*PACKAGE, *JOBS, *(ROOT / "conf").rglob("*.*")]}
    assert sum(len(references(text)) for text in texts.values()) > 3
    assert not {name: wrong for name, text in texts.items() if (wrong := wrong_references(text))}


def test_a_message_that_names_no_heading_is_found():
    good = 'x = "see (README, Which scorer) and encode/README, Prompts; make it (README, "\n    "How it works)"'
    assert (len(references(good)), wrong_references(good)) == (3, [])
    assert (
        len(wrong_references("README, The flow. encode/README, Which scorer. README, Jobsite. none/README, Jobs")) == 4
    )


# --- the README itself ---


def test_the_readme_is_short_enough_to_be_read():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 190
    assert not [number for number, line in enumerate(lines, 1) if len(line) > 120]


def test_the_floors_of_the_architecture_page_are_the_rules():
    text = (ROOT / "recsys_spark" / "README.md").read_text(encoding="utf-8").partition("## Layers")[0]
    rows = re.findall(r"^\| \[?`(\w+)`.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert {name: set(imports.replace("ground", GROUND).replace("–", "").split()) for name, imports in rows} == {
        name: set(imports.split()) for name, imports in ALLOWED.items()
    }
    assert [name for name, _ in rows] == list(ALLOWED)


def test_every_package_stands_in_the_tree_of_the_readme():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Packages")[2]
    words = set(re.findall(r"\w+", tree.partition("## More")[0]))
    assert {package_of(path) for path in PACKAGE} - {"__init__", "__main__"} <= words


# --- commands and examples ---


def commands(page: Path) -> list[str]:
    """What follows ./spark-submit.sh, in blocks of code and in sentences; a line may go on in the next one."""
    text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
    return COMMAND.findall(text)


OTHER_OPTIONS = {"help", "config", "slow", "master", "deploy", "archives", "texts", "grow", "minutes"}
"""Of every job, of Spark, of tests and benchmarks."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in [*HISTORY, CHANGELOG]], ids=short)
def test_a_key_that_a_page_names_is_a_key_of_a_job(page):
    keys = {key for job in JOBS for key in config_of(job.stem).model_fields}
    named = set(re.findall(r"`--(\w+)", page.read_text(encoding="utf-8")))
    assert named <= keys | OTHER_OPTIONS


@cache
def config_of(job: str) -> type:
    return job_of(ROOT / "jobs" / f"{job}.py").options


def faults_of(command: str) -> list[str]:
    """What is wrong with a command: the job, its keys and their values. "…" stands for keys that are left out."""
    job, *arguments = shlex.split(command, comments=True)
    if job in ("JOB", "--help"):
        return []
    if not (ROOT / "jobs" / f"{job}.py").is_file():
        return [f"there is no job {job}"]
    arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    given = [argument for argument in arguments if argument not in ("…", "--help")]
    dataset = next((value for argument in given if (value := argument.removeprefix("--dataset=")) != argument), None)
    if dataset and not dataset.endswith(".toml"):
        load_dataset(dataset)
    try:
        load(config_of(job), job, given, None)
    except UsageError as error:
        faults = [line for line in str(error).splitlines() if line.startswith("  - ")]
        partial = len(given) < len(arguments)
        return [line for line in faults if not (partial and "is missing" in line)]
    return []


@pytest.mark.parametrize(
    ("page", "command"),
    [pytest.param(page, command, id=f"{short(page)}: {command[:60]}") for page in PAGES for command in commands(page)],
)
def test_a_command_of_a_page_is_understood_by_its_job(page, command, monkeypatch):
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    assert not faults_of(command)


def test_a_command_with_a_mistake_is_found():
    assert not faults_of("recommend_items … --k=3 -- --master yarn  # a comment")
    assert "unknown key 'kk'" in faults_of("recommend_items … --kk=3")[0]
    assert "lake is missing" in faults_of("recommend_items --run_date=2018-01-01")[0]
    assert "k (command line)" in faults_of("recommend_items … --k=many")[0]
    assert faults_of("recomend_items …") == ["there is no job recomend_items"]
    with pytest.raises(UsageError, match="movielens_small"):
        faults_of("ingest_tables … --dataset=movielens_smal")


def test_the_dataset_file_of_the_readme_is_one():
    (text,) = blocks(ROOT / "README.md", "toml")
    assert Dataset.model_validate(tomllib.loads(text)).items.text


def test_names_that_examples_import_are_there():
    modules = [node for page in PAGES for block in blocks(page, "python") for node in ast.walk(ast.parse(block))]
    imports = [node for node in modules if isinstance(node, ast.ImportFrom)]
    assert imports
    for node in imports:
        module = importlib.import_module(node.module)
        assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
