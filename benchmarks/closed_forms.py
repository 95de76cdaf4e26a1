r"""Closed forms at the papers' sizes: memory said before it is taken, and what was taken.

    python benchmarks/closed_forms.py [--cases ridge-16384x100 ridge-10000x1000 gaussians] [--images 512]

`ridge-DxK` is the analytic head of acil, ranpac and min on D random features and K classes: two tasks of `--images`
images with half of the classes each, a solution after each. `gaussians` is the memory of 1,000 classes of 768 features
that is kept in place of images, by kind; features of 50 classes are drawn from it. Each case is a process of its own.
`said_gb` is the rule that a request is refused by (`must_fit`), for Gaussians what is kept; `peak_gb`
is the peak resident size above what was there before (Linux). Numbers are random: no backbone is in the way.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
CHILD = """
import json, sys, time
from pathlib import Path
import cillab
import torch
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.least_squares import RandomFeatures, Ridge, bytes_while_learning

kind, images = sys.argv[1], int(sys.argv[2])
rng = torch.Generator().manual_seed(0)

def resident(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith(name)))

def report(**found):
    found["peak_gb"] = round((resident("VmHWM") - before) / 1e9, 2)
    print(json.dumps({"case": kind, **found}), flush=True)

torch.linalg.cholesky(torch.eye(8, dtype=torch.float64))  # libraries load what they load
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
spent = lambda: round(time.process_time() - began, 1)
if kind.startswith("ridge"):
    expansion, classes = map(int, kind.removeprefix("ridge-").split("x"))
    said = bytes_while_learning(expansion)
    print(f"{kind}: will take {said / 1e9:.1f} GB", file=sys.stderr, flush=True)
    reads = RandomFeatures(768, expansion, "uniform", rng, torch.device("cpu"))
    head, seconds = Ridge(expansion, 10.0, reads=reads), {"add": 0.0, "solve": 0.0}
    for task in range(2):
        h = torch.randn(images, 768, generator=rng)
        labels = torch.arange(images) % (classes // 2) + task * (classes // 2)
        kept = head.gram  # what undoing a task needs
        began = time.process_time()
        head.grow(tuple(range(task * (classes // 2), (task + 1) * (classes // 2))))
        head.add(h, labels)
        seconds["add"] = spent()
        began = time.process_time()
        head.solve()
        seconds["solve"] = spent()
    right = float((head(h).argmax(dim=1) == labels).double().mean())
    report(said_gb=round(said / 1e9, 2), cpu_s=seconds, training_images_right=right)
else:
    began, memory = time.process_time(), GaussianMemory(768, kind)
    for start in range(0, 1000, 50):
        memory.add(torch.randn(50 * 40, 768, generator=rng), torch.arange(50 * 40) % 50 + start)
    kept = sum(t.numel() * t.element_size() for t in memory.state().tensors.values())
    learnt = spent()
    began = time.process_time()
    memory.sample(20, rng, tuple(range(50)))
    report(said_gb=round(kept / 1e9, 3), cpu_s={"add": learnt, "draw": spent()})
"""
GAUSSIANS = ("low-rank", "pooled", "diagonal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["ridge-16384x100", "ridge-10000x1000", "gaussians"])
    parser.add_argument("--images", type=int, default=512)
    asked = parser.parse_args()
    for case in asked.cases:
        for kind in GAUSSIANS if case == "gaussians" else (case,):
            subprocess.run([sys.executable, "-c", CHILD, kind, str(asked.images)], cwd=HERE, check=True)


if __name__ == "__main__":
    main()
