"""Forgetting per task: what was once known of it and is no more."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64

from cillab.figures.palette import Theme, style, task_colour
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MINUS, empty, percent
from cillab.runs import Run, parse_step

_TEXT_UP_TO = 30  # tasks; above, the numbers over the bars print into each other


def forgetting_per_task(matrix: Float64[np.ndarray, "task task"], at: int) -> Float64[np.ndarray, " old"]:
    """f_j = max_{l = j..t-1} R[l, j] - R[t, j] for the tasks j before t = `at`; negative = improved since.

    Their mean is the forgetting of Chaudhry et al. (2018), in which the maximum leaves out the last row.
    """
    return np.array([np.nanmax(matrix[j:at, j]) - matrix[at, j] for j in range(at)], np.float64)


@figure(
    title="Forgotten, by task",
    page="drift",
    needs=("accuracy/row",),
    quantities=("forgetting_chaudhry",),
)
def forgetting(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Forgetting per task of a run at `step` (default: the last): a bar per old task, one axis for all steps."""
    matrix, tasks = run.accuracy_matrix(), len(run.info.tasks)
    at = len(matrix) - 1 if step is None else (parse_step(run.resolve(step)) or (0,))[0]
    row = min(at, len(matrix) - 1)
    if row < 1:
        return empty("forgetting", "Nothing can be forgotten before the second task.", theme)
    values = forgetting_per_task(matrix, row)
    over_run = np.concatenate([forgetting_per_task(matrix, t) for t in range(1, len(matrix))])
    figure = go.Figure(
        go.Bar(
            x=np.arange(1, row + 1),
            y=values.astype(np.float32),
            customdata=np.stack([[np.nanmax(matrix[j:row, j]), matrix[row, j]] for j in range(row)]).astype(np.float32),
            marker={"color": [task_colour(t, theme) for t in range(row)], "cornerradius": 4},
            width=0.72,
            text=[f"{100 * value:.0f}".replace("-", MINUS) for value in values] if tasks <= _TEXT_UP_TO else None,
            textposition="outside",
            cliponaxis=False,
            hovertemplate="task %{x}<br>best %{customdata[0]:.1%}, now %{customdata[1]:.1%}<br>"
            "forgotten <b>%{y:.1%}</b><extra></extra>",
        )
    )
    style(figure, theme, name="forgetting", height=320)
    low, high = min(0.0, float(over_run.min())), max(0.05, float(over_run.max()))
    span = high - low
    figure.update_xaxes(title_text="task", range=[0.4, tasks + 0.6], dtick=1 if tasks <= 20 else 5, showgrid=False)
    figure.update_yaxes(
        title_text="forgotten", tickformat=".0%", range=[low - (0.1 * span if low < 0 else 0), high + 0.1 * span],
        zeroline=True, zerolinewidth=1,
    )  # fmt: skip
    worst = int(values.argmax())
    sentence = (
        f"After task {row + 1}, forgetting is {percent(float(values.mean()))} on average over"
        f" {row} old task{'s' * (row > 1)}, and {percent(float(values[worst]))} for task {worst + 1}."
    ).replace("-", MINUS)
    return Picture(figure, sentence, ("Best accuracy before this step minus accuracy now (Chaudhry et al., 2018).",))
