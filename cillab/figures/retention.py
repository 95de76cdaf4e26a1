"""Deep and shallow forgetting: is it gone from the features, or does only the head no longer find it?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, GROUND, SECOND, THIRD, Theme, cursor
from cillab.figures.panels import finished, grid, reach, title
from cillab.figures.picture import Picture
from cillab.figures.words import MINUS, empty, percent
from cillab.runs import Run, parse_step

_HEADS = (("accuracy/row", "the learner's head"), ("accuracy/nme", "nearest mean"), ("accuracy/fresh", "fresh ridge"))


@dataclass(frozen=True, eq=False)
class Retention:
    """R[t, j] of three heads on the same features; NaN above the diagonal and where not measured."""

    tasks: int
    matrices: tuple[Float64[np.ndarray, "task task"], ...]  # in the order of `_HEADS`
    sizes: tuple[int, ...]

    def split(self, at: int) -> tuple[Float64[np.ndarray, " old"], Float64[np.ndarray, " old"]]:
        """Deep and shallow forgetting of the tasks before `at`: fresh[j, j] - fresh[t, j], and the head's minus that."""
        head, _, fresh = self.matrices
        old = range(at)
        total = np.array([head[j, j] - head[at, j] for j in old], np.float64)
        deep = np.array([fresh[j, j] - fresh[at, j] for j in old], np.float64)
        return deep, total - deep


def read_retention(run: Run) -> Retention | None:
    """The matrices of all tasks so far, or None for a run without fresh heads."""
    steps = run.task_steps
    if not steps or "accuracy/fresh" not in run.snapshot(steps[-1]):
        return None
    matrices = []
    for name, _ in _HEADS:
        matrix = np.full((len(steps), len(steps)), np.nan)
        for row, step in enumerate(steps):
            values = np.asarray(run.snapshot(step).get(name, np.zeros(0)), np.float64)
            matrix[row, : len(values)] = values
        matrices.append(matrix)
    return Retention(len(run.info.tasks), tuple(matrices), run.info.sizes[: len(steps)])


def draw_retention(data: Retention, at: int | None = None, theme: Theme = "light") -> Picture:
    """Left what each old task lost, in two parts; right the accuracy of three heads on the same features."""
    done = len(data.matrices[0])
    row = done - 1 if at is None else min(at, done - 1)
    figure, cells = grid(2, 2)
    parts = [data.split(t) for t in range(1, done)]
    if row:
        deep, shallow = data.split(row)
        x = np.arange(1, row + 1)
        for values, name, colour, pattern in (
            (deep, "deep: gone from the features", SECOND[theme], ""),
            (shallow, "shallow: lost by the head only", ACCENT[theme], "/"),
        ):
            figure.add_bar(
                x=x,
                y=values.astype(np.float32),
                name=name,
                row=1,
                col=1,
                width=0.7,
                marker={
                    "color": colour,
                    "cornerradius": 3,
                    "pattern": {
                        "shape": pattern,
                        "fillmode": "overlay",
                        "fgcolor": GROUND[theme],
                        "fgopacity": 0.45,
                        "size": 6,
                        "solidity": 0.3,
                    },
                },
                hovertemplate=f"task %{{x}}<br>{name.split(':')[0]} <b>%{{y:.1%}}</b><extra></extra>",
            )
    else:
        figure.add_annotation(
            text="nothing to forget yet", x=0.5, y=0.5, xref="x domain", yref="y domain", row=1, col=1
        )
    weights = np.asarray(data.sizes, np.float64)
    seen = [
        np.array([m[t, : t + 1] @ weights[: t + 1] / weights[: t + 1].sum() for t in range(done)])
        for m in data.matrices
    ]
    looks = ((ACCENT, "solid", "circle"), (THIRD, "dash", "square"), (SECOND, "dot", "diamond"))
    for values, (_, name), (colour, dash, mark) in zip(seen, _HEADS, looks, strict=True):
        figure.add_scatter(
            x=np.arange(1, done + 1),
            y=values.astype(np.float32),
            name=name,
            mode="lines+markers",
            row=1,
            col=2,
            line={"color": colour[theme], "width": 2, "dash": dash},
            marker={"symbol": mark, "size": 6},
            hovertemplate=f"{name}<br>after task %{{x}}<br><b>%{{y:.1%}}</b><extra></extra>",
        )
    title(figure, cells[0], "forgotten by task", "since it was learnt", theme)
    title(figure, cells[1], "accuracy on seen classes", "three heads, same features", theme)
    finished(figure, theme, "retention", 1, height=370, barmode="relative", legend={"y": 1.2})
    figure.update_layout(margin={"t": 96})
    figure.update_xaxes(
        title_text="task", range=[0.4, data.tasks + 0.6], dtick=1 if data.tasks <= 12 else 5, showgrid=False
    )
    ends = [
        np.zeros(1),
        *(
            np.array([np.clip(d, 0, None) + np.clip(s, 0, None), np.clip(d, None, 0) + np.clip(s, None, 0)])
            for d, s in parts
        ),
    ]
    figure.update_yaxes(range=reach(*ends, high=0.05), tickformat=".0%", zeroline=True, row=1, col=1)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", row=1, col=2)
    cursor(figure, row + 1, theme, rows=[(1, 2)])
    notes = (
        "Deep: what a ridge fitted now on training images of all classes seen (an oracle) lost since the task was learnt;"
        " shallow: the head's loss beyond that. Both count the growing number of classes.",
        "Nearest mean: training means measured now, also an oracle. The gap of the head below it is misalignment.",
    )
    return Picture(figure, _sentence(data, row), notes)


def _sentence(data: Retention, row: int) -> str:
    if not row:
        return "After the first task nothing can be forgotten yet."
    deep, shallow = (float(np.mean(values)) for values in data.split(row))
    text = (
        f"After task {row + 1}, old tasks lost {percent(deep + shallow)} on average: {percent(deep)} is gone from the"
    )
    return f"{text} features (deep), {percent(shallow)} is lost by the head only (shallow).".replace("-", MINUS)


def retention(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Deep and shallow forgetting of a run at `step` (default: the last)."""
    data = read_retention(run) if run.steps else None
    if data is None:
        return empty("retention", "This run holds no fresh heads." if run.steps else "No step yet.", theme)
    at = (parse_step(run.resolve(step)) or (0,))[0] if step is not None else None
    return draw_retention(data, at, theme)
