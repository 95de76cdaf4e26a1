"""The table over many run folders: the first look, a second one, and one after a single run has changed.

    python benchmarks/table.py [--runs 10000]

Folders are copies of one small finished run. The result is seconds of CPU and of wall time; the first look reads every
folder, the second one reads none (`cillab/runs/rows.py`).
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cillab.runs import RunWriter
from cillab.runs.table import table
from tests.runs.test_table import write


def timed(call: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return {"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description="The table over many runs.")
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["CILLAB_CACHE"] = str(Path(place) / "cache")
        root = Path(place) / "runs"
        write(root / "r00000", 0.5)
        writer = RunWriter.resume(root / "r00000")
        writer.status(state="finished")
        writer.release()
        for number in range(1, given.runs):
            shutil.copytree(root / "r00000", root / f"r{number:05d}")
        looks = {"first look": timed(lambda: table(root)), "second look": timed(lambda: table(root))}
        writer = RunWriter.resume(root / "r00007")
        writer.status(state="finished")
        writer.release()
        looks["after one change"] = timed(lambda: table(root))
        print(json.dumps({"runs": given.runs, **looks}, indent=1))


if __name__ == "__main__":
    main()
