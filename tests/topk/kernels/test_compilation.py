"""Compiled code on disk: from a zip, by several processes at once, damaged, refused; and without numba."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from recsys_spark.topk.kernels import compilation, cpu_product

ROOT = Path(__file__).parents[3]

LOAD = """
import sys; sys.path.insert(0, sys.argv[1])
from recsys_spark.topk.kernels.compilation import compiled_loops
loops = compiled_loops()
hits = sum(sum(getattr(loops, name).stats.cache_hits.values()) for name in ("append", "thin", "longest", "score"))
import numpy as np
print(loops.longest(np.array([[3, 4]], np.float32)), hits)
"""


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No process-wide memory, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(compilation, "_WORK", [0.0])
    remembered = compilation.compiled_loops, compilation._numba_version, compilation._state
    for function in remembered:
        function.cache_clear()
    yield tmp_path
    for function in remembered:
        function.cache_clear()


def start(path, home, **environment):
    variables = os.environ | {"XDG_CACHE_HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": ""} | environment
    command = [sys.executable, "-c", LOAD, str(path)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, cwd="/")


def loaded(process):
    length, hits = process.communicate()[0].split()
    assert process.returncode == 0
    assert float(length) == 5
    return int(hits)


def test_without_numba_numpy_selects(fresh, monkeypatch):
    monkeypatch.setattr(compilation, "_numba_version", lambda: None)
    assert compilation.compiled_loops() is None
    assert compilation.loops_for(1e15) is None
    monkeypatch.setattr(cpu_product, "multiplies_bf16", lambda: False)
    assert cpu_product.cpu_product(1e15, 1).loops is None


def test_a_numba_that_fails_is_reported_and_numpy_selects(fresh, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "numba", None)  # an import raises ImportError
    assert compilation.compiled_loops() is None
    assert "NumPy selects instead" in caplog.text


def test_little_work_loads_nothing_and_more_work_loads_what_is_compiled(fresh, monkeypatch):
    monkeypatch.setattr(compilation, "_loaded", lambda source, cached: "loops")
    assert compilation.loops_for(4e11) is None
    assert compilation.loops_for(4e11) == "loops"  # compiled: 8e11 in this process
    assert compilation.loops_for(1.0) == "loops"
    compilation.compiled_loops.cache_clear()  # as in the next process
    compilation._WORK[0] = 0.0
    assert compilation.loops_for(2e11) is None
    assert compilation.loops_for(2e11) == "loops"


def test_a_folder_that_others_may_write_to_is_passed_over(fresh, monkeypatch):
    seen = []
    monkeypatch.setattr(compilation, "_loaded", lambda source, cached: seen.append((source, cached)))
    first, second = compilation._folders()
    first.mkdir(parents=True)
    first.chmod(0o777)
    compilation.compiled_loops()
    assert seen == [(second / "compiled_loops.py", True)]


def test_where_nothing_can_be_written_the_loops_are_compiled_for_the_process(fresh, monkeypatch):
    seen = []
    monkeypatch.setattr(compilation, "_loaded", lambda source, cached: seen.append(cached))
    monkeypatch.setattr(compilation, "_folders", lambda: iter([Path("/proc/no/folder"), Path("/dev/null/neither")]))
    compilation.compiled_loops()
    assert seen == [False]


@pytest.mark.slow
def test_code_is_compiled_once_from_a_zip_that_lies_elsewhere_every_time(tmp_path):
    for number, hits in enumerate([0, 4]):
        package = tmp_path / f"application-{number}" / f"recsys_spark-{number}.zip"
        package.parent.mkdir()
        with zipfile.ZipFile(package, "w") as archive:
            for path in (ROOT / "recsys_spark").rglob("*.py"):
                archive.write(path, path.relative_to(ROOT))
        assert loaded(start(package, tmp_path / "home")) == hits


@pytest.mark.slow
def test_several_processes_compile_at_once(tmp_path):
    assert [loaded(process) for process in [start(ROOT, tmp_path) for _ in range(3)]]
    assert loaded(start(ROOT, tmp_path)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"no pickle"])
def test_damaged_code_is_compiled_again(tmp_path, damage):
    loaded(start(ROOT, tmp_path))
    code = [path for path in tmp_path.rglob("*.nb[ci]")]
    assert len(code) == 8
    for path in code:
        path.write_bytes(damage)
    assert loaded(start(ROOT, tmp_path)) == 0
    loaded(start(ROOT, tmp_path))
    assert loaded(start(ROOT, tmp_path)) == 4


@pytest.mark.slow
def test_another_processor_has_code_of_its_own(tmp_path):
    loaded(start(ROOT, tmp_path))
    assert loaded(start(ROOT, tmp_path, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")) == 0
    assert loaded(start(ROOT, tmp_path, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")) == 4
