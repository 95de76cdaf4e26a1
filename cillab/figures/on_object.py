"""Does it look at the object? Energy inside the object's mask and the pointing game, per task and method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from cillab.figures.palette import MUTED, Theme, see_through, task_colour, task_mark
from cillab.figures.panels import finished, grid, line, reach, title
from cillab.figures.picture import Picture
from cillab.figures.registry import figure
from cillab.figures.words import MINUS, empty, number, percent, place, places, plural, task_axis
from cillab.geometry.seeds import bootstrap
from cillab.runs import Run, parse_step

_MEASURES = (
    ("energy", "energy inside the mask", "share of the map on the object"),
    ("pointing", "pointing game", "hottest patch touches the object"),
)


@dataclass(frozen=True, eq=False)
class OnObject:
    """One run: means with 95 % intervals over the images of classes seen, per step and, at one step, per task."""

    name: str
    steps: tuple[str, ...]
    step: str
    tasks: int
    target: str
    images: int
    over: Mapping[str, Float64[np.ndarray, "step 3"]]  # mean, low, high
    by_task: Mapping[str, Float64[np.ndarray, "task 3"]]  # at `step`
    chance: float  # the mask's share of the image: the energy of a map without preference


@dataclass(frozen=True)
class Comparison:
    """a - b over the same images, with its bootstrap interval."""

    measure: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    images: int

    @property
    def sentence(self) -> str:
        """The measured statement, true or not."""
        verdict = "more" if self.low > 0 else "less" if self.high < 0 else "as much, as far as these images tell,"
        return (
            f"{self.measure.capitalize()}: {percent(self.a)} against {percent(self.b)}, {_points(self.difference)}"
            f" points [{_points(self.low)}, {_points(self.high)}] over {plural(self.images, 'image')}:"
            f" {verdict} on the object."
        )


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", MINUS)


def points(run: Run, step: str | int | None, measure: str, target: str) -> Float64[np.ndarray, " point"] | None:
    """Per probe image; NaN for classes not yet seen and for images without a map. None for a run without masks."""
    shot = run.snapshot(run.resolve(step))
    if f"cam_{measure}/{target}" not in shot:
        return None
    values = np.asarray(shot[f"cam_{measure}/{target}"], np.float64)
    return np.where(np.isin(run.probe.labels, shot["seen"]), values, np.nan)


def read_on_object(
    run: Run, step: str | int | None = None, target: str = "predicted", name: str | None = None
) -> OnObject | None:
    """The maps of one target, or None for a run without maps or masks."""
    if not run.steps or points(run, step, "energy", target) is None:
        return None
    chosen, over, by_task, images = run.resolve(step), {}, {}, 0
    for measure, *_ in _MEASURES:
        rows = []
        for one in run.steps:
            values = points(run, one, measure, target)
            rows.append(_mean(values if values is not None else np.zeros(0)))
        over[measure] = np.array(rows, np.float64)
        now = points(run, chosen, measure, target)
        assert now is not None
        done = (parse_step(chosen) or (0, None))[0] + 1
        by_task[measure] = np.array([_mean(now[run.probe.tasks == task]) for task in range(done)], np.float64)
        images = int(np.isfinite(now).sum())
    chance = float(np.mean(run.snapshot(chosen)["cam_mask"]))
    return OnObject(name or run.name, run.steps, chosen, len(run.info.tasks), target, images, over, by_task, chance)


def _mean(values: np.ndarray) -> tuple[float, float, float]:
    good = values[np.isfinite(values)]
    return (float(good.mean()) if len(good) else float("nan"), *bootstrap(values))


def compare(a: Run, b: Run, step: str | int | None = None, target: str = "predicted") -> tuple[Comparison, ...]:
    """Energy and pointing of two runs on the images that both have a map of, paired image by image.

    Without a step, the last one that both have: one may have gone further than the other.
    """
    found = []
    if step is None:
        common = [one for one in a.steps if one in b.steps]
        if not common:
            return ()
        step = common[-1]
    for measure, shown, _ in _MEASURES:
        first, second = points(a, step, measure, target), points(b, step, measure, target)
        if first is None or second is None:
            continue
        place_of = {image: index for index, image in enumerate(b.probe.ids)}
        pairs = np.array([(i, place_of[image]) for i, image in enumerate(a.probe.ids) if image in place_of], int)
        if not len(pairs):
            continue
        x, y = first[pairs[:, 0]], second[pairs[:, 1]]
        both = np.isfinite(x) & np.isfinite(y)
        if both.sum() > 1:
            low, high = bootstrap((x - y)[both])
            means = float(x[both].mean()), float(y[both].mean())
            found.append(Comparison(shown, *means, means[0] - means[1], low, high, int(both.sum())))
    return tuple(found)


@figure(
    title="How much of a map lies on the object",
    page="grad_cam",
    part="object",
    needs=("cam_energy/predicted",),
    lacks="This run holds no maps of images whose object is known.",
    quantities=("energy_inside", "pointing_game"),
)
def on_object(
    run: Run | Sequence[Run] | Mapping[str, Run],
    step: str | int | None = None,
    *,
    target: str = "predicted",
    theme: Theme = "light",
) -> Picture:
    """Energy and pointing of the maps of one run, or of several by name; of two, also their paired difference.

    Above over the steps, below by task at one step; bars are 95 % bootstrap intervals over images.
    """
    named = run if isinstance(run, Mapping) else {r.name: r for r in ([run] if isinstance(run, Run) else run)}
    found = [d for name, one in named.items() if (d := read_on_object(one, step, target, name)) is not None]
    if not found:
        return empty("on_object", "This run holds no maps of images whose object is known.", theme)
    first = list(named.values())
    said = compare(first[0], first[1], step, target) if len(first) == 2 and len(found) == 2 else ()
    figure, _ = grid(4, 2)
    for index, data in enumerate(found):
        colour, mark = task_colour(index, theme), task_mark(index)
        shift = 0.16 * (index - (len(found) - 1) / 2)
        for column, (measure, shown, _) in enumerate(_MEASURES):
            tasks = np.arange(1, len(data.by_task[measure]) + 1)
            for row, x, values in (
                (1, places(data.steps), data.over[measure]),
                (2, tasks + shift, data.by_task[measure]),
            ):
                mean, low, high = values.T
                errors = {"array": (high - mean).astype(np.float32), "arrayminus": (mean - low).astype(np.float32)}
                line(
                    figure, x, mean, data.name, colour, cell=(row, column + 1), mark=mark, size=7,
                    legend=row == 1 and column == 0, mode="lines+markers" if row == 1 else "markers",
                    error_y=errors | {"color": see_through(colour, 0.5), "thickness": 1.4, "width": 0},
                    where=f"{'at' if row == 1 else 'images of'} task %{{x:.0f}}", form=f"{shown} %{{y:.1%}}",
                )  # fmt: skip
    for column, (measure, shown, hint) in enumerate(_MEASURES, start=1):
        title(figure, (1, column), shown, f"{hint} \N{RIGHTWARDS ARROW} 100 %", theme)
        title(figure, (2, column), "by task", f"{shown} at task {place(found[0].step):g}", theme)
        pooled = [values for data in found for values in (data.over[measure], data.by_task[measure])]
        # Intervals of single tasks are wide: the axis holds them all, whatever the step.
        _, top = reach(*pooled, low=0.0)
        figure.update_yaxes(range=[-0.02 * min(top, 1), min(top, 1.06)], tickformat=".0%", col=column)
    for row in (1, 2):
        dashed = {"color": MUTED[theme], "width": 1.3, "dash": "dash"}
        figure.add_hline(y=found[0].chance, line=dashed, name="chance", row=row, col=1)  # pyright: ignore
    finished(figure, theme, "on_object", 2, height=560)
    figure.update_xaxes(**task_axis(found[0].tasks))
    figure.update_xaxes(title_text="images of task", row=2)
    notes = (
        f"Grad-CAM of the {found[0].target} class on probe images of classes seen; bars: 95 % bootstrap over images.",
        f"Dashed: the mask covers {percent(found[0].chance)} of the image, the energy of a map without preference.",
        *(one.sentence for one in said),
    )
    parts = []
    for data in found:
        at = data.steps.index(data.step)
        energy, pointing = (float(data.over[m][at, 0]) for m, *_ in _MEASURES)
        times = number(energy / data.chance) if data.chance > 0 else "?"
        parts.append(
            f"{data.name} puts {percent(energy)} of its map on the object ({times} times its share of the image)"
            f" and points at it in {percent(pointing)} of {plural(data.images, 'image')}"
        )
    return Picture(figure, f"At task {place(found[0].step):g}, {'; '.join(parts)}.", notes)
