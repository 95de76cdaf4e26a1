r"""Learning in closed form at 10,000 random features: peak memory in matrices of D x D, time beside a bare loop.

    python benchmarks/observe.py [--learner acil] [--expansion 10000] [--images 256] [--tasks 2] \
        [--before CHECKOUT --rounds 3]

Each measurement is a process of its own: it loads everything, lets the first task pass, forgets the peak that this left
(Linux) and learns the tasks behind it. `matrices` is the peak resident size above what was there before the first task,
in float64 matrices of D x D (800 MB at 10,000); two are unavoidable, the sums as they were, which undoing a task
needs, and those with it. `bare` adds Phi^T Phi in place and factors a copy, and can undo nothing. With `--before` the
same is asked of another checkout of cillab, in turns; the ratios are of the medians of processor time, which a busy
machine disturbs less than the clock. Features are random numbers: the backbone is not part of the question.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[1]
CHILD = """
import json, sys, time
from pathlib import Path
import cillab
import torch
from cillab.backbones import make_backbone
from cillab.learners import learners

way, learner, expansion, images, tasks = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
backbone = make_backbone("bundled:vit", precision="fp32", device="cpu")
rng = torch.Generator().manual_seed(0)

class Random(cillab.core.contract.Task):
    def __init__(self, index, classes=10):
        self.index, self.classes = index, tuple(range(index * classes, (index + 1) * classes))
        self.class_names = {c: str(c) for c in self.classes}
        self.images = torch.randint(0, 256, (images, 3, 64, 64), generator=rng, dtype=torch.uint8)
        self.labels = torch.arange(images) % classes + index * classes
    def __len__(self):
        return len(self.labels)
    def batches(self, batch_size, shuffle=None):
        yield from zip(self.images.split(batch_size), self.labels.split(batch_size))

def bare(task, state):
    with torch.no_grad():
        h = torch.cat([backbone(x) for x, _ in task.batches(128)])
        phi = torch.relu(h @ state["R"]).double()
    state["G"].addmm_(phi.T, phi)
    state["Q"].index_add_(1, task.labels, phi.T.contiguous())
    system = state["G"].clone()
    system.diagonal().add_(10.0)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve(state["Q"], factor)

def status(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith(name)))

given = [Random(index) for index in range(tasks + 1)]
with torch.no_grad():  # features are remembered: what follows is the learner alone
    for task in given:
        for x, _ in task.batches(128):
            backbone(x)
before = status("VmRSS")  # torch writes the zeros that it makes, so what is made from here on counts
if way == "bare":
    state = {"R": torch.randn(backbone.feature_dim, expansion, generator=rng),
             "G": torch.zeros(expansion, expansion, dtype=torch.float64),
             "Q": torch.zeros(expansion, 10 * (tasks + 1), dtype=torch.float64)}
    take = lambda task: bare(task, state)
else:
    cls = learners[learner]
    made = cls(backbone, cls.Params.model_validate({"expansion": expansion, "gamma": 10.0}), seed=0)
    take = lambda task: [None for _ in made.observe(task)]
take(given[0])
Path("/proc/self/clear_refs").write_text("5")
wall, cpu = time.perf_counter(), time.process_time()
for task in given[1:]:
    take(task)
print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu,
                  "matrices": (status("VmHWM") - before) / (8 * expansion**2)}))
"""


def measured(way: str, tree: Path, options: argparse.Namespace) -> dict[str, float]:
    """One process of `tree` that learns the tasks."""
    command = [sys.executable, "-c", CHILD, way, options.learner]
    command += [str(options.expansion), str(options.images), str(options.tasks)]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way} in {tree} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learner", default="acil")
    parser.add_argument("--before", type=Path, help="another checkout of cillab")
    for name, default in (("expansion", 10_000), ("images", 256), ("tasks", 2), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    ways = {"bare": ("bare", HERE), "ours": ("ours", HERE)}
    if options.before is not None:
        ways["before"] = ("ours", options.before.resolve())
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for turn in range(options.rounds):
        for name in list(ways) if turn % 2 else list(ways)[::-1]:
            found[name].append(measured(*ways[name], options))
    table = {
        name: {key: round(statistics.median(one[key] for one in runs), 2) for key in runs[0]}
        for name, runs in found.items()
    }
    ratios = {name: round(table["ours"]["cpu_s"] / table[name]["cpu_s"], 3) for name in table if name != "ours"}
    asked = {name: getattr(options, name) for name in ("learner", "expansion", "images", "tasks", "rounds")}
    print(json.dumps({"benchmark": "observe", **asked, "found": table, "cpu_ratio_to": ratios}))


if __name__ == "__main__":
    main()
