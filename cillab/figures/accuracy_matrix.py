"""The accuracy matrix: after each task, how well each task seen so far is still known."""

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import CURSOR, Theme, style
from cillab.figures.panels import grid, heat
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import empty, percent, points
from cillab.runs import Run, parse_step

NOTES = ("Test images; the classifier chooses among all classes seen so far.",)


def accuracy_matrix_sentence(matrix: Float64[np.ndarray, "task task"], tasks: int, row: int) -> str:
    """What is known after the task of one row."""
    first, now = float(matrix[0, 0]), float(matrix[row, 0])
    sentence = f"After task {row + 1} of {tasks}, task {row + 1} is at {percent(float(matrix[row, row]))}"
    return sentence + (f" and task 1 at {percent(now)}, from {percent(first)} when it was learnt." if row else ".")


def row_frame(row: int) -> dict[str, float]:
    """The corners of a frame around what one row holds."""
    return {"x0": -0.5, "x1": row + 0.5, "y0": row - 0.5, "y1": row + 0.5}


@figure(
    title="Accuracy by task",
    page="drift",
    part="accuracy",
    needs=("accuracy/row",),
    quantities=("a_seen_task_mean", "learning_accuracy"),
)
def accuracy_matrix(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """The accuracy matrix of a run, with the row of `step` framed (default: the last).

    R[t, j]: rows = after task t, columns = on the test images of task j, among all classes seen by then.
    """
    matrix, tasks = run.accuracy_matrix(), len(run.info.tasks)
    done = len(matrix)
    if not done:
        return empty("accuracy_matrix", "No task has been tested yet.", theme)
    z = np.full((tasks, tasks), np.nan, np.float32)
    z[:done, :done] = matrix
    labels = [str(t + 1) for t in range(tasks)]
    figure, _ = grid(1, 1)
    bar = {"tickformat": ".0%", "tickvals": [0, 0.25, 0.5, 0.75, 1]}
    heat(figure, z, hover="after task %{y}, on task %{x}<br><b>%{z:.1%}</b>", ends=(0.0, 1.0), x=labels, y=labels,
         numbers=points, xgap=1.5, ygap=1.5, colorbar=bar)  # fmt: skip
    style(figure, theme, name="accuracy_matrix", height=380)
    figure.update_xaxes(title_text="tested on task", showgrid=False, side="bottom", type="category")
    figure.update_yaxes(title_text="after task", showgrid=False, autorange="reversed", type="category")
    row = done - 1 if step is None else min((parse_step(run.resolve(step)) or (0,))[0], done - 1)
    figure.add_shape(type="rect", **row_frame(row), line={"color": CURSOR[theme], "width": 2}, name="cursor")
    return Picture(figure, accuracy_matrix_sentence(matrix, tasks, row), NOTES)
