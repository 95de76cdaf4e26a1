"""What the process of the server is told."""

import json
import os
import subprocess
import sys

from tests.app.conftest import ROOT

ASK = """
import json, numpy
from threadpoolctl import threadpool_info
from app.ui.server import one_thread_each
threads = lambda: [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
before = threads()
one_thread_each()
print(json.dumps([before, threads()]))
"""


def test_matrix_products_take_one_thread() -> None:
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=120
    )
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert max(before) == 2
    assert set(after) == {1}
