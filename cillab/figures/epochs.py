"""Collapse while a network trains: NC1 to NC4 and the terms of the loss by epoch, and how far old vertices turned."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, CURSOR, GRID, MUTED, SECOND, THIRD, Theme, cursor, see_through
from cillab.figures.panels import finished, grid, line, log_reach, missing, reach, share_reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import moved, number, percent, place, task_axis
from cillab.runs import Run, parse_step

_NAME = "internals/etf/epochs"
# Column of the array, title, what to wish for.
_NC = (
    ("NC1", "within / between, log scale \N{RIGHTWARDS ARROW} 0"),
    ("NC2", "distance of Gram matrices \N{RIGHTWARDS ARROW} 0"),
    ("NC3", "distance of head and means \N{RIGHTWARDS ARROW} 0"),
    ("NC4", "agrees with nearest mean \N{RIGHTWARDS ARROW} 100 %"),
)
_TERMS = (("pull", ACCENT, "solid"), ("push", SECOND, "dash"))


@dataclass(frozen=True, eq=False)
class Epochs:
    """One row per epoch of every task, and the turn of old vertices in degrees by task (NaN where none is old)."""

    steps: tuple[str, ...]
    step: str
    tasks: int
    rows: Float64[np.ndarray, "epoch 6"]  # NC1 to NC4, pull, push
    task: Float64[np.ndarray, " epoch"]  # in which each epoch lies, counted from 0
    turned: Float64[np.ndarray, "task 3"]  # least, mean and largest over old classes
    expected: Float64[np.ndarray, " task"]  # of the closed form


def read_epochs(run: Run, step: str | int | None = None) -> Epochs:
    """The epochs of all tasks one after the other."""
    count = len(run.info.tasks)
    rows, task = [np.zeros((0, 6))], [np.zeros(0)]
    turned, expected = np.full((count, 3), np.nan), np.full(count, np.nan)
    for one in run.steps:
        shot, (at, epoch) = run.snapshot(one), parse_step(one) or (0, None)
        if epoch is not None or _NAME not in shot:
            continue
        rows.append(np.asarray(shot[_NAME], np.float64).reshape(-1, 6))
        task.append(np.full(len(rows[-1]), float(at)))
        if "internals/etf/turned" in shot:
            angles = np.degrees(np.asarray(shot["internals/etf/turned"], np.float64))
            turned[at] = angles.min(), angles.mean(), angles.max()
        if "internals/etf/expected" in shot:
            expected[at] = np.degrees(float(np.asarray(shot["internals/etf/expected"]).reshape(-1)[0]))
    table = np.concatenate(rows)
    if not len(table):
        raise Nothing
    return Epochs(run.steps, run.resolve(step), count, table, np.concatenate(task), turned, expected)


@figure(
    title="Through the epochs of all tasks",
    page="collapse",
    part="training",
    needs=("internals/etf/epochs",),
    lacks="This learner keeps no record of its epochs.",
    quantities=("nc1_quotient", "simplex_gram_distance", "nc3", "nc4", "growth_angle"),
)
def epochs(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Collapse of a run through the epochs of all its tasks; the task of `step` (default: the last) is shaded.

    Five panels over the epochs of all tasks, with a line where a task ends, and one over the tasks.
    """
    data = read_epochs(run, step)
    figure, cells = grid(6, 3, horizontal_spacing=0.08, vertical_spacing=0.22)
    x, tasks = np.arange(1, len(data.rows) + 1, dtype=np.float32), (data.task + 1).astype(int)
    chosen = (parse_step(data.step) or (0, None))[0]
    for column, (cell, (name, hint)) in enumerate(zip(cells[:4], _NC, strict=True)):
        _line(figure, x, data.rows[:, column], tasks, name, ACCENT[theme], "solid", cell)
        title(figure, cell, name, hint, theme)
    for column, (name, colour, dash) in enumerate(_TERMS, start=4):
        _line(figure, x, data.rows[:, column], tasks, name, colour[theme], dash, cells[4], legend=True)
    title(figure, cells[4], "terms of the loss", "", theme)
    _turns(figure, data, cells[5], theme)
    finished(figure, theme, "epochs", 2, height=500)
    _ranges(figure, data.rows, cells, len(x))
    ends = np.flatnonzero(np.diff(data.task)) + 1.5
    mine = x[data.task == chosen]
    for row, column in cells[:5]:
        for end in ends:
            edge = {"color": GRID[theme], "width": 1.5}
            figure.add_vline(x=end, line=edge, name="task", row=row, col=column)  # pyright: ignore
        if len(mine):
            ends_at = {"x0": float(mine[0]) - 0.5, "x1": float(mine[-1]) + 0.5, "row": row, "col": column}
            shade = see_through(CURSOR[theme], 0.07)
            figure.add_vrect(**ends_at, fillcolor=shade, line_width=0, layer="below", name="chosen task")
    cursor(figure, place(data.step), theme, rows=cells[5:])
    return Picture(figure, _sentence(data, chosen), (
        "Measured on the features of the training steps themselves, so that early ones of an epoch were made by"
        " slightly older weights; the shaded stretch is the chosen task.",
        "Old classes take part as pseudo-features. In the first task the adapters train first, then the alignment"
        " layer: the vertices are placed anew in between.",
        "Turn: angle by which the vertex of an old class moved when the frame grew. The closed form is for a frame that"
        " keeps its columns and gets new orthonormal ones; a frame placed anew, nearest to the means, may turn more.",
    ))  # fmt: skip


def _line(figure, x, y, tasks, name, colour, dash, cell, legend: bool = False) -> None:
    """A line that is broken between tasks: what jumps there is the set of classes."""
    ends = np.flatnonzero(np.diff(tasks)) + 1
    x, y, tasks = np.insert(x, ends, np.nan), np.insert(y, ends, np.nan), np.insert(tasks, ends, 0)
    line(figure, x, y, name, colour, cell=cell, dash=dash, size=4, width=1.9, legend=legend, customdata=tasks,
         where="epoch %{x}, in task %{customdata}", form="%{y:.4g}")  # fmt: skip


def _turns(figure, data: Epochs, cell, theme: Theme) -> None:
    """The turn of old vertices, least to largest, against the closed form."""
    title(figure, cell, "turn of old vertices", "degrees", theme)
    x = np.arange(1, data.tasks + 1, dtype=np.float32)
    figure.update_xaxes(**task_axis(data.tasks), row=cell[0], col=cell[1])
    if not np.isfinite(data.turned).any():
        missing(figure, cell, "no class is old yet")
        return
    low, mean, high = data.turned.T
    there = np.isfinite(mean)
    errors = {"array": (high - mean)[there].astype(np.float32), "arrayminus": (mean - low)[there].astype(np.float32)}
    line(figure, x[there], mean[there], "turned, least to largest", THIRD[theme], cell=cell, width=1.9,
         error_y=errors | {"thickness": 1.2, "width": 3, "color": THIRD[theme]}, where="old vertices at task %{x}",
         form="%{y:.2f} degrees</b> on average<b>")  # fmt: skip
    known = np.isfinite(data.expected)
    line(figure, x[known], data.expected[known], "closed form", MUTED[theme], cell=cell, width=1.6, dash="dot",
         mark="diamond-open", form="%{y:.2f} degrees")  # fmt: skip
    figure.update_yaxes(range=reach(data.turned, data.expected, low=0.0), row=cell[0], col=cell[1])


def _ranges(figure, rows: Float64[np.ndarray, "epoch 6"], cells, epochs: int) -> None:
    ranges = [
        log_reach(rows[:, 0]), {"range": reach(rows[:, 1], low=0.0)}, {"range": reach(rows[:, 2], low=0.0)},
        share_reach(rows[:, 3]), {"range": reach(rows[:, 4:], low=0.0)},
    ]  # fmt: skip
    for (row, column), options in zip(cells[:5], ranges, strict=True):
        figure.update_yaxes(**options, row=row, col=column)
        figure.update_xaxes(range=[0.4, epochs + 0.6], row=row, col=column)
        figure.update_xaxes(title_text="epoch, all tasks" if row == 2 else "", row=row, col=column)


def _sentence(data: Epochs, chosen: int) -> str:
    mine = data.rows[data.task == chosen]
    if not len(mine):
        return f"Task {chosen + 1} recorded no epoch."
    first, last = mine[0], mine[-1]
    text = f"In task {chosen + 1}, {moved('NC1', float(first[0]), float(last[0]))} over {len(mine)} epochs, "
    text += (
        f"{moved('NC2', float(first[1]), float(last[1]))} and {moved('NC4', float(first[3]), float(last[3]), percent)}"
    )
    mean, expected = float(data.turned[chosen, 1]), float(data.expected[chosen])
    if np.isfinite(mean):
        text += f"; old vertices turned by {number(mean)} degrees on average"
        text += f", the closed form says {number(expected)}" if np.isfinite(expected) else ""
    return f"{text}."
