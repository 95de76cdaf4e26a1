"""Two sets of answers to the same probe images beside each other: accuracy by task, and the images that changed."""

import numpy as np
import streamlit as st

from app.images import images
from app.learner.live import Answer
from app.shell import html
from app.shell.store import Opened
from app.shell.theme import task_colour

_MOST = 12  # images shown
_NUMBERED = 20  # tasks whose number stands under their bar; of more, every second, third ... one


def by_task(before: Answer, after: Answer, tasks: np.ndarray, count: int, reference: str = "as learnt") -> str:
    """Accuracy per task: a bar now, a line before."""
    cells, every = [], -(-count // _NUMBERED)
    for task in range(count):
        mine = tasks == task
        if not mine.any():
            continue
        now, then = float(after.right[mine].mean()), float(before.right[mine].mean())
        cells.append(
            f'<span title="Task {task + 1}: {html.percent(now)}, {html.safe(reference)} {html.percent(then)}">'
            f'<i style="height:{100 * now:.1f}%;background:{task_colour(task)}"></i>'
            f'<u style="bottom:{100 * then:.1f}%"></u>'
            f"<small>{task + 1 if task % every == 0 else ''}</small></span>"
        )
    what = f"Accuracy by task; the line is “{html.safe(reference)}”"
    return f'<p class="ci-what">{what}</p><div class="ci-pairs{" many" if count > 30 else ""}">{"".join(cells)}</div>'


def counts(before: Answer, after: Answer) -> tuple[int, int, int]:
    """How many answers differ, how many became right, how many became wrong."""
    changed = before.predicted != after.predicted
    fixed, lost = changed & after.right & ~before.right, changed & before.right & ~after.right
    return int(changed.sum()), int(fixed.sum()), int(lost.sum())


def facts(before: Answer, after: Answer, new: np.ndarray, sure: float) -> list[tuple[str, str, str]]:
    """Accuracy on all images, on those of earlier tasks and on the `new` ones, and how it changed; mean confidence."""

    def share(name: str, mine: np.ndarray) -> tuple[str, str, str]:
        if not mine.any():
            return name, html.percent(None), ""
        now, then = float(after.right[mine].mean()), float(before.right[mine].mean())
        return name, html.percent(now), html.signed(now, then)

    changed, fixed, lost = counts(before, after)
    return [
        share("Accuracy, all", np.ones(len(new), dtype=bool)), share("Earlier tasks", ~new), share("This task", new),
        ("Mean confidence", html.percent(sure), ""),
        ("Answers changed", str(changed), f"of {len(new)}"), ("Now right / now wrong", f"{fixed} / {lost}", ""),
    ]  # fmt: skip


def on_what(count: int) -> str:
    """Which images were asked."""
    return (
        f"Asked on the {count} probe images of seen classes, all from the test set; one image is "
        f"{100 / max(count, 1):.1f} points."
    )


def in_turn(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Places of changed answers, a lost one and a gained one in turn; those wrong in both say least and come last."""
    kind = np.where(before, 0, np.where(after, 1, 2))
    nth = np.zeros(len(kind), dtype=int)  # of its kind
    for one in range(3):
        nth[kind == one] = np.arange((kind == one).sum())
    return np.lexsort((kind, nth, kind == 2))


def pictures(run: Opened, before: Answer, after: Answer, same: str = "No answer differs.") -> None:
    """The images whose answer changed, with the answer before and now."""
    changed = np.flatnonzero(before.predicted != after.predicted)
    if not len(changed):
        html.note(same)
        return
    st.header("Changed answers", anchor=False)
    shown = changed[in_turn(before.right[changed], after.right[changed])][:_MOST]
    info, cells = run.run.info, []
    url = (
        images.crop_atlas(run, [int(after.positions[i]) for i in shown], len(shown)) if images.has_sprites(run) else ""
    )
    for at, i in enumerate(shown):
        mark = "✓ now right" if after.right[i] else "✗ now wrong" if before.right[i] else "wrong in both"
        tile = images.tile(at, len(shown), 1) if url else "<span></span>"
        cells.append(
            f"<div>{tile}<p><b>{html.safe(mark)}</b><em>{html.safe(info.name_of(int(before.predicted[i])))} → "
            f"{html.safe(info.name_of(int(after.predicted[i])))}</em></p></div>"
        )
    html.show(f'<div class="ci-changes" style="--atlas:url({url})">{"".join(cells)}</div>')
    if len(changed) > len(shown):
        html.note(f"{len(shown)} of {len(changed)} shown.")
