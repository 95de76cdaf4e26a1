"""The charts under the player: drawn once, and what a step changes in them is moved by the browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.ui import charts, export, html, moves, terms, theme
from app.ui.store import Opened, signature
from cillab.runs import Run


@dataclass
class Panel:
    """One chart of one run: its places on the page, and whether the browser moves its cursor."""

    name: str
    title: str
    run: Opened
    chart: Any  # places for one element each
    words: Any
    under: Any  # the row in which `words` stands
    moves: bool = False

    @property
    def key(self) -> str:
        """Also the name of its element on the page."""
        return f"{self.name}-{self.run.key}"


@dataclass
class Board:
    """The panels of a page, and the step that they show: exports ask for it when somebody presses them."""

    panels: list[Panel]
    step: int = 0
    mode: theme.Mode = "light"
    started: bool = False


def due(player: str) -> bool:
    """May charts come? Not before the map is on screen: drawing them keeps the browser busy for half a second.

    The player says when (`ready`). A page that nobody's browser has asked for has no player that could.
    """
    told = st.session_state.get(player) or {}
    return bool(told.get("ready")) or not st.context.headers or not moves.possible()


def lay_out(runs: Sequence[Opened]) -> Board:
    """Places for all charts, two to a row, or run beside run."""
    from cillab.figures import figures_of  # noqa: PLC0415 (plotly comes with them)

    cells = [(one.name, one.title, run) for one in figures_of() if one.follows != "nothing" for run in runs]
    panels = []
    for at in range(0, len(cells), 2):
        for column, (name, title, run) in zip(st.columns(2, gap="large"), cells[at : at + 2], strict=False):
            heading = title if len(runs) == 1 else f"{title}: {html.markdown(run.title)}"
            with column:
                st.markdown(f"##### {heading}", help=terms.tip(name))
                chart = st.empty()
                under = st.container(
                    horizontal=True, gap="small", vertical_alignment="top", key=f"under-{name}-{run.key}"
                )
                panels.append(Panel(name, heading, run, chart, under.empty(), under))
    return Board(panels)


def start(board: Board, step: int, mode: theme.Mode) -> None:
    """Draw what is the same at every step, and offer every chart for taking along."""
    from cillab.figures.following import BENT, FOLLOWING  # noqa: PLC0415 (plotly: not before the map is on screen)

    board.step, board.mode, board.started = step, mode, True
    for panel in board.panels:
        same = panel.name in FOLLOWING
        picture = _picture(board, panel, len(panel.run.steps) - 1 if same and panel.name not in BENT else step)
        if isinstance(picture, str):
            continue
        panel.moves = same and any(shape.name == "cursor" for shape in picture.figure.layout.shapes)
        if panel.moves:
            with panel.chart:
                charts.show(picture, panel.key)
        with panel.under:
            export.offer(lambda panel=panel: _picture(board, panel, board.step), panel.key, panel.title)


def follow(board: Board, step: int) -> None:
    """Show a step."""
    board.step, changed = step, []
    for panel in board.panels:
        if panel.moves:
            said = _moment(panel, step)
            changed.append(moves.figure(panel.key, said.sentence, cursor=dict(said.cursor), lines=said.lines))
        elif (said := _draw(board, panel, step)) is None:
            continue
        with panel.words:
            html.note(said.sentence, *said.notes)
    if changed:
        moves.tell(changed)


def _draw(board: Board, panel: Panel, step: int) -> Any:
    picture = _picture(board, panel, step)
    with panel.chart:
        if not isinstance(picture, str):
            charts.show(picture, panel.key)
            return picture
        html.empty("Not in this run", picture)
        return None


def _moment(panel: Panel, step: int) -> Any:
    from cillab.figures.following import moment  # noqa: PLC0415

    run = panel.run.run
    return moment(panel.name, run, _read(panel.name, str(run.path), signature(run.path), run), _id(panel, step))


@st.cache_resource(max_entries=48, show_spinner=False)
def _read(name: str, path: str, changed: tuple, _run: Run) -> Any:
    from cillab.figures.following import read  # noqa: PLC0415

    return read(name, _run)


def _id(panel: Panel, step: int) -> str:
    return panel.run.steps[min(step, len(panel.run.steps) - 1)]


def _picture(board: Board, panel: Panel, step: int) -> Any:
    at = min(step, len(panel.run.steps) - 1)
    return charts.picture(panel.name, panel.key, panel.run.run, at, theme=board.mode)
