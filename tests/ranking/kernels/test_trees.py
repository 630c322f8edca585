"""The library of the trees: what it brings along, and what it must not need."""

import subprocess
import sys

import pytest

SHOW = """
import sys
import xgboost
print(*{line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line})
print(*sorted({"pandas", "sklearn"} & sys.modules.keys()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_trees_need_no_openmp_of_the_system():
    """A slim image has no libgomp.so.1: the wheel brings its own, under a name of its own."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    libraries, imported = done.stdout.split("\n")[:2]
    assert libraries
    assert all("site-packages" in path or "dist-packages" in path for path in libraries.split()), libraries
    assert imported == ""
