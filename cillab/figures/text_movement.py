"""How far prompts carried the class names from where frozen text has them, and what a new task did to old names."""

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import CURSOR, ROLES, Theme, cursor, see_through, task_colour, task_mark
from cillab.figures.panels import OverSteps, finished, grid, line, reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, class_labels, number, place, places, task_axis
from cillab.geometry.rows import cosine
from cillab.runs import Run

_TEXT = ("internals/text/prototypes", "internals/text/frozen")
# Series, name on screen, colours, dash, mark.
_LINES = (
    ("old", "names of earlier tasks", ROLES["old"], "solid", "circle"),
    ("new", "names of the newest task", ROLES["new"], "dash", "square"),
    ("kept", "earlier names, to themselves a task ago", ROLES["mixed"], "dot", "diamond"),
)


def read_text_movement(run: Run, step: str | int | None = None) -> tuple[OverSteps, Float64[np.ndarray, " cls"]]:
    """Cosines of learnt to frozen prototypes: means by step (`kept`: to the step before), and by class at `step`."""
    chosen = run.resolve(step)
    if not all(name in run.snapshot(chosen) for name in _TEXT):
        raise Nothing
    series = {name: np.full(len(run.steps), np.nan) for name, *_ in _LINES}
    before: dict[int, np.ndarray] = {}
    for row, one in enumerate(run.steps):
        shot = run.snapshot(one)
        if not all(name in shot for name in _TEXT):
            continue
        learnt, frozen = (np.asarray(shot[name], np.float64) for name in _TEXT)
        to_frozen, tasks = cosine(learnt, frozen), np.asarray(shot["task_of_class"])
        newest, seen = tasks == tasks.max(), np.asarray(shot["seen"]).tolist()
        series["new"][row] = to_frozen[newest].mean()
        if (~newest).any():
            series["old"][row] = to_frozen[~newest].mean()
        again = [at for at, c in enumerate(seen) if c in before]
        if again:
            series["kept"][row] = cosine(learnt[again], np.stack([before[seen[at]] for at in again])).mean()
        before = dict(zip(seen, learnt, strict=True))
    learnt, frozen = (np.asarray(run.snapshot(chosen)[name], np.float64) for name in _TEXT)
    return OverSteps.of(run, step, series), cosine(learnt, frozen)


@figure(
    title="Learnt names against frozen ones",
    page="text_transport",
    part="names",
    needs=("internals/text/prototypes", "internals/text/frozen"),
    lacks="This learner keeps no text prototypes.",
)
def text_movement(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Learnt against frozen class names of a run over its steps, and class by class at `step` (default: the last).

    Left the cosines over the steps, right those of every class at one step, in the order of the stream.
    """
    data, classes = read_text_movement(run, step)
    shot = run.snapshot(data.step)
    task_of_class, labels = np.asarray(shot["task_of_class"]), class_labels(run, np.asarray(shot["seen"]).tolist())
    figure, cells = grid(2, 2)
    x = places(data.steps).astype(np.float32)
    for name, shown, colour, dash, mark in _LINES:
        there = np.isfinite(data.values[name])
        line(
            figure,
            x[there],
            data.values[name][there],
            shown,
            colour[theme],
            dash=dash,
            mark=mark,
            form="cosine %{y:.4f}",
        )
    for task in np.unique(task_of_class).tolist():
        mine = np.flatnonzero(task_of_class == task)
        line(figure, mine + 1, classes[mine], f"task {task + 1}", task_colour(task, theme), cell=cells[1], size=7,
             mark=task_mark(task), mode="markers", legend=False, customdata=[labels[at] for at in mine],
             where=f"%{{customdata}}, task {task + 1}", form="cosine %{y:.4f}")  # fmt: skip
    title(figure, cells[0], "learnt name against frozen name", "1 = has not moved", theme)
    title(figure, cells[1], "class by class", f"{after(data.step)}, colours by task", theme)
    finished(figure, theme, "text_movement", 1, height=350)
    y = reach(*data.values.values(), classes, high=1.0, low=0.98)
    figure.update_yaxes(range=y, title_text="cosine", row=1, col=1)
    figure.update_yaxes(range=y, row=1, col=2)
    figure.update_xaxes(**task_axis(data.tasks), row=1, col=1)
    count = len(labels)
    figure.update_xaxes(title_text="class, in the order of the stream", range=[0.5, count + 0.5], row=1, col=2)
    first_new = int((task_of_class < task_of_class.max()).sum())
    if first_new:
        edge = {"color": see_through(CURSOR[theme], 0.4), "width": 1, "dash": "dash"}
        figure.add_vline(x=first_new + 0.5, line=edge, name="newest task", row=1, col=2)  # pyright: ignore
    cursor(figure, place(data.step), theme, rows=cells[:1])
    return Picture(figure, _sentence(data, classes, labels), (
        "Cosine of the vector of a class name with the learnt prompt and in the frozen hand template.",
        "The dotted line compares with the step before instead: a prompt that is shared by all classes carries old"
        " names along while it learns new ones.",
    ))  # fmt: skip


def _sentence(data: OverSteps, classes: Float64[np.ndarray, " cls"], labels: list[str]) -> str:
    if np.allclose(classes, 1, atol=1e-5):
        return (
            f"{after(data.step).capitalize()}, every class name is where frozen text has it: nothing moves names here."
        )
    least = int(classes.argmin())
    old, new, kept = (data.now(name) for name in ("old", "new", "kept"))
    text = f"{after(data.step).capitalize()}, the cosine of learnt to frozen names is {number(new)} for the newest task"
    text += f" and {number(old)} for earlier ones" if np.isfinite(old) else ""
    text += f"; “{labels[least]}” moved most, to {number(float(classes[least]))}."
    if np.isfinite(kept):
        text += f" This task turned earlier names to a cosine of {number(kept)} with themselves."
    return text
