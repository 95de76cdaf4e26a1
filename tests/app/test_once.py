"""A chart as it is sent: it says what the figure says, in a form whose copy Plotly takes for the same."""

import copy

import numpy as np
import plotly.graph_objects as go
import pytest

from app.charts.once import once
from cillab.figures.palette import style

streamlit = pytest.importorskip("streamlit", reason="streamlit is not installed: pip install 'cillab[app]'")


def figure(shift: float = 0.0) -> go.Figure:
    x = np.arange(4.0)
    made = go.Figure(
        [
            go.Scatter(x=x, y=x + shift, customdata=np.arange(8).reshape(4, 2), meta={"a": 1}),
            go.Heatmap(z=np.array([[1.0, np.nan], [np.inf, 4.0]]), colorbar={"thickness": 3}, xaxis="x2", yaxis="y2"),
            go.Scatter(x=[1, None], y=[float("nan"), 2.0]),
        ]
    )
    made.update_layout(xaxis2={"anchor": "y2", "tickfont": {"size": 9}}, yaxis2={"anchor": "x2"})
    made.add_annotation(text="here", font={"size": 20})
    made.add_annotation(text="there", showarrow=True)
    return style(made, "dark", name="one", legend_x=0.5)


def _objects(part: object) -> list[object]:
    inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [part, *(found for one in inside for found in _objects(one))]


def _typed(part: object) -> bool:
    return isinstance(part, np.ndarray) or (isinstance(part, dict) and "bdata" in part)


def test_nothing_is_left_that_plotly_takes_for_another_one_after_copying() -> None:
    sent = once(figure().to_dict())
    assert not {"template", "meta"} & sent["layout"].keys()
    assert all("meta" not in trace for trace in sent["data"])
    assert not any(map(_typed, _objects(sent)))


def test_numbers_are_those_of_the_figure() -> None:
    line, matrix, odd = once(figure().to_dict())["data"]
    assert line["x"] == [0.0, 1.0, 2.0, 3.0]
    assert line["customdata"] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert matrix["z"] == [[1.0, None], [None, 4.0]]
    assert odd["y"] == [None, 2.0]


def test_the_look_is_that_of_the_template_where_the_figure_says_nothing_else() -> None:
    made = figure()
    look = made.layout.template.layout.to_plotly_json()
    sent = once(made.to_dict())
    for axis in ("xaxis", "yaxis", "xaxis2", "yaxis2"):
        assert sent["layout"][axis]["gridcolor"] == look["xaxis"]["gridcolor"]
    assert sent["layout"]["xaxis2"]["tickfont"] == {**look["xaxis"]["tickfont"], "size": 9}
    assert sent["layout"]["legend"] == {**look["legend"], "x": 0.5}
    colour = look["annotationdefaults"]["font"]["color"]
    here, there = sent["layout"]["annotations"]
    assert here["font"] == {"size": 20, "color": colour}
    assert here["showarrow"] is False
    assert there["showarrow"] is True
    assert "annotationdefaults" not in sent["layout"]
    bar = sent["data"][1]["colorbar"]
    assert bar["thickness"] == 3
    assert bar["len"] == 0.9
    assert "colorbar" not in sent["data"][0]


def test_the_revision_is_of_what_is_shown() -> None:
    first = once(figure().to_dict())["layout"]["datarevision"]
    assert once(figure().to_dict())["layout"]["datarevision"] == first
    assert once(figure(shift=1e-12).to_dict())["layout"]["datarevision"] != first
    brighter = figure()
    brighter.data[0].line.color = "red"
    assert once(brighter.to_dict())["layout"]["datarevision"] != first


def test_the_figure_stays_as_it_was_and_a_figure_without_a_look_passes() -> None:
    given = figure().to_dict()
    before = copy.deepcopy(given)
    once(given)
    assert given == before
    bare = once({"data": [{"type": "bar", "y": [1]}], "layout": {}})
    assert bare["data"] == [{"type": "bar", "y": [1]}]
    assert set(bare["layout"]) == {"datarevision"}


def test_a_figure_in_three_dimensions_gets_no_flat_axes() -> None:
    solid = style(
        go.Figure(go.Scatter3d(x=[1], y=[1], z=[1])).update_layout(scene_aspectmode="cube"), "light", name="3d"
    )
    assert not {"xaxis", "yaxis"} & once(solid.to_dict())["layout"].keys()
    flat = style(go.Figure(go.Scatter(x=[1], y=[1])), "light", name="2d")
    assert {"xaxis", "yaxis"} <= once(flat.to_dict())["layout"].keys()
