r"""CPU seconds of a task against the number of tasks, of classes, and of probe points, without a network in the way.

    python benchmarks/scaling.py [--learners simplecil acil] [--vary tasks classes points] \
        [--most-classes 2000] [--most-tasks 300] [--plot FILE.png]

Images are 8 x 8 pixels and the backbone returns their 192 numbers, so what is measured is everything else: the learner,
the numbers of the probe, and writing. Every class has four training and two test images. Learning and looking are those
of the last task (median over the last three where there are ten or more). Theory: learning a task of simplecil costs
what its images are, and acil adds one factorisation; both are flat in the number of tasks. Looking is linear in the
images seen, and quadratic in classes where it compares all pairs. With 100 classes there are 20 test images of each, so
that up to 2,000 of them can be followed.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cillab.backbones.frozen import Anatomy, FrozenBackbone
from cillab.core.pixels import Preprocessing
from cillab.lab import Lab, engine
from cillab.learners import make_learner
from cillab.runs import Run
from cillab.streams.sources import Source
from cillab.streams.stream import make_stream

import numpy as np
import torch

SIDE, TRAIN = 8, 4


class Codes(Source):
    """A pattern for every class, and noise on it."""

    def __init__(self, classes: int, tests: int) -> None:
        self.name, self.families, self.tests = "codes", None, tests
        self.class_names = tuple(f"class {c}" for c in range(classes))

    def labels(self, split: str) -> np.ndarray:
        """By class."""
        return np.repeat(np.arange(len(self.class_names)), TRAIN if split == "train" else self.tests)

    def ids(self, split: str, index: np.ndarray) -> tuple[str, ...]:
        """Split and row."""
        return tuple(f"{split}/{row}" for row in index)

    def common_size(self, split: str, index: np.ndarray) -> tuple[int, int] | None:
        """All the same."""
        return (SIDE, SIDE)

    def images(self, split: str, index: np.ndarray, canvas: Preprocessing | None = None) -> np.ndarray:
        """Drawn anew whenever they are asked for."""
        found = []
        for row, label in zip(index.tolist(), self.labels(split)[index].tolist(), strict=True):
            pattern = np.random.default_rng(label).integers(40, 216, (3, SIDE, SIDE))
            noise = np.random.default_rng((row, len(split))).integers(-30, 31, (3, SIDE, SIDE))
            found.append((pattern + noise).astype(np.uint8))
        return np.stack(found)

    def digest(self, split: str, index: np.ndarray) -> str:
        """Names are enough here."""
        return f"{split}-{len(index)}"

    def masks(self, split: str, index: np.ndarray, canvas: Preprocessing | None = None) -> None:
        """None."""
        return


class Flat(FrozenBackbone):
    """The pixels themselves."""

    def __init__(self) -> None:
        width = 3 * SIDE * SIDE
        super().__init__(
            torch.nn.Flatten(), tag="flat", anatomy=Anatomy("convnet", (), width, width), precision="fp32",
            device="cpu", preprocessing=Preprocessing(SIDE, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        )  # fmt: skip

    def _forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.module(pixels)

    def _weights(self) -> torch.nn.Module:
        return self.module


def cost(learner: str, classes: int, tasks: int, points: int, tests: int) -> dict[str, float]:
    """CPU milliseconds of learning and of looking in the last task."""
    backbone = Flat()
    stream = make_stream(Codes(classes, tests), split=f"B0-Inc{classes // tasks}", order="natural")
    with tempfile.TemporaryDirectory() as folder:
        made = make_learner(learner, backbone, **({"expansion": 512} if learner == "acil" else {}))
        lab = Lab(stream, made, Path(folder) / "run", probe_points=points, train_probe_per_class=TRAIN,
                  keep_checkpoints="none")  # fmt: skip
        for _ in lab:
            pass
        run = Run(Path(folder) / "run")
        metrics, last = run.metrics(), run.task_steps[-3 if tasks >= 10 else -1 :]
        return {
            name: round(1000 * statistics.median(metrics.over(f"seconds/{name}", last).tolist()), 1)
            for name in ("learn", "probe")
        }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each quantity, both axes logarithmic."""
    from cillab.figures.palette import style, task_colour  # noqa: PLC0415
    from cillab.figures.panels import log_reach  # noqa: PLC0415
    from pictures import save_png  # noqa: PLC0415 - beside this file; a browser only where a plot is asked for

    from plotly.subplots import make_subplots  # noqa: PLC0415

    names = ("tasks", "classes", "points")
    figure = make_subplots(1, 3, shared_yaxes=True, subplot_titles=("300 classes", "10 tasks", "100 classes"))
    for index, learner in enumerate(dict.fromkeys(row["learner"] for row in rows)):
        for column, name in enumerate(names, start=1):
            own = [row for row in rows if row["learner"] == learner and row["varied"] == name]
            for part, dash in (("learn", "solid"), ("probe", "dot")):
                figure.add_scatter(
                    x=[row[name] for row in own], y=[row[part] for row in own], name=f"{learner}: {part}",
                    line={"dash": dash, "width": 2, "color": task_colour(index, "light")}, row=1, col=column,
                    showlegend=column == 1,
                )  # fmt: skip
    style(figure, "light", name="scaling", height=400)
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "yanchor": "top"}, margin={"t": 50, "b": 90})
    for column, (name, words) in enumerate(zip(names, ("tasks", "classes", "probe points"), strict=True), start=1):
        reach = log_reach(np.array([row[name] for row in rows if row["varied"] == name]))
        figure.update_xaxes(title_text=words, row=1, col=column, **reach)
    figure.update_yaxes(**log_reach(np.array([[row["learn"], row["probe"]] for row in rows])))
    figure.update_yaxes(title_text="CPU ms of the last task", row=1, col=1)
    save_png(figure, path, 1000, 420)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="+", default=["simplecil", "acil"])
    parser.add_argument("--vary", nargs="+", default=["tasks", "classes", "points"])
    parser.add_argument("--most-classes", type=int, default=2000)
    parser.add_argument("--most-tasks", type=int, default=300)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    engine.time = SimpleNamespace(**{**vars(time), "perf_counter": time.process_time})  # pyright: ignore - its clock
    cases = [("tasks", 300, tasks, 100) for tasks in (10, 30, 100, 300) if tasks <= asked.most_tasks]
    cases += [("classes", classes, 10, 100) for classes in (100, 200, 500, 1000, 2000) if classes <= asked.most_classes]
    cases += [("points", 100, 5, points) for points in (100, 500, 2000)]
    rows = []
    for learner in asked.learners:
        for varied, classes, tasks, points in (case for case in cases if case[0] in asked.vary):
            rows.append({"learner": learner, "varied": varied, "classes": classes, "tasks": tasks, "points": points,
                         **cost(learner, classes, tasks, points, 20 if varied == "points" else 2)})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    if asked.plot:
        plot(rows, asked.plot)


if __name__ == "__main__":
    main()
