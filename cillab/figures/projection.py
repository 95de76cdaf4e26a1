"""The probe in a fixed plane: points by task or by a few classes in focus, class means, and the head's directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Bool, Float32, Float64, Int64

from cillab.core.errors import InvalidRequestError
from cillab.figures.palette import GRID, TEXT, UNSEEN, Theme, style, task_colour, task_mark
from cillab.figures.panels import marks
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import after, percent, plural
from cillab.plane import Plane, box, lay
from cillab.runs import Run

_FOCUS_UP_TO = 8  # hues that can be told apart


@dataclass(frozen=True, eq=False)
class Scene:
    """One step of a run in two axes that are the same at every step."""

    step: str
    points: Float32[np.ndarray, "image 2"]
    labels: Int64[np.ndarray, " image"]
    tasks: Int64[np.ndarray, " image"]
    seen: Bool[np.ndarray, " image"]  # is the class of the image known to the learner at this step?
    predictions: Int64[np.ndarray, " image"]
    hover: tuple[str, ...]
    class_ids: Int64[np.ndarray, " cls"]
    class_tasks: Int64[np.ndarray, " cls"]
    means: Float32[np.ndarray, "cls 2"]
    head: Float32[np.ndarray, "cls 2"] | None
    names: Mapping[int, str]  # by class id
    ranges: Float64[np.ndarray, "2 2"]
    explained: float


def read_plane(run: Run, step: str | int | None = None, plane: Plane | None = None) -> Scene:
    """One step in `plane` (principal axes, laid here if not given: pass it when many steps are drawn)."""
    chosen = run.resolve(step)
    if plane is None or chosen not in plane.steps:  # the run went on since it was laid
        plane = lay(run, kind="variance")
    at = plane.steps.index(chosen)
    shot, probe = run.snapshot(chosen), run.probe
    seen_ids = np.asarray(shot["seen"], np.int64)
    predictions = np.asarray(shot["predictions"], np.int64)
    known = np.isin(probe.labels, seen_ids)
    name = run.info.name_of
    hover = tuple(
        f"<b>{name(label)}</b><br>predicted {name(guess)}<br>{image}"
        for label, guess, image in zip(probe.labels, predictions, probe.ids, strict=True)
    )
    column = {class_id: index for index, class_id in enumerate(run.order)}
    rows = [column[class_id] for class_id in seen_ids.tolist()]
    means, head = (None if table is None else table[at, rows] for table in (plane.means, plane.head))
    return Scene(
        chosen,
        plane.points[at],
        probe.labels,
        probe.tasks.astype(np.int64),
        known,
        predictions,
        hover,
        seen_ids,
        np.asarray(shot["task_of_class"], np.int64),
        np.full((len(rows), 2), np.nan, np.float32) if means is None else means,
        head if head is not None and np.isfinite(head).all() else None,
        {c: name(c) for c in run.order},
        box(plane.points),
        plane.share,
    )


def _sentence(data: Scene) -> str:
    known = int(data.seen.sum())
    right = int((data.predictions == data.labels)[data.seen].sum())
    share = f" ({percent(right / known)})" if known else ""
    shown = f"{right:,} of {plural(known, 'probe image')} of classes seen are right{share}"
    part = f"the plane holds {percent(data.explained)} of the variance of all steps"
    return f"{after(data.step).capitalize()}, {shown}; {part}."


class _Look(NamedTuple):
    name: str
    colour: str
    mark: str
    size: float
    opacity: float


def _points(figure: go.Figure, data: Scene, chosen: np.ndarray, look: _Look) -> None:
    index = np.flatnonzero(chosen)
    if not len(index):
        return
    wrong = (data.predictions != data.labels)[index] & data.seen[index]
    marker = {
        "color": look.colour, "size": look.size, "opacity": look.opacity,
        "symbol": np.where(wrong, f"{look.mark}-open", look.mark).tolist(),
        "line": {"width": np.where(wrong, 1.4, 0.0).astype(np.float32)},
    }  # fmt: skip
    marks(figure, data.points[index], look.name, marker, text=[data.hover[i] for i in index],
          customdata=index.astype(np.int32), hovertemplate=f"%{{text}}<extra>{look.name}</extra>")  # fmt: skip


@figure(
    title="Test images in one fixed plane",
    page="explore",
    needs=("features", "predictions"),
)
def projection(
    run: Run,
    step: str | int | None = None,
    *,
    focus: Sequence[int] = (),
    show_head: bool = False,
    theme: Theme = "light",
    plane: Plane | None = None,
) -> Picture:
    """The probe of a run at `step` (default: the last) in a plane that is the same at every step.

    Points by task, or with `focus` by class (at most 8 class ids) and the rest grey; large diamonds: class means.

    Raises:
        InvalidRequestError: more classes in focus than hues that can be told apart.
    """
    if len(focus) > _FOCUS_UP_TO:
        raise InvalidRequestError(f"focus holds {len(focus)} classes. Valid: at most {_FOCUS_UP_TO}.")
    data = read_plane(run, step, plane)
    figure = go.Figure()
    rest = ~np.isin(data.labels, focus) if focus else ~data.seen
    grey = _Look("other classes" if focus else "not yet learnt", UNSEEN[theme], "circle", 4.5, 0.8)
    _points(figure, data, rest, grey)
    for index, group in enumerate(focus or sorted(set(data.class_tasks.tolist()))):
        chosen = data.labels == group if focus else (data.tasks == group) & data.seen
        hue = index if focus else int(group)
        name = data.names.get(group, f"class {group}") if focus else f"task {hue + 1}"
        _points(figure, data, chosen, _Look(name, task_colour(hue, theme), task_mark(hue), 6.5, 0.8))
    kept = np.flatnonzero(np.isin(data.class_ids, focus)) if focus else np.arange(len(data.class_ids))
    hues = [list(focus).index(data.class_ids[i]) if focus else int(data.class_tasks[i]) for i in kept]
    colours = [task_colour(hue, theme) for hue in hues]
    names = [data.names.get(int(data.class_ids[i]), f"class {data.class_ids[i]}") for i in kept]
    size = 10 if len(kept) <= 40 else 7.5
    if show_head and data.head is not None:
        look = {"symbol": "x-thin", "size": size - 1, "line": {"width": 2, "color": colours}}
        marks(figure, data.head[kept], "head rows", look, text=names, hover="<b>%{text}</b><br>head rows")
    look = {"symbol": "diamond", "size": size, "color": colours, "line": {"width": 1.4, "color": TEXT[theme]}}
    marks(figure, data.means[kept], "class means", look, text=names, hover="<b>%{text}</b><br>class means")
    legend = {"font": {"size": 11}, "itemwidth": 30}
    style(figure, theme, name="projection", height=480, legend=legend, margin={"l": 36, "b": 40})
    for axis, update in enumerate((figure.update_xaxes, figure.update_yaxes)):
        update(range=data.ranges[axis].tolist(), title_text=f"principal axis {axis + 1}", showgrid=False, nticks=3)
        update(showticklabels=False, showline=True, mirror=True, linecolor=GRID[theme], linewidth=1)
    figure.update_yaxes(scaleanchor="x", scaleratio=1)
    notes = ("Principal axes fitted once on the probe features of all steps: what moves here moved in feature space.",)
    notes += ("Open marks: images of classes seen that are taken for another class.",)
    if show_head and data.head is not None:
        notes += ("Head rows show directions, as long as a class mean is on average.",)
    return Picture(figure, _sentence(data), notes)
