"""What methods show of themselves: prompts, low-rank directions, alignment, adapters, anchors, the chosen penalty.

Each figure asks for arrays by their shared names (`core.internals`), never for a method.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import ACCENT, AGES, MUTED, Theme, cursor, diverging, see_through, task_colour
from cillab.figures.panels import finished, grid, heat, line, log_reach, matrix_axes, missing, reach, task_lines, title
from cillab.figures.picture import Picture
from cillab.figures.registry import Nothing, figure
from cillab.figures.words import after, class_labels, number, percent, place, places, plural, points, task_axis
from cillab.geometry.rows import centre, cosine, unit
from cillab.runs import Run, Snapshot, parse_step

_CHOSEN, _KEYS = "internals/prompts/chosen", "internals/prompts/keys"
_RANK, _MAGNITUDE = "internals/lowrank/rank", "internals/lowrank/magnitude"
_BEFORE, _AFTER = "internals/align/before", "internals/align/after"
_SIMILAR, _ANCHORS, _GAMMA = "internals/adapters/similarity", "internals/anchors/rows", "internals/ridge/gamma"
_UNIT = (-1.0, 1.0)
_STILL = 1e-3  # degrees: a key in float32 turns by 1e-6 of one when it stands still, by its rounding


def _at(run: Run, step: str | int | None, name: str) -> tuple[str, Float64[np.ndarray, "..."]]:
    """A step and its array of that name; nothing where this step holds none."""
    chosen = run.resolve(step)
    if name not in run.snapshot(chosen):
        raise Nothing(f"{after(chosen).capitalize()} there is no `{name}` yet.")
    return chosen, np.asarray(run.snapshot(chosen)[name], np.float64)


def _ordinals(count: int) -> list[str]:
    return [str(n + 1) for n in range(count)]


def choices_by_task(counts: Sequence[Float64[np.ndarray, " _"]]) -> Float64[np.ndarray, "task prompt"]:
    """Shares of the choices of each task, from counts over all tasks so far; a pool may grow. NaN: none was made."""
    width = max(len(one) for one in counts)
    total = np.stack([np.pad(one, (0, width - len(one))) for one in counts])
    new = np.diff(total, axis=0, prepend=np.zeros((1, width))).clip(min=0)
    made = new.sum(axis=1, keepdims=True)
    return np.divide(new, made, out=np.full_like(new, np.nan), where=made > 0)


@figure(
    title="Which prompts each task chose",
    page="method",
    part="prompts",
    needs=(_CHOSEN,),
    lacks="This learner chooses no prompts from a pool.",
)
def prompt_choice(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """How often the training images of each task chose each prompt, as shares of the choices of the task."""
    chosen = run.resolve(step)
    steps = [s for s in run.task_steps if _CHOSEN in run.snapshot(s)]
    if not steps:
        raise Nothing
    shares = choices_by_task([np.asarray(run.snapshot(s)[_CHOSEN], np.float64).ravel() for s in steps])
    drawn, _ = grid(1, 1)
    tasks = [f"{place(s):g}" for s in steps]
    heat(
        drawn, shares, hover="task %{y}, prompt %{x}<br><b>%{z:.1%}</b> of its choices",
        ends=(0.0, max(float(np.nanmax(shares, initial=0.0)), 1e-3)), numbers=points, x=_ordinals(shares.shape[1]),
        y=tasks, xgap=1.5, ygap=1.5, colorbar={"tickformat": ".0%"},
    )  # fmt: skip
    finished(drawn, theme, "prompt_choice", 1, height=150 + 24 * len(steps), top=34)
    drawn.update_xaxes(title_text="prompt", type="category", showgrid=False)
    drawn.update_yaxes(title_text="images of task", type="category", autorange="reversed", showgrid=False)
    at = min((parse_step(chosen) or (0,))[0], len(steps) - 1)
    frame = {"x0": -0.5, "x1": shares.shape[1] - 0.5, "y0": at - 0.5, "y1": at + 0.5}
    drawn.add_shape(type="rect", **frame, line={"color": MUTED[theme], "width": 2}, name="cursor")
    used = [int((row > 0).sum()) for row in shares]
    text = f"Images of task {tasks[at]} use {used[at]} of {plural(shares.shape[1], 'prompt')}"
    if at and np.isfinite(shares[at - 1 : at + 1]).all():
        common = float(np.minimum(shares[at - 1], shares[at]).sum())
        text += f"; they share {percent(common)} of their choices with task {tasks[at - 1]}"
    return Picture(
        drawn, f"{text}.", ("Training images, counted while the task was learnt; an image chooses several.",)
    )


@figure(
    title="Keys of the prompts",
    page="method",
    part="prompts",
    needs=(_KEYS,),
    lacks="This learner keeps no keys of prompts.",
)
def prompt_keys(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Cosines between the keys of the pool at a step, and how far each key turned with every task."""
    chosen, keys = _at(run, step, _KEYS)
    between = unit(keys) @ unit(keys).T
    steps = [s for s in run.steps if _KEYS in run.snapshot(s)]
    turned = np.full((len(steps), 3), np.nan)
    for row, (old, new) in enumerate(pairwise(steps), start=1):
        a, b = (np.asarray(run.snapshot(s)[_KEYS], np.float64) for s in (old, new))
        n = min(len(a), len(b))
        angle = np.degrees(np.arccos(np.clip(cosine(a[:n], b[:n]), -1, 1)))
        if np.isfinite(angle).any():
            turned[row] = np.nanmin(angle), np.nanmean(angle), np.nanmax(angle)
    turned[turned < _STILL] = 0
    drawn, cells = grid(2, 2, column_widths=[0.42, 0.58])
    names = _ordinals(len(keys))
    heat(drawn, between, hover="prompts %{y} and %{x}<br>cosine <b>%{z:.3f}</b>", ends=_UNIT, colours=diverging(theme),
         cell=cells[0], x=names, y=names, colorbar={"x": 0.37})  # fmt: skip
    matrix_axes(drawn, cells[0], "prompt")
    for column, (name, dash) in enumerate((("least", "dot"), ("mean", "solid"), ("largest", "dash"))):
        line(drawn, places(steps), turned[:, column], f"{name} over keys", ACCENT[theme], dash=dash, cell=cells[1],
             form="%{y:.2f} degrees")  # fmt: skip
    title(drawn, cells[0], "cosines of keys", after(chosen), theme)
    title(drawn, cells[1], "turn since the step before", "degrees", theme)
    if not np.isfinite(turned).any():
        missing(drawn, cells[1], "one step has no step before it")
    finished(drawn, theme, "prompt_keys", 1, height=380)
    drawn.update_xaxes(**task_axis(len(run.info.tasks)), row=1, col=2)
    drawn.update_yaxes(range=reach(turned, low=0.0, high=0.1), row=1, col=2)
    cursor(drawn, place(chosen), theme, rows=cells[1:])
    pairs = between[np.triu_indices(len(between), 1)]
    text = f"{after(chosen).capitalize()}, {plural(len(keys), 'key')}"
    text += f" have a mean cosine of {number(float(pairs.mean()))} with each other" if len(pairs) else " stand alone"
    mean = float(turned[steps.index(chosen), 1])
    text += f" and turned by {number(mean)} degrees on average since the step before" if np.isfinite(mean) else ""
    return Picture(drawn, f"{text}.", ("A key that stands still is found by the images that found it before.",))


@figure(
    title="Low-rank directions of each task",
    page="method",
    part="lowrank",
    needs=(_MAGNITUDE,),
    lacks="This learner adds no low-rank directions.",
)
def low_rank(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Magnitude and rank in use of the direction that every task added, layer by layer."""
    chosen, magnitude = _at(run, step, _MAGNITUDE)
    rank = run.snapshot(chosen).get(_RANK)
    over = [np.asarray(run.snapshot(s)[_MAGNITUDE], np.float64) for s in run.steps if _MAGNITUDE in run.snapshot(s)]
    layers, tasks = magnitude.shape
    drawn, cells = grid(2, 2)
    hover = "layer %{y}, direction of task %{x}<br>"
    names = {"x": _ordinals(tasks), "y": _ordinals(layers), "xgap": 1.5, "ygap": 1.5}
    top = max(float(np.nanmax(one, initial=0.0)) for one in over)
    heat(drawn, magnitude, hover=f"{hover}norm <b>%{{z:.3g}}</b>", ends=(0.0, top or 1.0), cell=cells[0],
         numbers="{:.2g}".format, colorbar={"x": 0.455}, **names)  # fmt: skip
    title(drawn, cells[0], "magnitude", "Frobenius norm", theme)
    title(drawn, cells[1], "rank in use", "", theme)
    if rank is None:
        missing(drawn, cells[1])
    else:
        heat(drawn, rank, hover=f"{hover}rank <b>%{{z:.0f}}</b>", ends=(0.0, max(float(np.max(rank)), 1.0)),
             cell=cells[1], numbers="{:.0f}".format, **names)  # fmt: skip
    finished(drawn, theme, "low_rank", 1, height=200 + 22 * layers)
    drawn.update_xaxes(title_text="direction of task", type="category", showgrid=False)
    drawn.update_yaxes(type="category", autorange="reversed", showgrid=False)
    drawn.update_yaxes(title_text="layer", row=1, col=1)
    by_task = np.sqrt((magnitude**2).sum(axis=0))
    most, least = int(by_task.argmax()), int(by_task.argmin())
    text = f"{after(chosen).capitalize()}, the direction of task {most + 1} "
    text += "is the largest, with a norm of" if tasks > 1 else "has a norm of"
    text += f" {number(float(by_task[most]))} over all layers"
    text += f", that of task {least + 1} the smallest with {number(float(by_task[least]))}" if tasks > 1 else ""
    return Picture(drawn, f"{text}.", ("Columns add up to what the weights wear.",))


@figure(
    title="The classifier before and after alignment",
    page="method",
    part="alignment",
    needs=(_BEFORE, _AFTER),
    lacks="This learner does not align its classifier after a task.",
    quantities=("nc3",),
)
def alignment(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Length of every row before and after alignment, and how well rows lie along their class means, over the steps."""
    chosen, before = _at(run, step, _BEFORE)
    shot = run.snapshot(chosen)
    rows = {"before": before, "after": np.asarray(shot[_AFTER], np.float64)}
    old = _old(shot)
    labels = class_labels(run, np.asarray(shot["seen"]).tolist())
    drawn, cells = grid(2, 2, column_widths=[0.52, 0.48])
    for side, symbol in (("before", "-open"), ("after", "")):
        length = np.linalg.norm(rows[side], axis=1)
        for age, (colour, mark) in AGES.items():
            mine = np.flatnonzero(old if age == "old" else ~old)
            line(drawn, mine + 1, length[mine], f"{age} classes, {side}", colour[theme], mark=f"{mark}{symbol}", size=7,
                 mode="markers", text=[labels[i] for i in mine], where="%{text}", form="length %{y:.3g}")  # fmt: skip
    duality = {(side, age): np.full(len(run.steps), np.nan) for side in rows for age in AGES}
    for at, one in enumerate(run.steps):
        for side, age, value in _duality(run.snapshot(one)):
            duality[side, age][at] = value
    for side, dash, symbol in (("before", "dot", "-open"), ("after", "solid", "")):
        for age, (colour, mark) in AGES.items():
            line(drawn, places(run.steps), duality[side, age], f"{age} classes, {side}", colour[theme], dash=dash,
                 mark=f"{mark}{symbol}", cell=cells[1], legend=False)  # fmt: skip
    title(drawn, cells[0], "length of a row", "open: before", theme)
    title(drawn, cells[1], "cosine of row and class mean", "\N{RIGHTWARDS ARROW} 1", theme)
    if not np.isfinite(np.concatenate([*duality.values()])).any():
        missing(drawn, cells[1], "rows and means have different widths")
    finished(drawn, theme, "alignment", 1, height=370)
    drawn.update_xaxes(title_text="classes, in the order of the stream", range=[0, len(run.order) + 1], row=1, col=1)
    drawn.update_yaxes(range=reach(*(np.linalg.norm(r, axis=1) for r in rows.values()), low=0.0), row=1, col=1)
    drawn.update_xaxes(**task_axis(len(run.info.tasks)), row=1, col=2)
    drawn.update_yaxes(range=reach(*duality.values(), high=1.0), row=1, col=2)
    cursor(drawn, place(chosen), theme, rows=cells[1:])
    return Picture(drawn, _aligned(rows, old, chosen), (
        "A longer row wins more often. Rows and class means are centred on their averages; means are of training images"
        " now, an oracle.",
    ))  # fmt: skip


def _old(shot: Snapshot) -> np.ndarray:
    tasks = np.asarray(shot["task_of_class"])
    return tasks < tasks.max(initial=0)


def _duality(shot: Snapshot) -> list[tuple[str, str, float]]:
    """Mean cosine of centred rows and centred class means, before and after, of old and of new classes."""
    found = []
    for side, name in (("before", _BEFORE), ("after", _AFTER)):
        if name in shot and shot[name].shape == shot["means/now"].shape and len(shot[name]) > 1:
            values, old = cosine(centre(shot[name]), centre(shot["means/now"])), _old(shot)
            found += [(side, age, float(values[m].mean())) for age, m in (("old", old), ("new", ~old)) if m.any()]
    return found


def _aligned(rows: dict[str, np.ndarray], old: np.ndarray, step: str) -> str:
    before, now = (np.linalg.norm(rows[side], axis=1) for side in ("before", "after"))
    angle = np.degrees(np.arccos(np.clip(cosine(rows["before"], rows["after"]), -1, 1)))
    turned = f"it turned rows by {number(float(np.nanmean(angle)))} degrees on average."
    if not old.any():
        return f"{after(step).capitalize()} no class is old yet; {turned}"
    ratio = [float(x[old].mean() / max(x[~old].mean(), 1e-12)) for x in (before, now)]
    return (
        f"{after(step).capitalize()}, rows of old classes are {number(ratio[0])} times as long as those of new ones"
        f" before alignment and {number(ratio[1])} times after it; {turned}"
    )


@figure(
    title="How alike the adapters are",
    page="method",
    part="adapters",
    needs=(_SIMILAR,),
    lacks="This learner keeps no adapter per task.",
    quantities=("linear_cka",),
    width=560,
)
def adapters(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Linear CKA of what the adapters of two tasks make of the same images."""
    chosen, similar = _at(run, step, _SIMILAR)
    drawn, cells = grid(1, 1)
    names = _ordinals(len(similar))
    heat(drawn, similar, hover="adapters of tasks %{y} and %{x}<br>CKA <b>%{z:.3f}</b>", ends=(0.0, 1.0),
         numbers="{:.2f}".format, x=names, y=names, xgap=1.5, ygap=1.5)  # fmt: skip
    finished(drawn, theme, "adapters", 1, height=440, top=34)
    matrix_axes(drawn, cells[0], "adapter of task")
    pairs = similar[np.triu_indices(len(similar), 1)]
    if not len(pairs):
        return Picture(drawn, f"{after(chosen).capitalize()} there is one adapter.")
    a, b = (int(index[pairs.argmin()]) for index in np.triu_indices(len(similar), 1))
    text = (
        f"{after(chosen).capitalize()}, two adapters agree with a mean CKA of {number(float(pairs.mean()))}; the most"
    )
    text += f" different are those of tasks {a + 1} and {b + 1} with {number(float(pairs.min()))}."
    return Picture(drawn, text, ("1: one is the other up to rotation and scale, so the second adds nothing.",))


@figure(
    title="Anchors and how near classes come to them",
    page="method",
    part="anchors",
    needs=(_ANCHORS,),
    lacks="This learner draws classes to no anchors.",
    quantities=("ideal_cosine",),
)
def anchors(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Angles between the anchors of all pairs of classes, and the cosine of each class mean with its own anchor."""
    chosen, rows = _at(run, step, _ANCHORS)
    count = len(rows)
    pairs = (unit(rows) @ unit(rows).T)[np.triu_indices(count, 1)]
    tasks = len(run.info.tasks)
    near = np.full((len(run.steps), tasks), np.nan)
    for at, one in enumerate(run.steps):
        shot = run.snapshot(one)
        if _ANCHORS in shot and shot[_ANCHORS].shape == shot["means/now"].shape:
            values = cosine(np.asarray(shot[_ANCHORS], np.float64), np.asarray(shot["means/now"], np.float64))
            of_class = shot["task_of_class"]
            for task in np.unique(of_class).tolist():
                near[at, task] = np.nanmean(values[of_class == task])
    drawn, cells = grid(2, 2)
    edges = np.linspace(-1, 1, 61)
    share = np.histogram(pairs, edges)[0] / max(len(pairs), 1)
    middles = (edges[1:] + edges[:-1]) / 2
    line(drawn, middles, share, "pairs of anchors", ACCENT[theme], mark="", form="%{y:.1%} of pairs",
         where="cosine %{x:.2f}", legend=False, fill="tozeroy", fillcolor=see_through(ACCENT[theme], 0.16),
         line={"color": ACCENT[theme], "width": 1.8, "shape": "hvh"})  # fmt: skip
    if count > 1:
        ideal = {"color": MUTED[theme], "width": 1.5, "dash": "dash"}
        drawn.add_vline(x=-1 / (count - 1), line=ideal, name="simplex", row=1, col=1)  # pyright: ignore
    task_lines(drawn, run.steps, near, "cosine <b>%{y:.3f}</b>", theme, cell=cells[1])
    title(drawn, cells[0], "angles between anchors", "dashed: a simplex", theme)
    title(drawn, cells[1], "class mean with its anchor", "\N{RIGHTWARDS ARROW} 1", theme)
    if not np.isfinite(near).any():
        missing(drawn, cells[1], "anchors and means have different widths")
    finished(drawn, theme, "anchors", 1, height=360)
    drawn.update_xaxes(title_text="cosine of two anchors", range=[-1, 1], row=1, col=1)
    drawn.update_yaxes(range=reach(share, low=0.0), tickformat=".0%", row=1, col=1)
    drawn.update_xaxes(**task_axis(tasks), row=1, col=2)
    drawn.update_yaxes(range=reach(near, high=1.0), row=1, col=2)
    cursor(drawn, place(chosen), theme, rows=cells[1:])
    if not len(pairs):
        return Picture(drawn, f"{after(chosen).capitalize()} there is one anchor.")
    text = f"{after(chosen).capitalize()}, {plural(count, 'anchor')} have cosines from {number(float(pairs.min()))} to"
    text += f" {number(float(pairs.max()))}; a simplex of as many has {number(-1 / (count - 1))}"
    known = near[run.steps.index(chosen)]
    if np.isfinite(known).any():
        worst = int(np.nanargmin(known))
        text += f". Classes of task {worst + 1} are furthest from theirs, with a mean cosine of"
        text += f" {number(float(known[worst]))}"
    return Picture(drawn, f"{text}.", ("Class means of training images now, an oracle, in the space of the features.",))


@figure(
    title="The penalty of the ridge",
    page="method",
    part="ridge",
    needs=(_GAMMA,),
    lacks="This learner chooses no penalty.",
)
def penalty(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """The penalty that the method chose after every task, on a log axis."""
    chosen, gamma = _at(run, step, _GAMMA)
    values = np.array([float(np.ravel(run.snapshot(s).get(_GAMMA, np.nan))[0]) for s in run.steps])
    drawn, cells = grid(1, 1)
    line(drawn, places(run.steps), values, "penalty", task_colour(0, theme), legend=False, form="%{y:.3g}")
    finished(drawn, theme, "penalty", 1, height=260, top=34)
    drawn.update_xaxes(**task_axis(len(run.info.tasks)))
    drawn.update_yaxes(title_text="penalty", exponentformat="power", **log_reach(values))
    cursor(drawn, place(chosen), theme, rows=cells)
    return Picture(
        drawn, f"{after(chosen).capitalize()}, the penalty of the ridge is {number(float(np.ravel(gamma)[0]))}."
    )
