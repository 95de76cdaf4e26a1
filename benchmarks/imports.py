"""What a process pays before its first image: imports, and `cillab run` until the backbone gets pixels.

Imports are those beyond torch, with torch's compiler and without (`cillab/core/imports.py`). The run is that of
simplecil on all shields.

python benchmarks/imports.py [--rounds 3] [--before CHECKOUT]

`--before` takes another version of this repository in turns. Everything is CPU time of the process, without what
`import torch` took in it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cillab.core.places import cache_dir

IMPORTS = """
import sys, time
if sys.argv[1] == "with":
    import cillab.core.imports
    cillab.core.imports.BESIDE.clear()
import cillab
import torch
began = time.process_time()
import resource
import cillab.backbones.bundled, cillab.lab.prepare, cillab.learners
if sys.argv[1] == "with":
    import timm.optim
spent, most = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(spent, most, "torch._dynamo" in sys.modules)
"""
FIRST = """
import os, sys, time
import cillab
began = time.process_time()
import torch
took = time.process_time() - began
from cillab.backbones.frozen import FrozenBackbone
def embed(backbone, pixels):
    print("FIRST", time.process_time() - took, took, flush=True)
    os._exit(0)
FrozenBackbone._embed = embed
sys.argv = ["cillab", "run", "--learner", "simplecil", "--data", "shields", "--out", sys.argv[1]]
from cillab.__main__ import main
main()
"""


def imported(way: str) -> tuple[float, float]:
    """CPU seconds and megabytes of models, lab and learners."""
    said = subprocess.run([sys.executable, "-c", IMPORTS, way], capture_output=True, text=True, check=True).stdout
    seconds, megabytes, loaded = said.split()
    assert (loaded == "True") == (way == "with"), said
    return float(seconds), float(megabytes)


def first_image(checkout: Path, cache: Path) -> tuple[float, float]:
    """CPU seconds of `cillab run` up to its first image, and of `import torch` in the same process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "CILLAB_CACHE": str(cache)}
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", FIRST, f"{folder}/run"]
        said = subprocess.run(words, capture_output=True, text=True, check=True, env=environment, cwd=checkout).stdout
    _, seconds, torch = next(line for line in said.splitlines() if line.startswith("FIRST")).split()
    return float(seconds), float(torch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="folder of another version of this repository")
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    for _ in range(asked.rounds):
        for way, measured in found.items():
            measured.append(imported(way))
    for way, measured in found.items():
        cpu, memory = (round(statistics.median(values), 2) for values in zip(*measured, strict=True))
        print(json.dumps({"compiler": way, "cpu_s beyond torch": cpu, "peak_mb": memory}), flush=True)
    here = Path(__file__).resolve().parent.parent
    versions = {"this version": here, **({"before": asked.before.resolve()} if asked.before else {})}
    firsts: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    with tempfile.TemporaryDirectory() as folder:
        (cache_dir() / "shields").mkdir(parents=True, exist_ok=True)
        for name in versions:  # a version keeps its own catalogue, and shields are drawn once for all
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "shields").symlink_to(cache_dir() / "shields")
        for turn in range(asked.rounds + 1):
            for name, path in versions.items():
                measured = first_image(path, Path(folder) / name)
                if turn:  # the first one makes the catalogue and compiles the sources
                    firsts[name].append(measured)
    for name, pairs in firsts.items():
        beyond, torch = (round(statistics.median(values), 2) for values in zip(*pairs, strict=True))
        print(json.dumps({"run to its first image": name, "cpu_s beyond torch": beyond, "torch": torch}), flush=True)


if __name__ == "__main__":
    main()
