"""One self-contained page about a run: protocol, numbers, images, every figure that it supports. It opens offline."""

from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from plotly.offline import get_plotlyjs

from cillab import figures
from cillab.core.errors import CillabError, RunError, UnknownNameError, one_line
from cillab.figures import Picture
from cillab.figures.picture import NARROW, SCREEN
from cillab.figures.words import MINUS
from cillab.runs import Run
from cillab.runs.checks import is_finite
from cillab.runs.files import write_text
from cillab.screen import percent

_IMAGES = 12  # at most, one of each of as many tasks
_STRIPS = 4  # of these the first ones get their Grad-CAM over all steps

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
body { color: #1b1f24; background: #ffffff; } /* the preview of the app lies on its page, which may be dark */
h1 { font-size: 1.6rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
th { vertical-align: top; } td { overflow-wrap: anywhere; }
h2 { margin-top: 3rem; border-bottom: 1px solid #e5e7eb; } h3 { margin: 2rem 0 0; font-size: 1.05rem; }
figure { margin: 1rem 0 .4rem; } .notes { margin: 0; font-size: .8rem; color: #4b5563; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; }
.images div { font-size: .8rem; line-height: 1.3; } .images img { display: block; width: 6rem; }
.images span { display: block; color: #4b5563; }
figcaption { color: #4b5563; } code { background: #f3f4f6; padding: .1rem .3rem; }
"""


def write_report(path: str | Path, out: str | Path, tell: Callable[[int, int], None] = lambda done, of: None) -> int:
    """Write the page of the run at `path`; returns its size in bytes.

    `tell` hears before each figure how many of how many have been drawn; what it raises ends the work.

    Raises:
        RunError: no run there, or nothing learnt yet.
    """
    run = Run(path)
    if not run.task_steps:
        raise RunError(f"{run.path} has no finished task yet: there is nothing to report.")
    text = _page(run, tell)
    write_text(Path(out), text)
    return len(text.encode())


@dataclass(frozen=True)
class _Drawn:
    """A figure of the run, in the chapter where the app shows it."""

    chapter: str
    title: str
    picture: Picture


def _page(run: Run, tell: Callable[[int, int], None]) -> str:
    images = _images(run)
    drawn, missing = _draw(run, images[:_STRIPS], tell)
    protocol = {key: value for key, value in run.protocol.model_dump().items() if value not in (None, "", {})}
    title = f"{run.protocol.learner or run.name} on {run.protocol.data or 'a stream'}, {run.protocol.split}"
    absent = "".join(f"<li>{escape(line)}</li>" for line in missing)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"{SCREEN}"
        f"<style>{NARROW}{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        f"<h1>{escape(title)}</h1>{_numbers(run)}"
        + "".join(f"<p>{escape(note)}</p>" for note in run.info.notes)
        + f"{_gallery(run, images)}{_chapters(drawn)}"
        + (f"<h2>Not in this run</h2><ul>{absent}</ul>" if missing else "")
        + f"<h2>Protocol</h2>{_table(protocol)}"
        f"<p>Written by cillab {escape(run.info.cillab_version)} on {escape(run.info.created)}.</p></body></html>"
    )


def _draw(run: Run, points: Sequence[int], tell: Callable[[int, int], None]) -> tuple[list[_Drawn], list[str]]:
    """Every figure that the run supports, those of one image for each of `points`; and what is missing, and why."""
    drawn, missing = list[_Drawn](), list[str]()
    everything = list(figures.figures_of())
    for done, one in enumerate(everything):
        tell(done, len(everything))
        for options in [{"point": point} for point in points] if one.per_image else [{}]:
            try:
                picture = one.draw(run, **options)
                reason = picture.sentence if picture.empty else ""
            except UnknownNameError as error:
                picture, reason = None, str(error).split(". ")[0]
            except (CillabError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                if is_finite(run):
                    raise
                picture, reason = None, f"the run holds numbers that are not finite ({one_line(error)[:120]})"
            if picture is None or reason:
                missing.append(f"{one.title}: {reason}")
                break
            chapter = figures.PAGES[one.page].title if one.page in figures.PAGES else one.page
            drawn.append(_Drawn(chapter, one.title, picture))
    return drawn, missing


def _chapters(drawn: Sequence[_Drawn]) -> str:
    """The figures by chapter; a note of several of them stands once, at the end, and they refer to it."""
    count = Counter(note for one in drawn for note in one.picture.notes)
    common = {note: at for at, note in enumerate((n for n, times in count.items() if times > 1), start=1)}
    parts, chapter = [], ""
    for one in drawn:
        if one.chapter != chapter:
            chapter = one.chapter
            parts.append(f"<h2>{escape(chapter)}</h2>")
        own = tuple(note for note in one.picture.notes if note not in common)
        links = ", ".join(f'<a href="#note-{at}">{at}</a>' for n, at in common.items() if n in one.picture.notes)
        parts.append(f"<h3>{escape(one.title)}</h3>{replace(one.picture, notes=own).html(include_plotlyjs=False)}")
        parts.append(f'<p class="notes">How to read it: {links}</p>' if links else "")
    notes = "".join(f'<li id="note-{at}">{escape(note)}</li>' for note, at in common.items())
    return "".join(parts) + (f"<h2>How to read these figures</h2><ol>{notes}</ol>" if notes else "")


def _images(run: Run) -> list[int]:
    """Probe images to show, one a task: one that was known when its task had been learnt and is wrong now, if any."""
    if run.probe.sprites is None or not run.probe.sprites.is_file():
        return []
    steps, tasks = run.task_steps, np.asarray(run.probe.tasks)
    last, chosen = run.snapshot(steps[-1])["predictions"] == run.probe.labels, []
    for task in np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _IMAGES)).round().astype(int)).tolist():
        mine = np.flatnonzero(tasks == task)
        known = run.snapshot(steps[task])["predictions"][mine] == run.probe.labels[mine]
        lost = mine[known & ~last[mine]]
        chosen += [int((lost if len(lost) else mine)[0])] if len(mine) else []
    return chosen


def _gallery(run: Run, points: Sequence[int]) -> str:
    """The images with their class, and the answer when their task had been learnt and at the end."""
    cells, steps = [], run.task_steps
    for point in points:
        buffer, truth = BytesIO(), int(run.probe.labels[point])
        Image.fromarray(np.ascontiguousarray(run.probe.sprite(point))).save(buffer, "PNG")
        task, name = int(run.probe.tasks[point]), run.info.name_of(truth)
        answers = (int(run.snapshot(step)["predictions"][point]) for step in (steps[task], steps[-1]))
        said = ["right" if answer == truth else run.info.name_of(answer) for answer in answers]
        source = f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
        cells.append(
            f'<div><img src="{source}" alt="{escape(name)}"><b>{escape(name)}</b>'
            f"<span>task {task + 1}, learnt: {escape(said[0])}<br>now: {escape(said[1])}</span></div>"
        )
    return f'<h2>Images</h2><div class="images">{"".join(cells)}</div>' if cells else ""


def _numbers(run: Run) -> str:
    result = run.result
    if result is None:
        done = len(run.task_steps)
        return f"<p>{done} of {len(run.info.tasks)} tasks are finished ({escape(run.liveness())}).</p>"
    return _table(
        {
            "accuracy at the end": percent(result.a_last),
            "average accuracy over tasks": percent(result.a_avg),
            "forgetting (Chaudhry)": percent(result.forgetting_chaudhry),
            "backward transfer (GEM)": percent(result.bwt_gem).replace("-", MINUS),
            "seconds": f"{result.seconds.get('total', 0):.0f}",
            "numbers stored": _count(result.stored_floats),
            "parameters trained": _count(result.trainable_parameters),
        }
    )


def _count(value: int | None) -> str:
    return "not stated" if value is None else f"{value:,}"


def _table(values: dict[str, object]) -> str:
    rows = "".join(f"<tr><th>{escape(_words(k))}</th><td>{escape(_text(v))}</td></tr>" for k, v in values.items())
    return f"<table>{rows}</table>"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _text(value: object) -> str:
    """A setting as people write it: yes and no, and of several `epochs 3, lr 0.01`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        inner = {key: one for key, one in value.items() if one not in (None, "", {}, [])}
        return ", ".join(
            f"{_words(k)} {f'({_text(v)})' if isinstance(v, Mapping) else _text(v)}" for k, v in inner.items()
        )
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
