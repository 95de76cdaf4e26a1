"""One self-contained page about a run: its protocol, its numbers, every figure. No network is needed to read it."""

from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from cillab import figures
from cillab.core.errors import RunError, UnknownNameError
from cillab.runs import Run
from cillab.runs.files import write_text
from cillab.screen import percent

# In the order in which a person would ask.
FIGURES = (
    "accuracy", "accuracy_matrix", "forgetting", "confusion", "collapse", "cosine", "angles", "drift", "projection",
)  # fmt: skip
FIGURES_IF = {"noise": ("mixing",)}  # only for learners that show such a thing

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1 { font-size: 1.6rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
figure { margin: 2.5rem 0; } figcaption { color: #4b5563; } code { background: #f3f4f6; padding: .1rem .3rem; }
"""


def write_report(path: str | Path, out: str | Path) -> int:
    """Write the page of the run at `path`; returns its size in bytes.

    Raises:
        RunError: no run there, or nothing learnt yet.
    """
    run = Run(path)
    if not run.task_steps:
        raise RunError(f"{run.path} has no finished task yet: there is nothing to report.")
    text = _page(run)
    write_text(Path(out), text)
    return len(text.encode())


def _page(run: Run) -> str:
    shows = run.capabilities.shows
    names = [*FIGURES, *(name for need, more in FIGURES_IF.items() if need in shows for name in more)]
    pictures = [_picture(run, name) for name in names]
    protocol = {key: value for key, value in run.protocol.model_dump().items() if value not in (None, "", {})}
    title = f"{run.protocol.learner or run.name} on {run.protocol.data or 'a stream'}, {run.protocol.split}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
        f"<h1>{escape(title)}</h1>{_numbers(run)}{''.join(pictures)}<h2>Protocol</h2>{_table(protocol)}"
        f"<p>Written by cillab {escape(run.info.cillab_version)} on {escape(run.info.created)}.</p></body></html>"
    )


def _picture(run: Run, name: str) -> str:
    """A figure, or a line that says which arrays the writer of this run left out: a run by another program may."""
    try:
        return getattr(figures, name)(run).html(include_plotlyjs=False)
    except UnknownNameError as error:
        return f"<p><small>No figure {escape(name)}: {escape(str(error).split('. ')[0])}.</small></p>"


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
            "backward transfer (GEM)": percent(result.bwt_gem),
            "seconds": f"{result.seconds.get('total', 0):.0f}",
            "numbers stored": _count(result.stored_floats),
            "parameters trained": _count(result.trainable_parameters),
        }
    )


def _count(value: int | None) -> str:
    return "not stated" if value is None else f"{value:,}"


def _table(values: dict[str, object]) -> str:
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in values.items())
    return f"<table>{rows}</table>"
