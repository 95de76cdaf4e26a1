"""Saliency maps of one probe image: as recorded in the run, or computed from a checkpoint where there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st

from app.images import images
from app.learner import live
from app.shell import html, state
from app.shell.kept import keep, weight
from app.shell.store import Opened
from cillab.core.errors import CillabError, one_line

TARGETS = {
    "true": ("Its own class", "what speaks for the true class"),
    "predicted": ("The answer", "what speaks for the class answered"),
    "difference": ("One against the other", "true class against its strongest rival"),
}
_ATTENTION = {
    "true": ("Attention x gradient", "what speaks for the true class, through all blocks"),
    "predicted": ("Attention x gradient", "what speaks for the class answered, through all blocks"),
    "rollout": ("Attention rollout", "where the features come from; of no class"),
}
_MOST_STEPS = 12  # in the strip
_MAPS_BYTES = 48_000_000  # of recorded maps kept for all who look


@dataclass
class Maps:
    """Maps by step and target, their common top, and where they come from."""

    found: dict[int, dict[str, np.ndarray]]
    floor: float | None = None  # measured on a live learner: for maps without a floor of their own
    why_not: str = ""
    floors: Mapping[tuple[int, str], float] = field(default_factory=dict)  # as recorded, by step and target

    @property
    def top(self) -> float:
        """The largest value of all maps: the end of the shared scale."""
        return max((float(m.max()) for maps in self.found.values() for m in maps.values()), default=0.0)

    def weak(self, values: np.ndarray, step: int, target: str) -> bool:
        """Does a map stay below what a random head shows?"""
        floor = self.floors.get((step, target), self.floor)
        return floor is not None and float(values.max()) < floor


@keep(_MAPS_BYTES, weight, lambda view, step: (view.token, step))
def _stored(view: Opened, step: int) -> dict[str, tuple[Any, ...]]:
    """What the probe stored at this step, by target: maps, scales and noise floor of all images, read once for all."""
    names, shot = ("cam", "cam_scale", "cam_floor"), view.snapshots[step]
    return {target: tuple(shot.get(f"{name}/{target}") for name in names) for target in TARGETS}


def _recorded(view: Opened, step: int, index: int) -> dict[str, np.ndarray]:
    """The maps that the probe stored at this step, in the unit of the learner's scores."""
    out = {}
    for target, (values, scale, _) in _stored(view, step).items():
        if values is None or scale is None or not np.isfinite(scale[index]):
            continue
        out[target] = np.asarray(values[index], dtype=np.float64) / 255 * float(scale[index])
    return out


@st.cache_resource(max_entries=256, show_spinner=False)
def _live_maps(path: str, task: int, changed: float, index: int, _found: live.Live) -> dict[str, np.ndarray] | str:
    try:
        return live.cams(_found, index)
    except CillabError as error:
        return one_line(error)


@st.cache_resource(max_entries=16, show_spinner=False)
def _floor(path: str, task: int, changed: float, _found: live.Live) -> float | None:
    return live.floor(_found)


def floor(view: Opened, task: int, found: live.Live) -> float | None:
    """The noise floor of the learner after `task`, measured once."""
    with st.spinner("Measuring the noise floor …"):
        return _floor(str(view.run.path), task, view.run.checkpoints[task].stat().st_mtime, found)


def collect(view: Opened, index: int) -> Maps:
    """The maps that the probe stored, without torch."""
    floors = {
        (i, target): float(floor)
        for i in range(len(view.steps)) for target, (_, _, floor) in _stored(view, i).items()
        if floor is not None and np.isfinite(floor)
    }  # fmt: skip
    maps = Maps({i: m for i in range(len(view.steps)) if (m := _recorded(view, i, index))}, floors=floors)
    if not maps.found:
        maps.why_not = (
            "This run stored no maps. Switch the learner on to compute them."
            if live.available(view)
            else f"This run stored no maps. {live.why_not(view, view.snapshots[-1].task)}"
            if view.run.checkpoints
            else "This run stored neither maps nor a checkpoint: record one with `--cams`, or keep its checkpoints."
        )
    return maps


def wanted(view: Opened, maps: Maps) -> bool:
    """Offer the learner itself where a checkpoint was kept; True when it is asked for."""
    what = "noise floor and attention" if maps.found else "maps"
    if not live.available(view):
        return False
    asked = st.toggle(f"Rebuild the learner for the {what}", key="live", **state.bound())
    if not asked:
        html.note(live.expected(view))
    return asked


def ask(view: Opened, index: int, maps: Maps) -> Maps:
    """Add what only the learner can tell: maps of the kept states where none are stored, and the noise floor."""
    kept = live.available(view)
    steps = {i: s.task for i, s in enumerate(view.snapshots) if s.task in kept and "e" not in s.id}
    newest = max(steps, default=None)
    for i, task in steps.items():
        if i in maps.found and i != newest:
            continue
        found = live.load(view, task)
        if found is None:  # on its way; what is there is shown
            return maps
        if isinstance(found, str):
            return replace(maps, why_not=found)
        changed = view.run.checkpoints[task].stat().st_mtime
        if i not in maps.found:
            with st.spinner("Computing the maps …"):
                computed = _live_maps(str(view.run.path), task, changed, index, found)
            if isinstance(computed, str):
                return replace(maps, why_not=computed)
            maps.found[i] = computed
        if i == newest:
            maps.floor = floor(view, task, found)
    return maps


def primary(view: Opened, step: int, index: int, maps: Maps) -> None:
    """The image and its three maps at one step, large."""
    probe, info = view.run.probe, view.run.info
    label, answer = int(probe.labels[index]), int(view.snapshots[step]["predictions"][index])
    seen = label in {int(c) for c in view.snapshots[step]["seen"]}
    st.header(html.markdown(info.name_of(label)), anchor=False)
    answered = "answered rightly" if label == answer else f"answered “{info.name_of(answer)}”"
    verdict = f"After {view.label(step).lower()}: {answered if seen else 'not seen yet'}."
    html.show(f"<p>A class of task {int(probe.tasks[index]) + 1}. {html.safe(verdict)}</p>", "ci-sentence")
    if not images.has_sprites(view):
        html.empty("No picture", "This run was written without thumbnails.")
        return
    html.show(_row(view, step, index, maps, ("The image", f"as stored, {probe.tile} px")), "ci-cams")
    if step in maps.found:
        _scale(maps, "the largest value over all tasks and targets")
    elif not maps.found:
        html.empty("No map to show", maps.why_not)
    else:
        html.note("No map at this step: none was stored, and the learner of this step was not kept or not asked.")


def compared(view: Opened, index: int, maps: Maps, words: Sequence[tuple[str, str]]) -> None:
    """One image under several mixtures, a row each on one scale, with `words` beneath the image of a row."""
    rows = [_row(view, at, index, maps, texts) for at, texts in enumerate(words)]
    html.show("".join(rows), "ci-cams")
    _scale(maps, "the largest value of these maps")


def attention(view: Opened, step: int, index: int) -> None:
    """Two other methods beside Grad-CAM, asked of the learner of this step."""
    if not images.has_sprites(view):
        return
    st.header("From attention", anchor=False)
    found = live.load(view, view.snapshots[step].task)
    if found is None:
        return
    try:
        maps = live.attention(found, index) if isinstance(found, live.Live) else found
    except CillabError as error:
        maps = one_line(error)
    if isinstance(maps, str):
        html.empty("No attention to show", maps)
        return
    probe = view.run.probe
    sprite, name = np.ascontiguousarray(probe.sprite(index)), view.run.info.name_of(int(probe.labels[index]))
    rollout = {"rollout": maps.pop("rollout")} if "rollout" in maps else {}
    cells = [_figure(images.data_url(images.plain(sprite, 256)), name, view.label(step))]
    for key, (title, words) in _ATTENTION.items():
        scale = Maps({0: rollout if key == "rollout" else maps})  # each method has a unit of its own
        cells.append(_large(sprite, scale, scale.found[0].get(key), (title, words, name)))
    html.show(f'<div class="ci-big">{"".join(cells)}</div>', "ci-cams")
    html.note(
        "Another question than Grad-CAM's, which looks at the last block alone. Rollout knows no class: its map is the "
        "same for every answer.",
        "Attention x gradient weights the attention of every block by its gradient for a class (Chefer et al. 2021); "
        "rollout multiplies the attention of all blocks (Abnar and Zuidema 2020). Each has its own scale.",
    )


def _row(view: Opened, at: int, index: int, maps: Maps, texts: tuple[str, str]) -> str:
    """The image with a title and a line beneath it, and its three maps."""
    probe = view.run.probe
    sprite, name = np.ascontiguousarray(probe.sprite(index)), view.run.info.name_of(int(probe.labels[index]))
    cells = [_figure(images.data_url(images.plain(sprite, 256)), name, *texts)]
    for target, (title, words) in TARGETS.items():
        values = maps.found.get(at, {}).get(target)
        weak = values is not None and maps.weak(values, at, target)
        cells.append(_large(sprite, maps, values, (title, words, name), weak))
    return f'<div class="ci-big">{"".join(cells)}</div>'


def _figure(url: str, alt: str, title: str, *small: str, kind: str = "") -> str:
    lines = "".join(f"<small>{html.safe(line)}</small>" for line in small)
    image = f'<img src="{url}" alt="{html.safe(alt)}">'
    return f'<figure class="{kind}">{image}<figcaption>{html.safe(title)}{lines}</figcaption></figure>'


def _large(
    sprite: np.ndarray, maps: Maps, values: np.ndarray | None, texts: tuple[str, str, str], weak: bool = False
) -> str:
    title, words, name = texts
    if values is None or weak:
        what = "none at this step" if values is None else f"below the noise floor: max {_most(values)}"
        gap = f'<div class="void">{what}</div>'
        return f"<figure>{gap}<figcaption>{title}<small>{words}</small></figcaption></figure>"
    most = f"max {_most(values)}"
    url = images.overlay_url(sprite, values / max(maps.top, 1e-12), 256)
    return _figure(url, f"{title}: {words}, for {name}; {most}", title, words, most)


def _most(values: np.ndarray) -> str:
    return html.number(float(values.max()))


def _scale(maps: Maps, end: str) -> None:
    bar = f'<i style="background:{images.heat_css()}"></i>'
    top = f"{html.number(maps.top)}, {end}"
    html.show(f"<span>0</span>{bar}<span>{top}</span>", "ci-scale")
    says = "what 95 % of the maps of a random head stay below. A map under it says nothing and is not drawn."
    if maps.floors:
        low, high = min(maps.floors.values()), max(maps.floors.values())
        html.note(f"Noise floor {html.number(low)} to {html.number(high)}, measured at every step and target: {says}")
    elif maps.floor is not None:
        html.note(f"Noise floor {html.number(maps.floor)}, measured on the newest learner kept: {says}")
    else:
        html.note(
            "The noise floor (what a random head would show) needs the learner itself; without it, take maps near zero "
            "for silence."
        )


def steps_shown(count: int, step: int) -> list[int]:
    """At most a dozen steps: evenly spread, with the one shown."""
    if count <= _MOST_STEPS:
        return list(range(count))
    even = np.unique(np.linspace(0, count - 1, _MOST_STEPS - 1).round().astype(int)).tolist()
    return sorted({*even, step})


def strip(view: Opened, step: int, index: int, maps: Maps, answers: bool = True) -> None:
    """One row per target, one column per task, one scale; below it the answers, if wanted."""
    if not maps.found or not images.has_sprites(view):
        return
    st.header("Over the tasks" if answers else "What it looks at, over the tasks", anchor=False)
    sprite, label = np.ascontiguousarray(view.run.probe.sprite(index)), int(view.run.probe.labels[index])
    steps = steps_shown(len(view.steps), step)
    heads = [f"task {view.snapshots[i].task + 1}" for i in steps]
    bold = [f"<b>{head}</b>" if i == step else head for i, head in zip(steps, heads, strict=True)]
    rows = ["<div></div>", *(f"<figcaption>{head}</figcaption>" for head in bold)]
    for target, (title, _) in TARGETS.items():
        rows.append(f'<div class="head">{title}</div>')
        rows += [_small(sprite, maps, i, target, i == step) for i in steps]
    if answers:
        rows.append('<div class="head">Answer</div>')
    for i in steps if answers else ():
        seen = label in {int(c) for c in view.snapshots[i]["seen"]}
        answer = int(view.snapshots[i]["predictions"][index])
        text = "not seen" if not seen else "✓" if answer == label else f"✗ {html.safe(view.run.info.name_of(answer))}"
        rows.append(f"<figcaption>{text}</figcaption>")
    columns = f"grid-template-columns:84px repeat({len(steps)},minmax(var(--cell),9rem))"
    html.show(f'<div class="ci-strip" style="{columns}">{"".join(rows)}</div>')


def _small(sprite: np.ndarray, maps: Maps, at: int, target: str, now: bool) -> str:
    values = maps.found.get(at, {}).get(target)
    if values is None or maps.weak(values, at, target):
        return f'<div class="void">{"none" if values is None else "below the floor"}</div>'
    url = images.overlay_url(sprite, values / max(maps.top, 1e-12), 96)
    caption = f"<figcaption><small>{html.number(float(values.max()), 2)}</small></figcaption>"
    return f'<figure class="{"now" if now else ""}"><img src="{url}" alt="">{caption}</figure>'
