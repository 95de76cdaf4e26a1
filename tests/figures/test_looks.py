"""What can be read: contrast by the formula of WCAG 2 (written here once more), ticks of log axes, axes of seeds."""

import csv
import io
import math
import re
import tomllib

import numpy as np
import pytest
from plotly.colors import sample_colorscale

from cillab import figures
from cillab.figures.numbers import as_csv
from cillab.figures.palette import ACCENT, MUTED, ROLES, SECOND, SEQUENTIAL, TEXT, diverging, inks
from cillab.figures.panels import grid, heat, log_axis, log_reach
from cillab.figures.seeds import draw_seeds
from cillab.geometry.nc1 import cdnv
from cillab.geometry.seeds import t_interval
from cillab.runs import Run
from cillab.runs.seeds import Group
from tests.app.conftest import ROOT


def luminance(channels: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else math.pow((c + 0.055) / 1.055, 2.4) for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def channels(colour: str) -> list[float]:
    if colour.startswith("#"):
        return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [int(number) / 255 for number in re.findall(r"\d+", colour)]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(channels(one)), luminance(channels(other))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scale", [SEQUENTIAL, diverging("light"), diverging("dark")])
def test_numbers_can_be_read_on_every_colour_of_a_scale(scale) -> None:
    shares = np.linspace(0, 1, 101)
    known = scale if isinstance(scale, str) else [colour for _, colour in scale]
    written = inks(scale, shares)
    grounds = sample_colorscale(known, shares.tolist())
    assert min(map(contrast, written, grounds)) >= 4.5
    assert set(written) == {"#000000", "#FFFFFF"}


def test_a_heat_map_writes_its_numbers_for_eyes_and_not_into_the_table() -> None:
    figure, _ = grid(1, 1)
    heat(
        figure,
        np.array([[0.0, 0.6], [np.nan, 1.0]]),
        hover="",
        ends=(0.0, 1.0),
        numbers="{:.0%}".format,
        x=["a", "b"],
        y=["c", "d"],
    )
    written = figure.data[1]
    assert list(written.text) == ["0%", "60%", "100%"]
    assert list(written.x) == ["a", "b", "b"]
    assert list(written.y) == ["c", "c", "d"]
    grounds = sample_colorscale(SEQUENTIAL, [0.0, 0.6, 1.0])
    assert min(map(contrast, written.textfont.color, grounds)) >= 4.5
    rows = as_csv(figure).splitlines()[1:]
    assert [row.split(",")[2:4] for row in rows] == [["a", "c"], ["b", "c"], ["b", "d"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_of_figures_can_be_read_on_the_pages_of_the_app(theme) -> None:
    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    page = settings["theme"][theme]["backgroundColor"]
    for name, hues in {"text": TEXT, "muted": MUTED, "accent": ACCENT, "second": SECOND, **ROLES}.items():
        assert contrast(hues[theme], page) >= 4.5, name


@pytest.mark.parametrize(("low", "high"), [(-0.8, 1.1), (-4.1, -1.3), (-17.0, 1.0), (-0.1, 0.2), (0.0, 6.0)])
def test_a_log_axis_has_a_handful_of_ticks_inside_in_plain_type(low, high) -> None:
    axis = log_axis(low, high)
    assert 3 <= len(axis["tickvals"]) <= 6
    assert all(low <= math.log10(tick) <= high for tick in axis["tickvals"])
    for tick, text in zip(axis["tickvals"], axis["ticktext"], strict=True):
        base, _, power = text.replace("\N{MINUS SIGN}", "-").removesuffix("</sup>").partition("<sup>")
        assert float(base) ** float(power or 1) == pytest.approx(tick)


def test_an_axis_over_values_less_than_a_decade_apart_still_has_ticks() -> None:
    assert len(log_reach(np.array([0.31, 0.34]))["tickvals"]) >= 1


@pytest.mark.parametrize("values", [[0.928], [1.0, 0.99], [0.0], [-0.12, -0.1, 0.02]])
def test_an_axis_of_accuracies_over_seeds_ends_where_accuracies_end(values) -> None:
    group = Group("one", "{}", (), dict(enumerate(values)), t_interval(values))
    low, high = draw_seeds([group], ["one"]).figure.layout.xaxis.range
    assert low < min(values)
    assert max(values) < high
    if len(values) == 1:  # the interval of few seeds may end above 100 %, a value alone does not
        assert low >= -0.02
        assert high <= 1.02


def test_learners_over_seeds_have_no_hues_that_curves_beside_them_give_to_runs() -> None:
    groups = [Group(name, "{}", (), {1: 0.5 + at / 10}, t_interval([0.5 + at / 10])) for at, name in enumerate("ab")]
    traces = draw_seeds(groups, ["a", "b"]).figure.data
    assert {trace.marker.color for trace in traces[1::2]} == {ACCENT["light"]}


def test_a_map_with_logarithmic_colours_gives_its_numbers_and_not_their_logarithms() -> None:
    run = Run(ROOT / "cillab" / "demo" / "min")
    shot = run.snapshot(run.steps[3])
    rows = list(csv.DictReader(io.StringIO(as_csv(figures.mixing(run, run.steps[3]).figure))))
    ratio = [float(row["z"]) for row in rows if row["z"] and row["panel"] == "2"]
    np.testing.assert_allclose(ratio, shot["internals/noise/ratio"].ravel(), rtol=1e-6)
    pairs = cdnv(shot["nc/within"], shot["means/now"]).pairs
    told = [
        float(row["z"]) for row in csv.DictReader(io.StringIO(as_csv(figures.variability(run, run.steps[3]).figure)))
    ]
    assert np.sort(told) == pytest.approx(np.sort(pairs[np.isfinite(pairs)]), rel=1e-6)


def test_noise_of_a_mixture_shows_its_layers_beside_the_first_generator_alone() -> None:
    """The first generator has ten times the strength of each in a mixture of ten."""
    run = Run(ROOT / "cillab" / "demo" / "min")
    (drawn,) = [t for t in figures.mixing(run).figure.data if t.type == "heatmap" and t.meta == "logged"]
    assert np.ptp(drawn.z) > 0.25 * (drawn.zmax - drawn.zmin)
