"""The rules between the layers (recsys_spark/README, Floors and Layers), checked on the source text."""

import ast
import importlib
import importlib.util
import re
import subprocess
from graphlib import TopologicalSorter
from io import StringIO
from pathlib import Path
from token import NAME
from tokenize import generate_tokens

import pytest

from tests.bench.floors import ALLOWED, JOBS, PACKAGE, package_of
from tests.conftest import ROOT
from tests.write_toml import outdated

STORAGE = {"errors", "lake", "runtime", "start", "sources"}
"""Packages that start, read and store by their nature; everywhere else only steps do."""


# Layers of a package: 0 kernels (arrays only), 1 transformations (lazy), 2 steps (they read, act and publish).
KERNEL, TRANSFORMATION, STEP = 0, 1, 2


def layer_of(module: str | Path) -> int:
    parts = module.relative_to(ROOT).parts if isinstance(module, Path) else tuple(module.split("."))
    if "kernels" in parts or parts[1:2] == ("arrays",):
        return KERNEL
    return STEP if "steps" in parts else TRANSFORMATION


KERNELS = [path for path in PACKAGE if layer_of(path) == KERNEL]


LAZY = [
    path
    for path in PACKAGE
    if layer_of(path) == TRANSFORMATION and package_of(path) not in STORAGE and path.stem not in ("options", "__init__")
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
    """The modules that a file imports, wherever in it; ``from recsys_spark.lake import commits`` names the module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            found |= inner or {node.module}
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path) for path in PACKAGE}


def called_methods(path: Path) -> set[tuple[str, str]]:
    """(object, method) of every call ``object.method(…)``."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    return {(ast.unparse(c.func.value), c.func.attr) for c in calls if isinstance(c.func, ast.Attribute)}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", KERNELS, ids=short)
def test_a_kernel_knows_arrays_only(path):
    assert not {name for name in imports(path) if name.split(".")[0] in {"pyspark", "pandas"}}
    inside = {name for name in imports(path) if name.startswith("recsys_spark.")}
    assert not {name for name in inside if layer_of(name) != KERNEL and name != "recsys_spark.errors"}


@pytest.mark.parametrize("path", LAZY, ids=short)
def test_a_transformation_is_lazy_and_touches_no_storage(path):
    acting = {f"{thing}.{name}" for thing, name in called_methods(path) if name in ACTIONS and thing != "F"}
    assert not acting
    storing = {n for n in imports(path) if n.startswith(("recsys_spark.lake", "recsys_spark.runtime", "deltalake"))}
    assert storing <= {"recsys_spark.runtime.task"}
    assert "SparkSession" not in path.read_text(encoding="utf-8")
    assert not imports(path) & {"time", "datetime.datetime", "sys", "argparse"}


@pytest.mark.parametrize("path", PACKAGE, ids=short)
def test_an_import_goes_to_an_allowed_package_and_never_up_a_layer(path):
    own = package_of(path)
    if not own or path.parent == ROOT / "recsys_spark":
        return
    assert own in ALLOWED, f"the package '{own}' is not in ALLOWED: say what it may import"
    for name in imports(path):
        if name.startswith("recsys_spark."):
            other = package_of(name)
            assert other in {own, *ALLOWED[own].split()}, f"'{own}' must not import '{other}' ({short(path)}: {name})"
            assert layer_of(name) <= layer_of(path) or other == "errors", f"{short(path)} imports {name}: a layer up"
        assert not name.startswith("jobs")


def test_packages_and_modules_import_each_other_without_a_cycle():
    packages = {own: allowed.split() for own, allowed in ALLOWED.items()}
    assert set(packages) == {package_of(path) for path in PACKAGE} - {"__init__", "__main__"}
    assert list(TopologicalSorter(packages).static_order())
    modules = {dotted(path): imports(path) & MODULES - {dotted(path)} for path in PACKAGE}
    assert list(TopologicalSorter(modules).static_order())


@pytest.mark.parametrize("path", JOBS, ids=short)
def test_a_job_only_chooses_and_reports(path):
    assert all(name.startswith("recsys_spark.") for name in imports(path)), "a job imports steps, options and job"
    assert not {node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.BinOp)}


def test_torch_is_imported_in_these_kernels_alone():
    heavy = {short(path) for path in PACKAGE if {n.split(".")[0] for n in imports(path)} & {"torch", "transformers"}}
    encoding = "encoder engines loading model_check packed_linear engine_conversion gguf"
    tuning = "trainable_encoder rating_task contrastive_loss projector_task contrastive_task tracking data_parallel"
    tuning += " language_model language_task head_task"
    rooms = {"encode": encoding, "topk": "torch_product bf16_product", "tune": tuning}
    rooms |= {"training": "checkpoints training_loop rng_state sampled_softmax", "evaluate": "sequence_scores"}
    rooms |= {"sequence": "transformer sequence_task user_encoder"}
    assert heavy == {
        f"recsys_spark/{room}/kernels/{name}.py" for room, names in rooms.items() for name in names.split()
    }


def test_no_clock_but_run_date():
    """``now`` is the age of files of Delta and of packed code, and the time of events: no result depends on it."""
    clocks = re.compile(r"\btime\.time\(|datetime\.now|date\.today|current_date|current_timestamp")
    assert {short(path) for path in PACKAGE if clocks.search(path.read_text(encoding="utf-8"))} <= {
        "recsys_spark/lake/lake.py",
        "recsys_spark/start/package_zip.py",
        "recsys_spark/runtime/lineage.py",
    }


def test_no_spark_save_mode_publishes_anything():
    saving = re.compile(r"\.write\.|\.saveAsTable|\.insertInto|\.writeTo\(|writeStream(?!\.foreachBatch)")
    assert not [short(path) for path in [*PACKAGE, *JOBS] if saving.search(path.read_text(encoding="utf-8"))]


def test_every_job_has_a_toml_and_a_place_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    jobs = {path.stem for path in JOBS}
    assert {path.stem for path in (ROOT / "conf").glob("*.toml")} == jobs
    assert not [job for job in jobs if f"`{job}`" not in readme]


def test_every_toml_file_is_the_one_that_its_job_describes():
    """``python tests/write_toml.py`` writes them."""
    assert outdated() == {}


def test_every_module_can_be_imported():
    for path in PACKAGE:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        importlib.import_module(name)


def test_names_say_what_they_hold():
    """Words of a private dialect, which told no reader what a value is (recsys_spark/README, Vocabulary)."""
    dialect = {"told", "asked", "anew", "gone", "come", "stands", "known"}
    names = [
        (short(path), token.string)
        for path in [*PACKAGE, *JOBS]
        for token in generate_tokens(StringIO(path.read_text(encoding="utf-8")).readline)
        if token.type == NAME
    ]
    assert not [(path, name) for path, name in names if name in dialect]
    assert len([path for path, name in names if name == "found"]) <= 40


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
