"""Neural collapse in a toy that a laptop solves in a blink: watch an ETF appear, break, or stay.

    toy = simulate(classes=4, dim=3, loss="ce", decay=5e-3)
    toy.nc2[-1]                            # how far the class means are from a simplex ETF at the end
    cillab.figures.toy(toy).show()         # the frames, with play and pause

NumPy only, deterministic: the same settings and seed give the same frames.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from cillab.core.errors import InvalidRequestError, unknown_name
from cillab.geometry import etf, nc1, nc2, nc3
from cillab.geometry.moments import Moments
from cillab.geometry.rows import centre, cosine_matrix
from cillab.teaching.toy_model import LOSSES, Loss, Values, objective, seen_by_head

HIDDEN, INPUTS = 32, 8  # width of the network, and of the images that it sees
_RATE, _MOMENTUM, _NETWORK_RATE = 0.4, 0.9, 0.08
_SPREAD = 0.45  # of the images around the centre of their class


@dataclass(frozen=True, eq=False)
class Toy:
    """Everything that happened, frame by frame. Classes that have not come yet are NaN in `features` and `weight`."""

    settings: dict[str, Any]
    labels: Int64[np.ndarray, " image"]  # row of the class of each image
    tasks: Int64[np.ndarray, " cls"]  # 0, or 1 for an added class
    step: Int64[np.ndarray, " frame"]  # gradient steps taken
    task: Int64[np.ndarray, " frame"]  # which task is being learnt
    features: Float64[np.ndarray, "frame image feature"]
    weight: Float64[np.ndarray, "frame cls feature"]
    bias: Float64[np.ndarray, "frame cls"]
    loss: Float64[np.ndarray, " frame"]  # what is minimised, decay included

    @cached_property
    def means(self) -> Float64[np.ndarray, "frame cls feature"]:
        """Class means."""
        rows = [self.features[:, self.labels == c].mean(axis=1) for c in range(len(self.tasks))]
        return np.stack(rows, axis=1)

    @cached_property
    def cosines(self) -> Float64[np.ndarray, "frame cls cls"]:
        """Cosines of the class means around their average, over the classes there are."""
        out = np.full((len(self.step), len(self.tasks), len(self.tasks)), np.nan)
        for frame in range(len(self.step)):
            here = self.present(frame)
            out[frame][np.ix_(here, here)] = cosine_matrix(centre(self.means[frame][here]))
        return out

    @cached_property
    def nc1(self) -> Float64[np.ndarray, " frame"]:
        """Spread within classes beside the distance between them; 0 when every class is a point."""

        def one(frame: int, here: np.ndarray) -> float:
            of = np.isin(self.labels, here)
            moments = Moments.of(self.features[frame, of], self.labels[of])
            return nc1.nc1_pinv(moments.pooled_within(), centre(moments.means())).value

        return self._over(one)

    @cached_property
    def nc2(self) -> Float64[np.ndarray, " frame"]:
        """Mean over pairs of |cosine of class means + 1/(K - 1)|; 0 for a simplex ETF."""
        return self._over(lambda frame, here: nc2.or_nan(nc2.maximal_angle, self.means[frame][here]))

    @cached_property
    def equinorm(self) -> Float64[np.ndarray, " frame"]:
        """Spread of the lengths of the class means over their average length; 0 when all are equally long."""
        return self._over(lambda frame, here: nc2.equinorm(self.means[frame][here]).value)

    @cached_property
    def nc3(self) -> Float64[np.ndarray, " frame"]:
        """Distance of head and class means, both of unit size; 0 when they point the same way."""
        return self._over(lambda frame, here: nc3.nc3(self.weight[frame][here], self.means[frame][here]).distance)

    @cached_property
    def right(self) -> np.ndarray:
        """[frame, image]: is the image answered rightly among the classes there are?"""
        out = np.zeros(self.features.shape[:2], dtype=bool)
        for frame in range(len(self.step)):
            here = self.present(frame)
            scores = self.features[frame] @ self.weight[frame][here].T + self.bias[frame][here]
            out[frame] = here[np.nan_to_num(scores).argmax(axis=1)] == self.labels
        return out

    def accuracy(self, task: int | None = None) -> Float64[np.ndarray, " frame"]:
        """Share of training images answered rightly: of one task, or of all that have come. NaN before they come."""
        of = self.tasks[self.labels] == task if task is not None else np.ones(len(self.labels), bool)
        out = np.full(len(self.step), np.nan)
        for frame in range(len(self.step)):
            here = of & (self.tasks[self.labels] <= self.task[frame])
            if here.any():
                out[frame] = self.right[frame, here].mean()
        return out

    @cached_property
    def ideal(self) -> Float64[np.ndarray, "frame cls feature"]:
        """The simplex ETF nearest to the class means, around their average and as large; NaN where there is no room."""
        out = np.full_like(self.weight, np.nan)
        for frame in range(len(self.step)):
            here = self.present(frame)
            means = self.means[frame][here]
            if means.shape[1] >= len(here) - 1 and np.ptp(means, axis=0).max() > 1e-9:
                length = np.linalg.norm(centre(means), axis=1).mean()
                out[frame][here] = means.mean(axis=0) + length * etf.nearest_etf(means)
        return out

    def axes(self, count: int = 3) -> Float64[np.ndarray, "feature axis"]:
        """Orthonormal axes to look along, the same in every frame: those of the last class means and head rows."""
        if self.features.shape[2] <= count:
            return np.eye(self.features.shape[2], count)
        last = [centre(self.means[-1]), centre(self.weight[-1])]
        pooled = np.concatenate([rows / max(np.linalg.norm(rows), 1e-12) for rows in last])
        return np.linalg.svd(pooled)[2][:count].T

    def present(self, frame: int) -> Int64[np.ndarray, " cls"]:
        """The classes that have come by this frame."""
        return np.flatnonzero(self.tasks <= self.task[frame])

    def _over(self, measure: Any) -> Float64[np.ndarray, " frame"]:
        return np.array([measure(frame, self.present(frame)) for frame in range(len(self.step))])


def simulate(
    classes: int = 3,
    dim: int = 3,
    per_class: int = 12,
    *,
    loss: Loss = "ce",
    head: Literal["learned", "etf"] = "learned",
    model: Literal["free", "network"] = "free",
    decay: float = 5e-3,
    imbalance: float = 1.0,
    added: int = 0,
    old_data: bool = False,
    steps: int = 600,
    frames: int = 60,
    seed: int = 0,
) -> Toy:
    """Follow the gradient of `toy_model.objective` and keep `frames` frames of each task.

    Args:
        classes: classes of the first task.
        dim: dimensions of the features; a simplex ETF of K classes needs K - 1.
        per_class: images of a class.
        loss: cross-entropy, squared error, or dot-regression (which needs a fixed head).
        head: learned, or fixed at a simplex ETF that has a vertex for the added classes from the start.
        model: free features, or a network that all images share.
        decay: weight decay on the head and on the features (free) or the layers (network); not for dot-regression.
        imbalance: the second half of the classes of the first task has this many times fewer images.
        added: classes of a second task, learnt after the first.
        old_data: is the first task learnt on while the second is?
        steps: gradient steps of each task.
        frames: frames kept of each task, denser at its beginning.
        seed: decides every draw.

    Raises:
        InvalidRequestError: a setting out of bounds, or a fixed ETF that has no room.
    """
    settings: dict[str, Any] = dict(locals())
    _check(settings)
    rng = np.random.default_rng(seed)
    counts = np.full(classes + added, per_class)
    counts[classes - classes // 2 : classes] = max(1, round(per_class / imbalance))
    labels, tasks = np.repeat(np.arange(len(counts)), counts), np.repeat([0, 1], [classes, added])
    values, images = _start(rng, labels, len(counts), dim, model, fixed=head == "etf")
    shown: dict[str, list[Any]] = {name: [] for name in ("step", "task", "features", "weight", "bias", "loss")}
    for task in range(2 if added else 1):
        here = tasks <= task
        learnt = np.flatnonzero(here[labels] if old_data or not task else tasks[labels] == task)
        descent = _Descent(values, images, labels, learnt, here, settings)
        kept = _kept(steps, frames)
        for done in range(steps + 1):
            if done in kept:
                _record(shown, descent, done + task * steps, task)
            if done < steps:
                descent.step()
        values = descent.values
    return Toy(settings, labels, tasks, **{name: np.array(rows) for name, rows in shown.items()})


def _check(given: dict[str, Any]) -> None:
    if given["loss"] not in LOSSES:
        raise unknown_name("loss", given["loss"], LOSSES)
    for name, valid in (("head", ("learned", "etf")), ("model", ("free", "network"))):
        if given[name] not in valid:
            raise unknown_name(name, given[name], valid)
    bounds = {"classes": 2, "dim": 1, "per_class": 1, "decay": 0, "imbalance": 1, "added": 0, "steps": 1, "frames": 2}
    for name, low in bounds.items():
        if not given[name] >= low:
            raise InvalidRequestError(f"{name} must be at least {low}, got {given[name]}.")
    total = given["classes"] + given["added"]
    if given["loss"] == "dr" and given["head"] != "etf":
        raise InvalidRequestError('Dot-regression pulls features to fixed vertices: it needs head="etf".')
    if given["head"] == "etf" and given["dim"] < total - 1:
        raise InvalidRequestError(f"A fixed ETF of {total} classes needs dim >= {total - 1}, got {given['dim']}.")


def _start(
    rng: np.random.Generator, labels: np.ndarray, classes: int, dim: int, model: str, fixed: bool
) -> tuple[Values, np.ndarray | None]:
    """The parameters before learning, and the images where there is a network."""
    images = None
    if model == "free":
        values: Values = {"features": rng.standard_normal((len(labels), dim)) * 0.45}
    else:
        centres = rng.standard_normal((classes, INPUTS))
        images = centres[labels] + _SPREAD * rng.standard_normal((len(labels), INPUTS))
        values = {
            "first": rng.standard_normal((HIDDEN, INPUTS)) / np.sqrt(INPUTS),
            "first_bias": np.zeros(HIDDEN),
            "second": rng.standard_normal((dim, HIDDEN)) / np.sqrt(HIDDEN),
            "second_bias": np.zeros(dim),
        }
    rows = etf.simplex_etf(classes, dim, rng) if fixed else rng.standard_normal((classes, dim)) * 0.3
    return values | {"weight": rows, "bias": np.zeros(classes)}, images


def _kept(steps: int, frames: int) -> set[int]:
    """Steps to keep, denser at the beginning, where most happens."""
    return {round(steps * share**2) for share in np.linspace(0, 1, frames)}


class _Descent:
    """Gradient descent with momentum that never goes uphill.

    A step that would is not taken, and momentum starts anew (O'Donoghue & Candes, Found. Comput. Math. 15, 2015); if
    it had none, the step was too long and is halved from then on.
    """

    def __init__(
        self, values: Values, images: np.ndarray | None, labels: np.ndarray, learnt: np.ndarray, here: np.ndarray,
        settings: dict[str, Any],
    ) -> None:  # fmt: skip
        self.values, self.images, self.labels, self.learnt, self.here = values, images, labels, learnt, here
        self.loss, self.decay, self.learned = settings["loss"], settings["decay"], settings["head"] == "learned"
        self.rate = _RATE if images is None else _NETWORK_RATE
        self._velocity: Values = {}
        self.value, self._gradient = self._look(values)
        of, known = labels[learnt], len(np.unique(labels[learnt]))
        # Free features, and the head beside them, take steps in the scale of a class's share of the loss.
        self._scale = 1.0 if images is not None else float(known)
        self._size = (np.bincount(of)[of] * known)[:, None]

    def step(self) -> None:
        """One step."""
        velocity, moved = {}, dict(self.values)
        for name, slope in self._gradient.items():
            scale = self._size if name == "features" else self._scale
            velocity[name] = _MOMENTUM * self._velocity.get(name, 0.0) - self.rate * scale * slope
            where = self.learnt if name == "features" else self.here if name in ("weight", "bias") else slice(None)
            moved[name] = moved[name].copy()
            moved[name][where] += velocity[name]
        value, gradient = self._look(moved)
        if value <= self.value:
            self.values, self.value, self._gradient, self._velocity = moved, value, gradient, velocity
        else:
            self.rate /= 1 if self._velocity else 2
            self._velocity = {}

    def _look(self, values: Values) -> tuple[float, Values]:
        """Loss and gradient of what takes part: the images that are learnt, the head of the classes that have come."""
        part = values | {"weight": values["weight"][self.here], "bias": values["bias"][self.here]}
        inputs = None if self.images is None else self.images[self.learnt]
        if inputs is None:
            part["features"] = values["features"][self.learnt]
        return objective(part, inputs, self.labels[self.learnt], self.loss, self.decay, self.learned)


def _record(shown: dict[str, list[Any]], descent: _Descent, step: int, task: int) -> None:
    """Keep a frame; classes still to come are NaN."""
    values, absent = descent.values, ~descent.here
    features = seen_by_head(values, descent.images, descent.loss)
    shown["features"].append(np.where(absent[descent.labels][:, None], np.nan, features))
    shown["weight"].append(np.where(absent[:, None], np.nan, values["weight"]))
    shown["bias"].append(np.where(absent, np.nan, values["bias"]))
    for name, value in (("step", step), ("task", task), ("loss", descent.value)):
        shown[name].append(value)
