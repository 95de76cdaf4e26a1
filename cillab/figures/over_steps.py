"""Shape of the class means over steps: angle blocks by age, generalised NC2, and how many directions are in use."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from cillab.figures.angles import PAIRS, split_pairs
from cillab.figures.palette import ACCENT, CURSOR, ROLES, SECOND, SIDES, Theme, cursor, see_through
from cillab.figures.panels import OverSteps, finished, grid, line, log_reach, notes_of, reach, spread, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MOVING_TARGET, ORACLE, SIMPLEX, after, number, place, places, task_axis
from cillab.geometry.nc2 import generalised_nc2
from cillab.geometry.spectrum import between_eigenvalues, of_eigenvalues
from cillab.runs import Run, Snapshot

_AGES = tuple(PAIRS)


def _line(figure: go.Figure, data: OverSteps, name: str, shown: str, colour: str, **look: Any) -> None:
    line(figure, places(data.steps), data.values[name], shown, colour, **look)


def _blocks(shot: Snapshot, target: float) -> list[tuple[float, float]]:
    """Mean cosine of the pairs of each age at one step, and their mean distance from the target; NaN without pairs."""
    groups = split_pairs(shot["cosine"], shot["task_of_class"])
    return [(float(x.mean()), float(np.abs(x - target).mean())) if len(x) else (np.nan, np.nan) for x in groups]


def _energy(shot: Snapshot, array: str) -> tuple[float, float]:
    try:
        found = generalised_nc2(shot[array])
    except ValueError:  # one class, or equal means
        return np.nan, np.nan
    return found.mean, found.variance


def read_angle_blocks(run: Run, step: str | int | None = None) -> OverSteps:
    """Mean cosine of each block of pairs, its distance from the target, and the target."""
    steps = spread(run, run.resolve(step))
    series = {name: np.full(len(steps), np.nan) for name in (*_AGES, *(f"off {age}" for age in _AGES), "target")}
    for row, one in enumerate(steps):
        shot = run.snapshot(one)
        if len(shot["cosine"]) > 1:
            series["target"][row] = target = -1 / (len(shot["cosine"]) - 1)
            for age, (mean, off) in zip(_AGES, shot.once(_blocks, target), strict=True):
                series[age][row], series[f"off {age}"][row] = mean, off
    return OverSteps.of(run, step, series, *notes_of(run, run.resolve(step), ORACLE, MOVING_TARGET), steps=steps)


@figure(
    title="Blocks by age",
    page="collapse",
    part="ages",
    needs=("cosine",),
    quantities=("blocks", "ideal_cosine"),
)
def angle_blocks(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Mean cosines old/old, old/new and new/new of a run over its steps, with the moving target.

    Left the mean cosines with the moving target, right how far the cosines of each block lie from it.
    """
    data = read_angle_blocks(run, step)
    figure, cells = grid(2, 2)
    for age, (role, dash, mark) in PAIRS.items():
        colour = ROLES[role][theme]
        _line(figure, data, age, age, colour, dash=dash, mark=mark, cell=cells[0])
        _line(figure, data, f"off {age}", age, colour, dash=dash, mark=mark, cell=cells[1], legend=False)
    _line(figure, data, "target", f"{SIMPLEX}, the target", see_through(CURSOR[theme], 0.75), dash="dash", mark="")
    title(figure, cells[0], "mean cosine", theme=theme)
    title(figure, cells[1], "mean |cosine \N{MINUS SIGN} target|", "\N{RIGHTWARDS ARROW} 0", theme)
    finished(figure, theme, "angle_blocks", 1, height=340)
    figure.update_xaxes(**task_axis(data.tasks))
    figure.update_yaxes(range=reach(*(data.values[n] for n in (*_AGES, "target"))), row=1, col=1)
    figure.update_yaxes(range=reach(*(data.values[f"off {n}"] for n in _AGES), low=0.0), row=1, col=2)
    cursor(figure, place(data.step), theme, rows=cells)
    parts = [f"{age} {number(data.now(age))}" for age in _AGES if np.isfinite(data.now(age))]
    text = f"{after(data.step).capitalize()}, the mean cosine is {', '.join(parts)}; the target is"
    text += f" {number(data.now('target'))}."
    return Picture(figure, text if parts else "Angles need at least two classes.", data.notes)


def read_generalised(run: Run, step: str | int | None = None) -> OverSteps:
    """Log energy of the class directions: mean, variance over pairs, and the value of a simplex where there is one."""
    names = ("train", "test", "train variance", "test variance", "simplex")
    steps = spread(run, run.resolve(step))
    series = {name: np.full(len(steps), np.nan) for name in names}
    for row, one in enumerate(steps):
        shot = run.snapshot(one)
        for side, array in (("train", "means/now"), ("test", "means/test")):
            if array in shot and len(shot[array]) > 1:
                series[side][row], series[f"{side} variance"][row] = shot.once(_energy, array)
        k, dim = shot["means/now"].shape
        if 1 < k <= dim + 1:
            series["simplex"][row] = -0.5 * np.log(2 * k / (k - 1))
    notes = notes_of(
        run,
        run.resolve(step),
        ORACLE,
        "Energy log(1 / ||u_a - u_b||) of unit centred means; it keeps its meaning"
        " when K > D + 1, where no simplex exists and the variance cannot reach 0.",
    )
    return OverSteps.of(run, step, series, *notes, steps=steps)


@figure(
    title="Generalised NC2",
    page="collapse",
    part="angles",
    needs=("means/now",),
    quantities=("generalised_nc2",),
)
def generalised(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Generalised NC2 of a run over its steps.

    Left the mean energy above that of the simplex, right its variance over pairs.
    """
    data = read_generalised(run, step)
    figure, cells = grid(2, 2)
    for side, (colour, dash, mark) in SIDES.items():
        shown = "training images" if side == "train" else "test images"
        _line(figure, data, side, shown, colour[theme], dash=dash, mark=mark, cell=cells[0])
        _line(figure, data, f"{side} variance", shown, colour[theme], dash=dash, mark=mark, cell=cells[1], legend=False)
    simplex = see_through(CURSOR[theme], 0.75)
    _line(figure, data, "simplex", "a simplex of K classes, the minimum", simplex, dash="dash", mark="")
    title(figure, cells[0], "GNC2, mean log energy", "\N{RIGHTWARDS ARROW} minimum", theme)
    title(figure, cells[1], "variance over pairs", "\N{RIGHTWARDS ARROW} 0", theme)
    finished(figure, theme, "generalised", 1, height=340)
    figure.update_xaxes(**task_axis(data.tasks))
    figure.update_yaxes(range=reach(*(data.values[n] for n in ("train", "test", "simplex"))), row=1, col=1)
    pair = (data.values["train variance"], data.values["test variance"])
    figure.update_yaxes(range=reach(*pair, low=0.0), row=1, col=2)
    cursor(figure, place(data.step), theme, rows=cells)
    value, least = data.now("train"), data.now("simplex")
    text = f"{after(data.step).capitalize()}, the mean log energy of the class directions is {number(value)}"
    if np.isfinite(least):
        text += f", {number(value - least)} above that of a simplex"
    return Picture(figure, f"{text}; its variance over pairs is {number(data.now('train variance'))}.", data.notes)


def read_spectrum(run: Run, step: str | int | None = None) -> tuple[OverSteps, dict[str, np.ndarray]]:
    """Effective rank and participation ratio over the steps; eigenvalues of the step, between and within classes."""
    steps, chosen = run.steps, run.resolve(step)
    names = ("rank between", "participation between", "rank within", "participation within", "most")
    series = {name: np.full(len(steps), np.nan) for name in names}
    spectra: dict[str, np.ndarray] = {}
    for row, one in enumerate(steps):
        shot = run.snapshot(one)
        found = {"between": between_eigenvalues(shot["means/now"])} if len(shot["means/now"]) > 1 else {}
        if "nc/spectrum_within" in shot:
            found["within"] = np.asarray(shot["nc/spectrum_within"], np.float64)
        series["most"][row] = max(min(len(shot["means/now"]) - 1, shot["means/now"].shape[1]), 1)
        for where, values in found.items():
            used = of_eigenvalues(values)
            series[f"rank {where}"][row], series[f"participation {where}"][row] = (
                used.effective_rank, used.participation_ratio,
            )  # fmt: skip
            if one == chosen and values.sum() > 0:
                spectra[where] = values / values.sum()
    notes = notes_of(
        run,
        chosen,
        ORACLE,
        "Between: of the class means; within: of images around them. Effective"
        " rank, exp of the entropy of the eigenvalues; participation ratio; K - 1, the most between classes.",
    )
    return OverSteps.of(run, step, series, *notes), spectra


@figure(
    title="Eigenvalues and directions in use",
    page="collapse",
    part="spectra",
    needs=("means/now",),
    quantities=("effective_rank", "participation_ratio", "top_eigenvalue_share"),
)
def spectrum(run: Run, step: str | int | None = None, *, theme: Theme = "light") -> Picture:
    """Spectra and effective ranks of a run, with a cursor at `step` (default: the last).

    Left the eigenvalues at a step as shares, right how many directions they amount to over the steps.
    """
    data, spectra = read_spectrum(run, step)
    figure, cells = grid(2, 2)
    looks = {"between": (ACCENT[theme], "circle"), "within": (SECOND[theme], "square")}
    shown = {"between": "between classes", "within": "within classes"}
    for where, values in spectra.items():
        kept = values[values > 1e-7 * values[0]][:400]
        line(figure, np.arange(1, len(kept) + 1), kept, shown[where], looks[where][0], mark="", legend=False,
             where="direction %{x}", form="%{y:.2%} of the variance")  # fmt: skip
    for where, (colour, mark) in looks.items():
        for name, text, dash in (("rank", "effective rank", "solid"), ("participation", "participation", "dot")):
            _line(figure, data, f"{name} {where}", f"{text} {where} classes", colour, dash=dash, mark=mark,
                  cell=cells[1], legend=name == "rank")  # fmt: skip
    limit = see_through(CURSOR[theme], 0.7)
    _line(figure, data, "most", "K \N{MINUS SIGN} 1", limit, dash="dash", mark="", cell=(1, 2))
    title(figure, cells[0], "eigenvalues", "share of the variance, log scale", theme)
    title(figure, cells[1], "directions in use", "dotted: participation ratio", theme)
    finished(figure, theme, "spectrum", 1, height=350)
    figure.update_xaxes(title_text="direction", row=1, col=1)
    figure.update_yaxes(
        **log_reach(np.concatenate([*spectra.values()] or [np.ones(1)]).clip(1e-6)),
        row=1,
        col=1,
    )
    figure.update_xaxes(**task_axis(data.tasks), row=1, col=2)
    figure.update_yaxes(range=reach(*data.values.values(), low=0.0), row=1, col=2)
    cursor(figure, place(data.step), theme, rows=[(1, 2)])
    most, between, within = (data.now(name) for name in ("most", "rank between", "rank within"))
    text = (
        f"{after(data.step).capitalize()}, the class means use {number(between)} of at most {number(most)} directions"
    )
    text += f"; images spread around them in {number(within)}" if np.isfinite(within) else ""
    return Picture(figure, f"{text} (effective rank).", data.notes)
