"""The loss as it falls: the tail of metrics.jsonl, read on from where it was, and one light figure."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from app.charts import charts
from app.shell import theme
from cillab.figures.palette import TEXT, style, task_colour
from cillab.figures.picture import Picture

MOST = 500  # points drawn
_LABELS = 20  # tasks named above the curve; of more, every second, third ... one
_KEPT = 4000  # points remembered; beyond, every second one is dropped


@dataclass
class Tail:
    """Rows of `train/loss`, as far as they were read. A run that was rewound is read from the start again."""

    path: Path
    offset: int = 0
    inode: int = 0  # going on after a crash writes the file anew
    rows: list[tuple[int, float]] = field(default_factory=list)  # task, loss

    def read(self) -> list[tuple[int, float]]:
        """Take in what was written since the last time."""
        try:
            stat = self.path.stat()
            if stat.st_size < self.offset or stat.st_ino != self.inode:
                self.offset, self.inode, self.rows = 0, stat.st_ino, []
            with self.path.open("rb") as file:
                file.seek(self.offset)
                new = file.read()
        except OSError:
            return self.rows
        whole = new[: new.rfind(b"\n") + 1]
        self.offset += len(whole)
        for line in whole.splitlines():
            if b'"train/loss"' in line:
                self._take(line)
        while len(self.rows) > _KEPT:
            self.rows = self.rows[::2]
        return self.rows

    def _take(self, line: bytes) -> None:
        try:
            row = json.loads(line)
            self.rows.append((int(row.get("task") or 0), float(row["value"])))
        except (ValueError, KeyError, TypeError):
            return  # a damaged line is for the reader of the run to complain about


def thinned(count: int, most: int = MOST) -> np.ndarray:
    """Positions of at most `most` of `count` points, the last one included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def loss(rows: list[tuple[int, float]]) -> tuple[go.Figure, str]:
    """The training loss over the readings so far, one colour per task, and what it says."""
    mode, figure = theme.mode(), go.Figure()
    at = thinned(len(rows))
    tasks, values = np.array([rows[i][0] for i in at]), np.array([rows[i][1] for i in at])
    every = -(-len(np.unique(tasks)) // _LABELS)
    for place, task in enumerate(np.unique(tasks)):
        mine = tasks == task
        figure.add_scatter(
            x=at[mine].astype(np.float32), y=values[mine].astype(np.float32), mode="lines", name=f"task {task + 1}",
            line={"color": task_colour(int(task), mode), "width": 2}, showlegend=False,
            hovertemplate=f"task {task + 1}<br><b>%{{y:.3g}}</b><extra></extra>",
        )  # fmt: skip
        if place % every:
            continue
        figure.add_annotation(
            x=float(at[mine][0]), y=1, yref="paper", yanchor="bottom", xanchor="left", text=str(task + 1),
            showarrow=False, font={"color": TEXT[mode], "size": 12},
        )  # fmt: skip
    style(figure, mode, name="loss", height=260)
    top = float(np.quantile(values[np.isfinite(values)], 0.995)) if np.isfinite(values).any() else 1.0
    figure.update_xaxes(title_text="readings, twice a second", showticklabels=False)
    figure.update_yaxes(title_text="training loss", range=[min(0.0, float(np.nanmin(values))), 1.08 * max(top, 1e-6)])
    figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", title=None, margin={"t": 28})
    task, last = rows[-1]
    first = next(value for number, value in rows if number == task)
    return figure, f"In task {task + 1} the training loss went from {first:.3g} to {last:.3g}."


def draw(rows: list[tuple[int, float]], key: str) -> None:
    """The figure on the page, with its sentence and a way to take it along."""
    charts.panel(Picture(*loss(rows)), key, "Training loss")
