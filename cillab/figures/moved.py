"""How far features moved: stored against re-measured means, and six measures of drift on the probe, task by task."""

import numpy as np

from cillab.figures.palette import Theme, cursor
from cillab.figures.panels import OverSteps, finished, grid, notes_of, reach, spread, task_lines, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import after, number, place, task_axis
from cillab.geometry import drift
from cillab.geometry.incremental import prototype_gap
from cillab.geometry.moments import Moments
from cillab.geometry.transport import w2_of_images
from cillab.runs import Run, Snapshot, parse_step

_TOP = 10  # directions of a subspace
# Name, title, value when nothing moved.
_MEASURES = (
    ("sample", "turn of an image", "1 \N{MINUS SIGN} cosine \N{RIGHTWARDS ARROW} 0"),
    ("wasserstein", "Bures-Wasserstein", "in spreads of a class \N{RIGHTWARDS ARROW} 0"),
    ("procrustes", "Procrustes", "what no rotation undoes \N{RIGHTWARDS ARROW} 0"),
    ("cka", "linear CKA", "\N{RIGHTWARDS ARROW} 1"),
    ("debiased", "debiased CKA", "\N{RIGHTWARDS ARROW} 1"),
    ("subspace", f"overlap of the top {_TOP} directions", "\N{RIGHTWARDS ARROW} 1"),
)


def read_similarity(run: Run, step: str | int | None = None) -> OverSteps:
    """The probe images of each task now, against the same images at the end of their task."""
    kept, tasks = spread(run), len(run.info.tasks)
    steps = spread(run, run.resolve(step))
    values = {name: np.full((len(steps), tasks), np.nan) for name, *_ in _MEASURES}
    then: dict[int, str] = {}
    of_task = run.probe.tasks
    for row, one in enumerate(steps):
        task, epoch = parse_step(one) or (0, None)
        if epoch is None and one in kept:
            then.setdefault(task, one)
        for old, end in then.items():
            for name, value in run.snapshot(one).once(_since, run, end, old).items():
                values[name][row, old] = value
    count = int(np.bincount(of_task).min()) if len(of_task) else 0
    notes = (
        f"Probe (test) images of each task, {count} or more, now against the end of their task.",
        "With fewer images than dimensions CKA is near 1 and Procrustes near 0 for unrelated features as well: read the"
        " debiased CKA.",
    )
    return OverSteps.of(run, step, values, *notes, steps=steps)


def _since(shot: Snapshot, run: Run, end: str, task: int) -> dict[str, float]:
    """The measures for the probe images of a task, at a step against the `end` of the task; none if widths differ."""
    mine = run.probe.tasks == task
    before, now = (np.asarray(one["features"][mine], np.float64) for one in (run.snapshot(end), shot))
    if before.shape != now.shape or len(now) < 3:  # a learner whose features grow
        return {}
    spread = Moments.of(before, run.probe.labels[mine], "trace").spread()
    return {
        "sample": drift.sample_drift(before, now).value,
        "wasserstein": w2_of_images(before, now) / max(spread, 1e-12),
        "procrustes": drift.procrustes_distance(before, now),
        "cka": drift.linear_cka(before, now),
        "debiased": drift.linear_cka(before, now, debiased=True) if len(now) > 3 else np.nan,
        "subspace": drift.subspace_overlap(before, now, min(_TOP, len(now) - 1, now.shape[1])).value,
    }


@figure(
    title="Features of the probe images, now against the end of their task",
    page="drift",
    part="rotation",
    needs=("features",),
    quantities=("sample_drift", "bures_wasserstein", "procrustes_distance", "linear_cka", "subspace_overlap"),
)
def similarity(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Six measures of drift of the probe images of a run, since the end of their task.

    Six panels on one task axis, a line per task.
    """
    data = read_similarity(run, step)
    figure, cells = grid(len(_MEASURES), 3, horizontal_spacing=0.07, vertical_spacing=0.18)
    for index, (cell, (name, shown, hint)) in enumerate(zip(cells, _MEASURES, strict=True)):
        hover = f"{shown} <b>%{{y:.4g}}</b>"
        task_lines(figure, data.steps, data.values[name], hover, theme, cell=cell, legend=index == 0)
        title(figure, cell, shown, hint, theme)
        ends = {"high": 1.0, "low": 0.98} if hint.endswith("1") else {"low": 0.0, "high": 0.01}
        figure.update_yaxes(range=reach(data.values[name], **ends), row=cell[0], col=cell[1])
    finished(figure, theme, "similarity", 2, height=520)
    figure.update_xaxes(**task_axis(data.tasks))
    for row, column in cells[:3]:
        figure.update_xaxes(title_text="", row=row, col=column)
    cursor(figure, place(data.step), theme, rows=cells)
    return Picture(figure, _moved_sentence(data), data.notes)


def _moved_sentence(data: OverSteps) -> str:
    row = data.values["sample"][data.at]
    known = np.flatnonzero(np.isfinite(row))
    if not len(known):
        return "No probe image has been seen twice yet."
    worst = int(known[np.argmax(row[known])])
    if row[worst] < 1e-4:
        return f"{after(data.step).capitalize()} the probe images are where they were at the end of their task."
    rest, cka = (float(data.values[name][data.at, worst]) for name in ("procrustes", "debiased"))
    return (
        f"{after(data.step).capitalize()}, images of task {worst + 1} moved most since it was learnt: they turned by"
        f" {number(float(row[worst]))} (1 \N{MINUS SIGN} cosine), of which no rotation undoes {number(rest)}"
        f" (Procrustes);"
        f" debiased CKA is {number(cka)}."
    )


def _gaps(shot: Snapshot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tasks whose classes have a spread at one step, and of each the mean gap and the mean cosine."""
    found, of_class = prototype_gap(shot["means/stored"], shot["means/now"], shot["nc/within"]), shot["task_of_class"]
    usable = np.isfinite(found.relative)
    known = np.unique(of_class[usable])
    gaps, cosines = np.full((2, len(known)), np.nan)
    for at, task in enumerate(known):
        mine = usable & (of_class == task)
        gaps[at], turned = found.relative[mine].mean(), found.cosines[mine & np.isfinite(found.cosines)]
        cosines[at] = turned.mean() if len(turned) else np.nan
    return known, gaps, cosines


def read_prototypes(run: Run, step: str | int | None = None) -> OverSteps:
    """Gap of stored and re-measured class means in units of the spread inside the class, and the cosine of the two."""
    steps, tasks = run.steps, len(run.info.tasks)
    values = {name: np.full((len(steps), tasks), np.nan) for name in ("gap", "cosine")}
    for row, one in enumerate(steps):
        known, gaps, cosines = run.snapshot(one).once(_gaps)
        values["gap"][row, known], values["cosine"][row, known] = gaps, cosines
    notes = notes_of(
        run,
        run.resolve(step),
        "Means of training images stored when a class was learnt, against the same"
        " images now: 1 = as far off as a typical image of the class.",
    )
    return OverSteps.of(run, step, values, *notes)


@figure(
    title="Stored against measured means",
    page="drift",
    part="means",
    needs=("means/stored", "means/now", "nc/within"),
    quantities=("prototype_gap",),
)
def prototypes(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Stored against re-measured class means of a run.

    Left the gap in spreads of a class, right the cosine of stored and current mean; a line per task.
    """
    data = read_prototypes(run, step)
    figure, cells = grid(2, 2)
    task_lines(figure, data.steps, data.values["gap"], "gap <b>%{y:.3g}</b> spreads", theme, cell=cells[0])
    task_lines(figure, data.steps, data.values["cosine"], "cosine <b>%{y:.4f}</b>", theme, cell=cells[1], legend=False)
    title(figure, cells[0], "stored against measured mean", "in spreads \N{RIGHTWARDS ARROW} 0", theme)
    title(figure, cells[1], "cosine of the two", "\N{RIGHTWARDS ARROW} 1", theme)
    finished(figure, theme, "prototypes", 1, height=340)
    figure.update_xaxes(**task_axis(data.tasks))
    figure.update_yaxes(range=reach(data.values["gap"], low=0.0, high=0.05), row=1, col=1)
    figure.update_yaxes(range=reach(data.values["cosine"], high=1.0, low=0.95), row=1, col=2)
    cursor(figure, place(data.step), theme, rows=cells)
    row = data.values["gap"][data.at]
    known = np.flatnonzero(np.isfinite(row))
    if not len(known):
        return Picture(figure, "No class has a spread to measure a gap by.", data.notes)
    worst = int(known[np.argmax(row[known])])
    if row[worst] < 1e-3:
        text = f"{after(data.step).capitalize()} every stored class mean is up to date."
    else:
        text = (
            f"{after(data.step).capitalize()}, stored means are {number(float(np.nanmean(row)))} spreads from where"
            f" their images are now, on average over tasks; those of task {worst + 1} are furthest, with"
            f" {number(float(row[worst]))}."
        )
    return Picture(figure, text, data.notes)
