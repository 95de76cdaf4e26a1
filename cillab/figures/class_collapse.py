"""NC1, NC3 and NC4 of every class: which classes collapse, and which hold the average up."""

import numpy as np

from cillab.figures.numbers import EACH_TASK
from cillab.figures.palette import CURSOR, NAMED_UP_TO, Theme, see_through, task_colour, task_mark
from cillab.figures.panels import finished, grid, line, log_reach, missing, notes_of, reach, share_reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import ORACLE, after, class_labels, images_note, number
from cillab.geometry.nc1 import nc1_quotient
from cillab.geometry.rows import centre, cosine
from cillab.runs import Run, Snapshot

_PANELS = (
    ("quotient", "NC1 by class", "spread / distance between classes", "%{y:.3g}"),
    ("duality", "NC3 by class", "cosine of head row and class mean", "%{y:.3f}"),
    ("agreement", "NC4 by class", "head agrees with nearest mean", "%{y:.1%}"),
)


def _of(shot: Snapshot) -> dict[str, np.ndarray]:
    means = np.asarray(shot["means/now"], np.float64)
    none = np.full(len(means), np.nan)
    fits = "head/weight" in shot and shot["head/weight"].shape == means.shape and len(means) > 1
    duality = cosine(shot["head/weight"], centre(means)) if fits else none
    agreement = np.asarray(shot.get("nc/nc4", none), np.float64)
    quotient = nc1_quotient(shot["nc/within"], np.ones(len(means), np.int64), centre(means)).per_class
    return {"quotient": quotient, "duality": duality, "agreement": agreement}


@figure(
    title="Class by class",
    page="collapse",
    part="classes",
    needs=("means/now", "nc/within"),
    quantities=("nc1_quotient", "nc3", "nc4"),
)
def class_collapse(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """NC1, NC3 and NC4 of every class of a run at `step` (default: the last).

    Three strips over the classes in the order of the stream, coloured and marked by task.
    """
    shot = run.snapshot(run.resolve(step))
    every = {s: _of(run.snapshot(s)) for s in run.steps}
    measured, tasks = every[shot.id], np.asarray(shot["task_of_class"], np.int64)
    labels = class_labels(run, shot["seen"].tolist())
    figure, cells = grid(len(_PANELS), 1, vertical_spacing=0.13)
    few = len(np.unique(tasks)) <= NAMED_UP_TO
    place = np.arange(1, len(labels) + 1, dtype=np.float32)
    for index, (cell, (name, shown, hint, form)) in enumerate(zip(cells, _PANELS, strict=True)):
        values = measured[name]
        title(figure, cell, shown, hint, theme)
        if not np.isfinite(values).any():
            missing(figure, cell, "no head in the space of the features" if name == "duality" else "not measured")
        for task in np.unique(tasks).tolist() if few else ():
            mine = tasks == task
            line(figure, place[mine], values[mine], f"task {task + 1}", task_colour(task, theme), cell=cell, size=7,
                 mark=task_mark(task), mode="markers", text=[labels[i] for i in np.flatnonzero(mine)],
                 legend=index == 0, where=f"<b>%{{text}}</b>, task {task + 1}<br>{hint}", form=form)  # fmt: skip
        if not few:  # one trace: hundreds draw slowly
            known = np.where(np.isfinite(values), tasks + 1, np.nan).astype(np.float32)
            looks = {"color": [task_colour(t, theme) for t in tasks.tolist()], "size": 7,
                     "symbol": [task_mark(t) for t in tasks.tolist()]}  # fmt: skip
            line(figure, place, values, "classes", "", cell=cell, mode="markers", marker=looks, text=labels,
                 legend=False, where=f"<b>%{{text}}</b>, task %{{customdata}}<br>{hint}", form=form, line=None,
                 customdata=known, meta=EACH_TASK)  # fmt: skip
        if np.isfinite(values).any():
            mean = float(np.nanmean(values))
            edge = {"color": see_through(CURSOR[theme], 0.5), "width": 1.2, "dash": "dot"}
            figure.add_hline(y=mean, line=edge, name="mean", row=cell[0], col=cell[1])  # pyright: ignore
        pooled = np.concatenate([values[name] for values in every.values()])  # fixed axes
        axis = {
            "quotient": log_reach,
            "duality": lambda pooled: {"range": reach(pooled, high=1.0)},
            "agreement": share_reach,
        }[name]
        figure.update_yaxes(**axis(pooled), row=cell[0], col=cell[1])
    finished(figure, theme, "class_collapse", 3, height=620)
    figure.update_xaxes(range=[0.5, len(run.order) + 0.5], showgrid=False)
    figure.update_xaxes(title_text="classes, in the order of the stream", row=3, col=1)
    notes = notes_of(run, shot.id, ORACLE, images_note(run), "The dotted line is the mean over classes.")
    return Picture(figure, _sentence(shot.id, labels, measured), notes)


def _sentence(step: str, labels: list[str], measured: dict[str, np.ndarray]) -> str:
    values = measured["quotient"]
    if len(values) < 2 or not np.isfinite(values).any():
        return f"{after(step).capitalize()} there is one class: nothing is between classes yet."
    worst, best = int(np.nanargmax(values)), int(np.nanargmin(values))
    text = f"{after(step).capitalize()}, NC1 runs from {number(float(values[best]))} ({labels[best]}) to"
    text += f" {number(float(values[worst]))} ({labels[worst]})"
    duality = measured["duality"]
    if np.isfinite(duality).any():
        worst = int(np.nanargmin(duality))
        text += f"; the head row furthest from its class mean is that of {labels[worst]}, with a cosine of"
        text += f" {number(float(duality[worst]))}"
    return text + "."
