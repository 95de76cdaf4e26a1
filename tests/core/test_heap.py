"""A run keeps the memory that it frees, unless the user has said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from cillab.core import heap

CHURN = """
import sys, resource
import numpy
from cillab.core import heap
if "keep" in sys.argv:
    assert heap.keep() is ("MALLOC_TOP_PAD_" not in __import__("os").environ)
def churn():
    for _ in range(20):
        arrays = [numpy.ones(2_500_000) for _ in range(3)]
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
OPENS = """
import cillab
from cillab.core import heap
stream, backbone = cillab.stream("shields", split="B0-Inc10"), cillab.backbone("bundled:vit")
assert not heap.keep.cache_info().currsize
cillab.Lab(stream, cillab.learner("simplecil", backbone), out="run")
assert heap.keep.cache_info().currsize
"""


def faults(*said: str, **more: str) -> int:
    """Page faults of 60 arrays of 20 MB, three at a time, after as many before them."""
    env = {name: value for name, value in os.environ.items() if name not in heap.USERS} | more
    done = subprocess.run([sys.executable, "-c", CHURN, *said], env=env, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told")
def test_freed_memory_is_used_again_without_a_page_fault() -> None:
    assert faults() > 500  # 60 arrays of 10 huge pages at the least
    assert faults("keep") < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told")
def test_what_the_user_has_set_stays() -> None:
    assert faults("keep", MALLOC_TOP_PAD_="1000") > 500


def test_without_glibc_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not heap.keep.__wrapped__()


def test_a_lab_asks_for_it(tmp_path) -> None:
    subprocess.run([sys.executable, "-c", OPENS], cwd=tmp_path, check=True)
