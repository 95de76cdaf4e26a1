"""The player of the app in a notebook: the same JavaScript, wrapped by anywidget."""

import base64

import anywidget
import traitlets

from cillab.core.errors import InvalidRequestError, unknown_name
from cillab.figures.palette import task_colour
from cillab.plane import PLANES, lay
from cillab.player import CSS, name, pack, source
from cillab.runs import Run

# The style sheet stands on Streamlit's colours inside a closed root; a notebook has its own names and no root.
_COLOURS = """
.cillab-player {
  --st-background-color: var(--jp-layout-color0, var(--vscode-editor-background, #ffffff));
  --st-text-color: var(--jp-content-font-color1, var(--vscode-editor-foreground, #1f2328));
  --st-primary-color: #3b5bdb;
  --st-font: var(--jp-ui-font-family, system-ui, sans-serif);
  padding: 4px 2px;
}
"""
_HUES = {"light": [task_colour(i, "light") for i in range(10)], "dark": [task_colour(i, "dark") for i in range(10)]}


class Player(anywidget.AnyWidget):
    """One or two runs that play side by side. `step` and `picked` follow the reader and can be set."""

    _esm = source("player")
    _css = f".cillab-player {{\n{CSS.read_text()}}}\n{_COLOURS}"
    data = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)  # position among the snapshots
    picked = traitlets.Unicode(None, allow_none=True).tag(sync=True)  # id of the image that was clicked


def player(*runs: Run, step: int | None = None, plane: str = "classes", **show: bool) -> Player:
    """Play one run, or two side by side: probe points, class means and head rows in one plane that never changes.

    `step` is a position among the snapshots, the last by default; `plane` one of `cillab.plane.PLANES`; `show` says
    what is drawn at first: `means`, `head`, `trails`, `images`.

    Raises:
        InvalidRequestError: not one or two runs, or features that no plane can be fitted to.
        RunError: no step yet, or features that change their width.
        UnknownNameError: no such plane.
    """
    if len(runs) not in (1, 2):
        raise InvalidRequestError(f"player shows one or two runs, got {len(runs)}.")
    if plane not in PLANES:
        raise unknown_name("plane", plane, PLANES)
    named = [name(run) for run in runs]
    planes = [lay(one.run, one.snapshots, plane) for one in named]
    last = max(len(one.snapshots) for one in named) - 1
    token = "|".join([plane, *(f"{run.name} {run.steps[-1]}" for run in runs)])
    facts, blob = pack(named, planes, token, _HUES)
    data = {**facts, "blob": base64.b64encode(blob).decode(), "show": show}
    return Player(data=data, step=last if step is None else step)
