"""The parts of the Noise mixing page: dead generators, and the live what-if."""

import numpy as np
import streamlit as st

from app.images import changes, images, saliency
from app.learner import live
from app.shell import html, state
from app.shell.store import Opened, fragment
from cillab.core.errors import CillabError, one_line

_FIRST = "changed"  # of the images to look at: the first whose answer changed


def dead(run: Opened, step: int) -> None:
    """Which generators put out nothing, in words."""
    flags = run.snapshots[step].get("internals/noise/dead")
    if flags is None:
        return
    flags = np.asarray(flags, dtype=bool)
    if not flags.any():
        html.note("Every generator puts out something in every layer.")
        return
    if flags.all():
        html.note("Every generator is dead in every layer: the mixture adds nothing, whatever its weights are.")
        return
    by_task = [(t, np.flatnonzero(flags[:, t]) + 1) for t in range(flags.shape[1]) if flags[:, t].any()]
    parts = [
        f"task {t + 1} in {'every layer' if len(layers) == len(flags) else 'layer ' + ', '.join(map(str, layers))}"
        for t, layers in by_task
    ]
    html.note(f"Dead generators: {'; '.join(parts)}. Their weight, whatever it is, changes nothing.")


@fragment
def what_if(run: Opened, step: int) -> None:
    """Sliders over the generators; accuracy and changed answers on a part of the probe, answered live."""
    st.header("What if?", anchor=False)
    task = run.snapshots[step].task
    if task not in live.available(run):
        html.empty("No live learner at this step", live.why_not(run, task))
        _jump(run)
        return
    st.toggle("Rebuild the learner to ask it", key="live", **state.bound())
    if not st.session_state.get("live"):
        html.note(live.expected(run))
        return
    found = live.load(run, task)
    if found is None:
        return
    if isinstance(found, str):
        html.empty("The learner cannot be rebuilt here", found)
        return
    if not found.learnt or not len(found.learnt[0]):
        html.empty("Nothing is mixed at this step", "The learner has no noise generator yet.")
        return
    count = len(found.learnt[0])
    left, right = st.columns([1.25, 1], gap="large")
    with left:
        factors, equal = _controls(count, bool(getattr(found.reopened.learner.params, "recentre", False)))
    before = live.ask(found, [1.0] * count, equal=False)
    after = live.ask(found, factors, equal)
    with right:
        _numbers(run, before, after, task)
    changes.pictures(run, before, after, "No answer differs from the learnt mixture.")
    _looks(run, found, task, (before, after), mixture=(factors, equal))


def _jump(run: Opened) -> None:
    """A way to the nearest step that can be asked."""
    kept = [i for i, snapshot in enumerate(run.snapshots) if snapshot.task in live.available(run)]
    if kept and st.button(f"Go to task {run.snapshots[kept[-1]].task + 1}", key="jump-live"):
        state.put("step", kept[-1])
        st.rerun()


def _set(factors: list[float]) -> None:
    for index, factor in enumerate(factors):
        st.session_state[f"w{index + 1}"] = factor


def _controls(count: int, recentred: bool) -> tuple[list[float], bool]:
    """One factor per generator, shared by all layers, and presets for the usual ablations."""
    with st.container(horizontal=True, gap="small"):
        st.button("As learnt", key="mix-learnt", on_click=_set, args=([1.0] * count,))
        st.button("All off", key="mix-off", on_click=_set, args=([0.0] * count,))
        st.button("Newest only", key="mix-newest", on_click=_set, args=([0.0] * (count - 1) + [1.0],))
        st.button(
            "Without the newest",
            key="mix-older",
            on_click=_set,
            args=([1.0] * (count - 1) + [0.0],),
            disabled=count < 2,
        )
    equal = st.toggle("Start from equal weights instead of the learnt ones", key="equal", **state.bound())
    factors = []
    across = 2 if count <= 12 else 4
    columns = st.columns(across, gap="medium")
    for index in range(count):
        with columns[index % across]:
            value = st.slider(
                f"Generator of task {index + 1}",
                0.0,
                2.0,
                1.0,
                0.1,
                key=f"w{index + 1}",
                format="%.1f\N{MULTIPLICATION SIGN}",
                **state.bound(),
            )
            factors.append(float(value))
    html.note("A factor multiplies the weight of a generator in every layer: 1 leaves it, 0 turns it off.")
    if recentred:
        html.note(
            "This learner takes off its features what noise has added to all images alike. That vector stays as it was "
            "learnt while factors move, so a part of what you see is a shift that the learner would have taken off."
        )
    return factors, bool(equal)


def _looks(
    run: Opened,
    found: live.Live,
    task: int,
    answers: tuple[live.Answer, live.Answer],
    mixture: tuple[list[float], bool],
) -> None:
    """Where the evidence for an answer stands: Grad-CAM of one image under the learnt mixture and under this one."""
    st.subheader("What it looks at", anchor=False)
    if not images.has_sprites(run):
        html.empty("No picture", "This run was written without thumbnails.")
        return
    before, after = answers
    info, ids = run.run.info, [str(i) for i in run.run.probe.ids]
    asked = {ids[position]: at for at, position in enumerate(after.positions)}
    names = {key: f"{info.name_of(int(after.labels[at]))} ({key})" for key, at in asked.items()}
    names = {_FIRST: "the first whose answer changed", **dict(sorted(names.items(), key=lambda item: item[1]))}
    chosen = st.selectbox("Image", list(names), key="look", format_func=names.__getitem__, **state.bound())
    changed = np.flatnonzero(before.predicted != after.predicted)
    at = asked.get(chosen or _FIRST, int(changed[0]) if len(changed) else 0)
    index = int(after.positions[at])
    try:
        maps = {0: live.cams(found, index), 1: live.cams(found, index, *mixture)}
    except CillabError as error:
        html.empty("No map to show", one_line(error))
        return
    words = [
        (title, f"answers “{info.name_of(int(one.predicted[at]))}” {'✓' if one.right[at] else '✗'}")
        for title, one in (("As learnt", before), ("With this mixture", after))
    ]
    saliency.compared(run, index, saliency.Maps(maps, saliency.floor(run, task, found)), words)


def _numbers(run: Opened, before: live.Answer, after: live.Answer, task: int) -> None:
    changed, fixed, lost = changes.counts(before, after)
    rows = [
        (
            "Accuracy with this mixture",
            html.percent(float(after.right.mean())),
            html.signed(float(after.right.mean()), float(before.right.mean())),
        ),
        ("As learnt", html.percent(float(before.right.mean())), ""),
        ("Answers changed", str(changed), f"of {len(after.labels)}"),
        ("Now right / now wrong", f"{fixed} / {lost}", ""),
    ]
    with st.container(border=True, key="what-if-numbers"):
        html.show(html.facts(rows))
        tasks = run.run.probe.tasks[after.positions]
        html.show(changes.by_task(before, after, tasks, task + 1))
        html.note(
            f"{len(after.labels)} of {len(run.run.probe)} probe images, as many of every class seen as fit, "
            f"answered in {after.milliseconds:.0f} ms."
        )
