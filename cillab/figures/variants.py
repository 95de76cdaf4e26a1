"""One matrix, many summaries: every named accuracy of a run beside each other, and right task times right class."""

import numpy as np

from cillab.figures.palette import ACCENT, MUTED, SECOND, TEXT, THIRD, Theme, cursor
from cillab.figures.panels import finished, grid, line, scalars, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MINUS, percent, place, places, task_axis
from cillab.geometry import accuracy
from cillab.runs import Run, parse_step

# Field of `accuracy.Summary`, name on screen, whether more is better.
_NAMES = (
    ("a_last", "A_last", True),
    ("a_avg", "A_avg", True),
    ("task_mean", "A_last, tasks weigh the same", True),
    ("learning_accuracy", "learning accuracy", True),
    ("bwt_gem", "BWT (GEM)", True),
    ("bwt_all", "BWT, whole run", True),
    ("forgetting_chaudhry", "forgetting (Chaudhry)", False),
    ("forgetting_pilot", "forgetting (PILOT)", False),
    ("performance_drop", "performance drop", False),
)


def summaries(run: Run, step: str) -> dict[str, float]:
    """Of the accuracy matrix, as if the run had ended at `step`; sizes are those of the test sets."""
    done = (parse_step(step) or (0, None))[0] + 1
    matrix = run.accuracy_matrix()[:done, :done]
    last = run.snapshot(run.task_steps[len(matrix) - 1])
    images = np.asarray(last["confusion"]).sum(axis=1)
    sizes = [float(images[last["task_of_class"] == task].sum()) for task in range(len(matrix))]
    found = accuracy.summary(matrix, sizes if all(sizes) else run.info.sizes[: len(matrix)])
    values = {name: getattr(found, name) for name, *_ in _NAMES if name != "task_mean"}
    values["task_mean"] = found.a_seen_task_mean[-1]
    return values


@figure(
    title="All summaries, side by side",
    page="drift",
    part="forgetting",
    needs=("accuracy/row", "confusion"),
    quantities=(
        "a_last",
        "a_avg",
        "a_seen_task_mean",
        "learning_accuracy",
        "bwt_gem",
        "bwt_all",
        "forgetting_chaudhry",
        "forgetting_pilot",
        "performance_drop",
        "task_decomposition",
    ),
)
def variants(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """All summaries of the accuracy matrix of a run up to `step` (default: the last).

    Left a dot per summary, right the two factors of accuracy and their product.
    """
    series = scalars(run, {name: f"accuracy/{name}" for name in ("seen", "task_id", "within_task")})
    chosen = run.resolve(step)
    v = summaries(run, chosen)
    figure, cells = grid(2, 2, column_widths=[0.52, 0.48], horizontal_spacing=0.1)
    shown = [(label, v[name], more) for name, label, more in _NAMES][::-1]
    for more, colour, mark, legend in (
        (True, ACCENT, "circle", "higher is better"),
        (False, SECOND, "diamond", "lower is better"),
    ):
        mine = [(label, value) for label, value, m in shown if m == more and np.isfinite(value)]
        figure.add_scatter(
            x=np.array([v for _, v in mine], np.float32), y=[label for label, _ in mine], mode="markers+text",
            name=legend, marker={"color": colour[theme], "symbol": mark, "size": 10}, row=1, col=1,
            text=[percent(v).replace("-", MINUS) for _, v in mine], textposition="middle right",
            textfont={"size": 11.5, "color": TEXT[theme]}, cliponaxis=False,
            hovertemplate="%{y}<br><b>%{x:.2%}</b><extra></extra>",
        )  # fmt: skip
    x = places(run.steps).astype(np.float32)
    product = series["task_id"] * series["within_task"]
    lines = (
        (series["within_task"], "right class, task given", THIRD[theme], "dash", "square"),
        (series["task_id"], "right task", SECOND[theme], "dot", "diamond"),
        (product, "their product", MUTED[theme], "dash", "circle-open"),
        (series["seen"], "accuracy", ACCENT[theme], "solid", "circle"),
    )
    for y, name, colour, dash, mark in lines:
        line(figure, x, y, name, colour, cell=cells[1], dash=dash, mark=mark, form="%{y:.1%}")
    title(figure, cells[0], "every summary of one matrix", theme=theme)
    title(figure, cells[1], "right task \N{MULTIPLICATION SIGN} right class", theme=theme)
    finished(figure, theme, "variants", 1, height=420, legend={"y": 1.15})
    figure.update_layout(margin={"t": 92})
    low = min(0.0, *(v for v in v.values() if np.isfinite(v)))
    figure.update_xaxes(
        range=[low - 0.04, 1.16], tickformat=".0%", tickvals=[-1, -0.5, 0, 0.25, 0.5, 0.75, 1], row=1, col=1
    )
    order = [label for label, *_ in shown]
    figure.update_yaxes(categoryorder="array", categoryarray=order, range=[-0.6, len(order) - 0.4], row=1, col=1)
    figure.update_xaxes(**task_axis(len(run.info.tasks)), row=1, col=2)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", row=1, col=2)
    cursor(figure, place(chosen), theme, rows=[(1, 2)])
    text = f"After task {int(place(chosen))}, A_last is {percent(v['a_last'])} and A_avg {percent(v['a_avg'])}"
    if np.isfinite(v["forgetting_chaudhry"]):
        text += f"; forgetting is {percent(v['forgetting_chaudhry'])} by Chaudhry's definition and"
        text += f" {percent(v['forgetting_pilot'])} by PILOT's, backward transfer {percent(v['bwt_gem'])}"
    notes = (
        "Test images, weighted by image unless stated; the definitions stand in the glossary.",
        "An image is right iff its task is right and the best class of that task is; the product is the accuracy"
        " if the two are independent.",
    )
    return Picture(figure, f"{text}.".replace(" -", f" {MINUS}"), notes)
