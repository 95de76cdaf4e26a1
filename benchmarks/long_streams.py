"""CPU seconds of each of 300 tasks: closed-form learners on a stream whose classes return twice.

    python benchmarks/long_streams.py [--learners simplecil acil] [--plot docs/images/long_streams.png]

Shields, one class a task, three rounds (`revisit`): after task 100 the number of classes stands still. In theory
simplecil adds a task's features to sums, acil adds them to a Gram matrix and solves once, so learning costs the same in
every task; the probe looks at all classes seen, so it costs what their number is. The features of an image are computed
once. `whole` is all of a task, what it writes included. Reported are medians over spans of tasks and their ratios in
one run; 1 means flat. CPU time of the process is counted, not time on the clock. Other work on the machine still moves
it, through caches and shared cores, so beside the times stands what it cannot move: bytes of a task's snapshot, and
rounds of the garbage collector over all objects.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

from cillab.lab import Lab, RunSpec, engine
from cillab.runs import Run

import numpy as np

SPANS = (10, 100, 200, 300)  # tasks 10 to 99 bring classes, 100 to 299 return
COUNTED = ("bytes", "rounds")  # the same whatever else the machine does


def seconds_of(learner: str, images: int, tests: int, folder: Path) -> dict[str, list[float]]:
    """CPU seconds of learning, of the probe and of everything, by task; bytes written, and garbage collections."""
    engine.time = SimpleNamespace(**{**vars(time), "perf_counter": time.process_time})  # pyright: ignore - its clock
    spec = RunSpec.of({
        "learner": learner, "data": "shields", "split": "B0-Inc1", "scenario": {"name": "revisit", "rounds": 3},
        "train_per_class": images, "test_per_class": tests, "train_probe_per_class": 1, "probe_points": 100,
        "keep_checkpoints": "none", "precision": "fp32", "device": "cpu", "out": str(folder / learner),
        "params": {"expansion": 256} if learner == "acil" else {},
    })  # fmt: skip
    marks, rounds = [time.process_time()], [gc.get_stats()[-1]["collections"]]
    for _ in Lab.from_spec(spec):
        marks.append(time.process_time())
        rounds.append(gc.get_stats()[-1]["collections"])
    found = seconds_in(folder / learner)
    return found | {"whole": [b - a for a, b in pairwise(marks)], "rounds": [float(b - a) for a, b in pairwise(rounds)]}


def seconds_in(folder: Path) -> dict[str, list[float]]:
    """The same of a run that is there, as far as it has come."""
    run = Run(folder)
    metrics, steps = run.metrics(), run.task_steps
    found = {name: metrics.over(f"seconds/{name}", steps).tolist() for name in ("learn", "probe")}
    return found | {"bytes": [float(sum(f.stat().st_size for f in folder.glob(f"steps/{s}*"))) for s in steps]}


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Medians in milliseconds over the spans, and each over the last."""
    found: dict[str, dict[str, float]] = {}
    for name, values in seconds.items():
        unit, factor = ("", 1) if name in COUNTED else (", ms", 1000)
        middle = statistics.mean if name == "rounds" else statistics.median
        spans = [factor * middle(values[a:b]) for a, b in pairwise(SPANS) if len(values) > a]
        named = zip(pairwise(SPANS), spans, strict=False)
        found[name] = {f"tasks {a}-{min(b, len(values)) - 1}{unit}": round(v, 2) for (a, b), v in named}
        if len(spans) == len(SPANS) - 1 and spans[1]:
            found[name] |= {"last over middle": round(spans[2] / spans[1], 2)}
    return found


def plot(measured: dict[str, dict[str, list[float]]], path: Path) -> None:
    """A running median of each curve, drawn by the package's figures in Chromium."""
    from cillab.figures.palette import style, task_colour  # noqa: PLC0415
    from cillab.figures.panels import log_reach  # noqa: PLC0415
    from pictures import save_png  # noqa: PLC0415 - beside this file; a browser only where a plot is asked for

    import plotly.graph_objects as go  # noqa: PLC0415

    figure, drawn = go.Figure(), []
    for index, (learner, seconds) in enumerate(measured.items()):
        for name, dash in (("learn", "solid"), ("probe", "dot")):
            smooth = [statistics.median(seconds[name][max(0, t - 4) : t + 5]) for t in range(len(seconds[name]))]
            drawn += [1000 * s for s in smooth]
            figure.add_scatter(
                y=drawn[-len(smooth) :], name=f"{learner}: {name}", mode="lines",
                line={"dash": dash, "width": 2, "color": task_colour(index, "light")},
            )  # fmt: skip
    style(figure, "light", name="long_streams", height=380)
    figure.update_xaxes(title_text="task (from task 100 on classes return)")
    figure.update_yaxes(title_text="CPU milliseconds, running median of 9 tasks", **log_reach(np.array(drawn)))
    save_png(figure, path, 900, 420)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="+", default=["simplecil", "acil"])
    parser.add_argument("--train-per-class", type=int, default=6)
    parser.add_argument("--test-per-class", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--read", nargs="+", type=Path, help="folders of runs that are there, instead of new ones")
    arguments = parser.parse_args()
    measured: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in arguments.read or ():
            measured[path.name] = seconds_in(path)
            print(json.dumps({"learner": path.name, **summary(measured[path.name])}), flush=True)
        for learner in arguments.learners if not arguments.read else ():
            measured[learner] = seconds_of(learner, arguments.train_per_class, arguments.test_per_class, Path(folder))
            print(json.dumps({"learner": learner, **summary(measured[learner])}), flush=True)
    if arguments.plot:
        plot(measured, arguments.plot)


if __name__ == "__main__":
    main()
