"""The rules between the layers (README, Layout), checked on the source text."""

import ast
import importlib
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

JOBS = sorted((ROOT / "jobs").glob("*.py"))
PACKAGE = sorted((ROOT / "recsys_spark").rglob("*.py"))
KERNELS = [path for path in PACKAGE if path.parent.name == "kernels"]
STEPS = [path for path in PACKAGE if path.parent.name == "steps"]
# Transformations take DataFrames and return DataFrames; the rest of the package's top level starts, stores, reads
# (item_blocks writes the files that joins stream, item_weights makes a frame of their numbers).
TRANSFORMATIONS = [
    ROOT / "recsys_spark" / f"{name}.py"
    for name in (
        "bad_rows",
        "baselines",
        "blocks",
        "changes",
        "codes",
        "comparison",
        "drift",
        "embed",
        "evaluate",
        "forgetting",
        "histories",
        "history_block",
        "hybrid",
        "impressions",
        "incremental",
        "ingest",
        "item_features",
        "lists",
        "losses",
        "prices",
        "profiles",
        "protocols",
        "reasons",
        "recall",
        "recommend",
        "report_facts",
        "rules",
        "showcase",
        "text",
        "times",
        "training_pairs",
        "user_block",
        "vectors",
        "whitening",
    )
]
ACTIONS = {
    "count",
    "collect",
    "cache",
    "persist",
    "show",
    "toPandas",
    "foreach",
    "write",
    "first",
    "head",
    "checkpoint",
}
VAGUE = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def called_methods(path: Path) -> set[tuple[str, str]]:
    """(object, method) of every call ``object.method(…)``."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return {(ast.unparse(c.func.value), c.func.attr) for c in calls if isinstance(c.func, ast.Attribute)}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", KERNELS, ids=short)
def test_a_kernel_knows_arrays_only(path):
    above = {"pyspark", "pandas"}
    assert not {name for name in imports(path) if name.split(".")[0] in above}
    inside = {name for name in imports(path) if name.startswith("recsys_spark")}
    assert all(name.startswith("recsys_spark.kernels") or name == "recsys_spark.errors" for name in inside)


@pytest.mark.parametrize("path", TRANSFORMATIONS, ids=short)
def test_a_transformation_is_lazy_and_touches_no_storage(path):
    acting = {f"{thing}.{name}" for thing, name in called_methods(path) if name in ACTIONS and thing != "F"}
    assert not acting
    assert not {
        n
        for n in imports(path)
        if n.startswith(("recsys_spark.lake", "recsys_spark.job", "recsys_spark.steps", "deltalake"))
    }
    assert "SparkSession" not in path.read_text(encoding="utf-8")
    assert not imports(path) & {"time", "datetime.datetime", "sys", "argparse"}


@pytest.mark.parametrize("path", JOBS, ids=short)
def test_a_job_only_chooses_and_reports(path):
    assert all(name.startswith("recsys_spark.") for name in imports(path)), "a job imports steps, options and job"
    assert not {node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.BinOp)}


@pytest.mark.parametrize("path", [p for p in PACKAGE if p not in STEPS and p not in KERNELS], ids=short)
def test_nothing_below_the_steps_imports_them(path):
    assert not {name for name in imports(path) if name.startswith(("recsys_spark.steps", "jobs"))}


def test_torch_is_imported_in_these_kernels_alone():
    heavy = {short(path) for path in PACKAGE if {n.split(".")[0] for n in imports(path)} & {"torch", "transformers"}}
    encoding = {
        "encoder",
        "engines",
        "loading",
        "model_check",
        "packed_linear",
        "conversion",
        "gguf",
        "torch_product",
        "bf16_product",
    }
    training = {
        "checkpoints",
        "training",
        "tunable",
        "regression",
        "contrastive",
        "projector",
        "random_numbers",
        "encoding_task",
        "tracking",
        "parallel",
    }
    assert heavy == {f"recsys_spark/kernels/{name}.py" for name in encoding | training}


def test_no_clock_but_run_date():
    """``now`` is Delta's file age and the seconds of a report: in two files that no result depends on."""
    clocks = re.compile(r"\btime\.time\(|datetime\.now|date\.today|current_date|current_timestamp")
    assert {short(path) for path in PACKAGE if clocks.search(path.read_text(encoding="utf-8"))} <= {
        "recsys_spark/lake.py"
    }


def test_no_spark_save_mode_publishes_anything():
    saving = re.compile(r"\.write\.|\.saveAsTable|\.insertInto|\.writeTo\(|writeStream")
    assert not [short(path) for path in [*PACKAGE, *JOBS] if saving.search(path.read_text(encoding="utf-8"))]


def test_what_refers_to_the_readme_names_a_heading_of_it():
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [path.read_text(encoding="utf-8") for path in [*PACKAGE, *JOBS, *(ROOT / "conf").glob("*.toml")]]
    named = {name for text in texts for name in re.findall(r"README, \"?([A-Z][a-z]+(?: [a-z]+)*)", text)}
    assert named
    assert named <= set(headings)


def test_every_job_has_a_toml_and_a_place_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    jobs = {path.stem for path in JOBS}
    assert {path.stem for path in (ROOT / "conf").glob("*.toml")} == jobs
    assert not [job for job in jobs if f"`{job}`" not in readme]


@pytest.mark.parametrize("path", JOBS, ids=short)
def test_a_jobs_toml_names_every_key_with_its_default(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    text = (ROOT / "conf" / f"{path.stem}.toml").read_text(encoding="utf-8")
    fields = {name: field for name, field in job.Config.model_fields.items() if name != "dry_run"}
    assert re.findall(r"^(?:# )?(\w+) = ", text, re.MULTILINE) == list(fields)
    written = tomllib.loads(text)
    assert written == {
        name: field.default for name, field in fields.items() if not field.is_required() and field.default is not None
    }


def test_every_module_can_be_imported():
    for path in PACKAGE:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        importlib.import_module(name)


def test_no_vague_names_no_long_bodies_no_long_modules():
    faults = []
    for path in [*PACKAGE, *JOBS]:
        text = path.read_text(encoding="utf-8")
        if path.stem in VAGUE or text.count("\n") > 300:
            faults.append(short(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = [part for part in node.body if not isinstance(getattr(part, "value", None), ast.Constant)]
                if body and body[-1].end_lineno - body[0].lineno >= 40:
                    faults.append(f"{short(path)}: {node.name}")
                assert node.returns is not None, f"{short(path)}: {node.name} has no return annotation"
    assert not faults


def test_the_top_level_is_what_it_is_meant_to_be():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    visible = {name.split("/")[0] for name in tracked if not name.startswith(".")}
    assert visible <= {"jobs", "recsys_spark", "conf", "tests", "setup.py", "spark-submit.sh", "README.md"}
