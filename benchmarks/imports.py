"""What importing models and learners costs beyond torch, with torch's compiler and without (`cillab/core/imports.py`).

python benchmarks/imports.py [--rounds 3]
"""

import argparse
import json
import statistics
import subprocess
import sys

CODE = """
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
    for _ in range(rounds):
        for way, measured in found.items():
            said = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True).stdout
            seconds, megabytes, loaded = said.split()
            assert (loaded == "True") == (way == "with"), said
            measured.append((float(seconds), float(megabytes)))
    for way, measured in found.items():
        cpu, memory = (round(statistics.median(values), 2) for values in zip(*measured, strict=True))
        print(json.dumps({"compiler": way, "cpu_s beyond torch": cpu, "peak_mb": memory}))


if __name__ == "__main__":
    main()
