"""Pages made of figures: their parts, the choice of one, and only that one drawn. The figures say where they stand."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import streamlit as st

from app.charts import charts
from app.shell import html, state
from app.shell.store import Opened
from cillab.figures import PAGES, Group, groups
from cillab.runs import Run


@cache
def everything(page: str) -> Mapping[str, Group]:
    """The parts of a page with all figures that there are."""
    return groups(page)


def of(page: str, run: Opened) -> Mapping[str, Group]:
    """The parts of a page with the figures that `run` supports."""
    return run.once(_supported, page)


def _supported(run: Run, page: str) -> Mapping[str, Group]:
    return groups(page, run)


def _absent(run: Run, page: str) -> Mapping[str, str]:
    """Labels of the parts that the run does not support, and why not."""
    there = groups(page, run)
    return {g.part.label: g.figures[0].lacking(run) for key, g in everything(page).items() if key not in there}


def choose(parts: Mapping[str, Group], page: str, run: Opened) -> str:
    """The row of parts; the one chosen stands in the URL. What this run has not, a line under it says, and why."""
    names = list(parts)
    chosen = st.segmented_control(
        "Part", names, key=PAGES[page].key, default=names[0], required=True,
        format_func=lambda name: parts[name].part.label, label_visibility="collapsed", **state.bound(),
    )  # fmt: skip
    chosen = chosen if chosen in parts else names[0]
    if parts[chosen].part.words:
        html.show(f"<p>{html.safe(parts[chosen].part.words)}</p>", "ci-sentence")
    if absent := run.once(_absent, page):
        html.aside(f"Not in this run: {', '.join(absent)}.", *(f"{label}: {why}" for label, why in absent.items()))
    return chosen


def draw(group: Group, run: Opened, step: int, **options: Any) -> None:
    """The figures of one part; `options` go to all of them."""
    columns = st.columns(group.part.columns, gap="large") if group.part.columns > 1 else []
    for at, figure in enumerate(group.figures):
        with columns[at % group.part.columns] if columns else st.container(width=figure.width or "stretch"):
            charts.draw(figure.name, figure.title, run.run, step, key=f"{figure.name}-{run.key}", **options)


def page(name: str, run: Opened, step: int) -> None:
    """A page that is nothing but its figures."""
    parts = of(name, run)
    if not parts:
        learner, reasons = run.run.protocol.learner or run.key, [f.lacking(run.run) for f in _figures(name)]
        html.empty(f"“{learner}” recorded nothing for this page", " ".join(dict.fromkeys(reasons)))
        return
    draw(parts[choose(parts, name, run)], run, step)


def _figures(page: str) -> list[Any]:
    return [figure for group in everything(page).values() for figure in group.figures]
