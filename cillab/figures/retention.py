"""Deep and shallow forgetting: not found by a fresh head, lost to more classes, or only not found by the own head?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, GROUND, MUTED, SECOND, THIRD, Theme, cursor
from cillab.figures.panels import finished, grid, line, missing, reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import MINUS, percent
from cillab.runs import Run, parse_step

_HEADS = (("accuracy/row", "the learner's head"), ("accuracy/nme", "nearest mean"), ("accuracy/fresh", "fresh ridge"))
_THEN = "accuracy/fresh_then"


@dataclass(frozen=True, eq=False)
class Retention:
    """R[t, j] of three heads on the same features; NaN above the diagonal and where not measured."""

    tasks: int
    matrices: tuple[Float64[np.ndarray, "task task"], ...]  # in the order of `_HEADS`
    then: Float64[np.ndarray, "task task"]  # fresh ridge among the classes there were when task j had been learnt
    sizes: tuple[int, ...]

    def split(self, at: int) -> Float64[np.ndarray, "3 old"]:
        """What the head lost of each task j before `at` since it was learnt, in three parts that add up to it.

        deep = then[j, j] - then[t, j]        crowding = then[t, j] - fresh[t, j]        shallow = the rest
        """
        head, _, fresh = self.matrices
        old = np.arange(at)
        total, then = np.diag(head)[:at] - head[at, :at], self.then
        deep, crowding = then[old, old] - then[at, :at], then[at, :at] - fresh[at, :at]
        return np.stack([deep, crowding, total - deep - crowding])


def read_retention(run: Run) -> Retention:
    """The matrices of all tasks so far."""
    steps = run.task_steps
    if not steps or _THEN not in run.snapshot(steps[-1]):
        raise Nothing
    matrices = []
    for name in (*(name for name, _ in _HEADS), _THEN):
        matrix = np.full((len(steps), len(steps)), np.nan)
        for row, step in enumerate(steps):
            values = np.asarray(run.snapshot(step).get(name, np.zeros(0)), np.float64)
            matrix[row, : len(values)] = values
        matrices.append(matrix)
    return Retention(len(run.info.tasks), tuple(matrices[:-1]), matrices[-1], run.info.sizes[: len(steps)])


@figure(
    title="Three kinds of forgetting",
    page="drift",
    needs=("accuracy/fresh_then",),
    lacks="This run holds no fresh heads.",
    quantities=("probe_retention", "split_forgetting"),
)
def retention(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Deep and shallow forgetting of a run at `step` (default: the last).

    Left what each old task lost, in three parts; right the accuracy of three heads on the same features.
    """
    data = read_retention(run)
    done = len(data.matrices[0])
    row = done - 1 if step is None else min((parse_step(run.resolve(step)) or (0,))[0], done - 1)
    figure, cells = grid(2, 2)
    parts = [data.split(t) for t in range(1, done)]
    if row:
        deep, crowding, shallow = data.split(row)
        x = np.arange(1, row + 1)
        for values, name, colour, pattern in (
            (deep, "deep: a fresh head no longer finds it", SECOND[theme], ""),
            (crowding, "crowding: more classes to choose from", MUTED[theme], "."),
            (shallow, "shallow: lost by the head only", ACCENT[theme], "/"),
        ):
            look = {"shape": pattern, "fillmode": "overlay", "fgcolor": GROUND[theme], "fgopacity": 0.45, "size": 6}
            figure.add_bar(
                x=x, y=values.astype(np.float32), name=name, row=1, col=1, width=0.7,
                marker={"color": colour, "cornerradius": 3, "pattern": look | {"solidity": 0.3}},
                hovertemplate=f"task %{{x}}<br>{name.split(':')[0]} <b>%{{y:.1%}}</b><extra></extra>",
            )  # fmt: skip
    else:
        missing(figure, cells[0], "nothing to forget yet")
    weights = np.asarray(data.sizes, np.float64)
    seen = [
        np.array([m[t, : t + 1] @ weights[: t + 1] / weights[: t + 1].sum() for t in range(done)])
        for m in data.matrices
    ]
    looks = ((ACCENT, "solid", "circle"), (THIRD, "dash", "square"), (SECOND, "dot", "diamond"))
    for values, (_, name), (colour, dash, mark) in zip(seen, _HEADS, looks, strict=True):
        line(figure, np.arange(1, done + 1), values, name, colour[theme], cell=cells[1], dash=dash, mark=mark,
             where="after task %{x}", form="%{y:.1%}")  # fmt: skip
    title(figure, cells[0], "forgotten by task", "since it was learnt", theme)
    title(figure, cells[1], "accuracy on seen classes", "three heads, same features", theme)
    finished(figure, theme, "retention", 1, height=370, barmode="relative", legend={"y": 1.2})
    figure.update_layout(margin={"t": 96})
    figure.update_xaxes(
        title_text="task", range=[0.4, data.tasks + 0.6], dtick=1 if data.tasks <= 12 else 5, showgrid=False
    )
    ends = [np.zeros(1), *(end for p in parts for end in (p.clip(0).sum(axis=0), p.clip(None, 0).sum(axis=0)))]
    figure.update_yaxes(range=reach(*ends, high=0.05), tickformat=".0%", zeroline=True, row=1, col=1)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", row=1, col=2)
    cursor(figure, float(row + 1), theme, rows=[(1, 2)])
    notes = (
        "A ridge fitted now on training images (an oracle) tells the parts apart. Deep: what it lost on the classes"
        " that were there when the task had been learnt, so 0 on frozen features. Crowding: what the classes that came"
        " since cost it. Shallow: what the learner's head lost beyond that.",
        "Nearest mean: training means measured now, also an oracle. The gap of the head below it is misalignment.",
    )
    return Picture(figure, _sentence(data, row), notes)


def _sentence(data: Retention, row: int) -> str:
    if not row:
        return "After the first task nothing can be forgotten yet."
    deep, crowding, shallow = (float(values.mean()) for values in data.split(row))
    text = (
        f"After task {row + 1}, old tasks lost {percent(deep + crowding + shallow)} on average: {percent(deep)} is no "
        f"longer found by a fresh head (deep), {percent(crowding)} is the price of more classes, {percent(shallow)} is "
        f"lost by the head only (shallow)."
    )
    return text.replace("-", MINUS)
