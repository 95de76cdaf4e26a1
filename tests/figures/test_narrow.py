"""Figures for a narrow screen. Oracle: the boxes of the panels in pixels, from the layout before and after."""

from itertools import pairwise
from typing import Any

import pytest
from plotly.io.json import to_json_plotly

from cillab.figures import figures_of
from cillab.figures.narrow import stacked
from cillab.figures.palette import style
from cillab.figures.panels import HINT, grid
from cillab.runs import Run
from tests.app.conftest import ROOT

DEMOS = ROOT / "cillab" / "demo"


def boxes(figure: Any) -> dict[str, tuple[float, float, float, float]]:
    """Of every panel by its x axis: left and right in shares of the width, top and bottom in pixels from the top."""
    margin, given = figure.layout.margin, figure.layout.template.layout.margin
    top, bottom = (margin.t if margin.t is not None else given.t), (margin.b if margin.b is not None else given.b)
    height = figure.layout.height - top - bottom
    found = {}
    for x in figure.select_xaxes():
        y = figure.layout[f"yaxis{(x.anchor or 'y')[1:]}"]
        low, high = y.domain or (0, 1)
        found[x.plotly_name] = (*(x.domain or (0, 1)), (1 - high) * height, (1 - low) * height)
    return found


def told(trace: dict[str, Any]) -> str | None:
    """All that a trace draws, but for its colour bar."""
    return to_json_plotly({name: value for name, value in trace.items() if name != "colorbar"})


def pixels(figure: Any, y: float) -> float:
    """A height on the figure in pixels from the top of its panels."""
    _, _, _, low = max(boxes(figure).values(), key=lambda box: box[3])
    return (1 - y) * low


@pytest.mark.parametrize("demo", ["dmc-ot", "dualprompt", "finetune", "min", "ncptm", "slca"])
def test_every_figure_of_a_run_stands_in_one_column_and_nothing_in_it_overlaps(demo) -> None:
    run, changed = Run(DEMOS / demo), 0
    for one in figures_of(run=run):
        figure = one.draw(run).figure
        before, traces = boxes(figure), [trace.to_plotly_json() for trace in figure.data]
        stacked(figure)
        after = boxes(figure)
        assert not [words.text for words in figure.layout.annotations if HINT in words.text], one.name
        square = {
            x.plotly_name: figure.layout[f"yaxis{(x.anchor or 'y')[1:]}"].scaleanchor for x in figure.select_xaxes()
        }
        if len({box[0] for box in before.values()}) < 2 and not any(square.values()):
            assert after == before, one.name
            continue
        changed += 1
        assert list(after) == list(before), one.name
        places = sorted(after.values(), key=lambda box: box[2])
        assert all((left, right) == (0, 1) for left, right, _, _ in places), one.name
        for above, below in pairwise(places):
            assert below[2] - above[3] >= 60, one.name  # an axis with its title, and a title
        for name, (_, _, top, bottom) in after.items():
            was = before[name][3] - before[name][2]
            assert bottom - top == pytest.approx(min(max(was, 170), 230 if square[name] else 300), abs=1), (
                one.name,
                name,
            )
        reading = sorted(before, key=lambda name: (round(before[name][2]), before[name][0]))
        assert reading == sorted(after, key=lambda name: after[name][2]), one.name
        for was, now in zip(traces, figure.data, strict=True):
            assert told(was) == told(now.to_plotly_json()), one.name
        for trace in figure.data:
            if trace.type == "heatmap" and trace.showscale is not False and trace.coloraxis is None:
                _, _, top, bottom = after[f"xaxis{(trace.xaxis or 'x')[1:]}"]
                assert top <= pixels(figure, trace.colorbar.y) <= bottom, one.name
        if figure.layout.legend.y is not None and figure.layout.legend.y > 1:
            assert -60 <= pixels(figure, figure.layout.legend.y) < 0, one.name
        assert not [shape for shape in figure.layout.shapes if shape.yref == "paper" or shape.xref == "paper"]
    assert changed >= 3


def test_names_of_points_are_shortened_and_nothing_else() -> None:
    figure, _ = grid(2, 2)
    style(figure, "light", name="test", height=300)
    figure.add_annotation(x=1, y=2, text="purple key on a blue shield", row=1, col=2)
    figure.add_annotation(x=1, y=2, text="gold sun", row=1, col=1)
    figure.add_annotation(x=0, y=1, xref="x domain", yref="y domain", text="a sentence that stands above a panel")
    stacked(figure)
    said = [words.text for words in figure.layout.annotations]
    assert said == ["purple key on a b…", "gold sun", "a sentence that stands above a panel"]


def test_words_placed_on_the_figure_stay_at_their_panel() -> None:
    figure, _ = grid(4, 2, subplot_titles=["a", "b", "c", "d"])
    style(figure, "light", name="test", height=600)
    before, places = boxes(figure), {words.text: pixels(figure, words.y) for words in figure.layout.annotations}
    stacked(figure)
    after = boxes(figure)
    for words, name in zip(figure.layout.annotations, before, strict=True):
        above = before[name][2] - places[words.text]
        assert after[name][2] - pixels(figure, words.y) == pytest.approx(above, abs=0.5)
        assert words.x == pytest.approx(0.5)
