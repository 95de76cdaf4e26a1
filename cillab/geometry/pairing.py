"""Is one set of answers better than another on the same images? The difference, its interval, and an exact test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Right: TypeAlias = Sequence[bool] | np.ndarray


@dataclass(frozen=True)
class Paired:
    """Accuracy of the first minus that of the second, on the same images."""

    difference: float
    low: float
    high: float
    p_value: float  # two-sided, of no difference; exact
    only_first: int  # images that the first alone answers rightly
    only_second: int
    images: int

    @property
    def clear(self) -> bool:
        """The interval does not contain 0."""
        return not self.low <= 0 <= self.high

    def __str__(self) -> str:
        points = [f"{100 * value:+.1f}" for value in (self.difference, self.low, self.high)]
        return (
            f"{points[0]} points [{points[1]}, {points[2]}] on {self.images} images: right by the first alone "
            f"{self.only_first}, by the second alone {self.only_second}, p = {self.p_value:.2g}"
        )


def paired(first: Right, second: Right, level: float = 0.95) -> Paired:
    """Compare two classifiers image by image; each argument says for every image whether the answer was right.

    Let b images be right with the first alone and c with the second alone, n in all. Images on which both agree say
    nothing about a difference.

        difference = (b - c) / n
        interval   = (b - c) / (n + 2) +- z sqrt(b + c + 1 - (b - c)^2 / (n + 2)) / (n + 2)
        p          = P(|X - m/2| >= |b - m/2|),  X ~ Binomial(m, 1/2),  m = b + c

    Both are about *images*: a learner that is trained again, or with another class order, varies on top of that
    (`cillab.geometry.seeds.paired_difference`). Range: the difference in [-1, 1], p in [0, 1]. Small samples: the
    interval covers what it should from some ten images on, and is wide there. Sources: interval, Agresti & Min,
    Statistics in Medicine 24, 2005 (half an image is added to each of the four cells of the table); test, McNemar,
    Psychometrika 12, 1947, in its exact form.

    Raises:
        ValueError: no image, lengths that differ, or entries that are not true or false.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"paired needs one answer per image on both sides, got shapes {a.shape} and {b.shape}.")
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("paired needs true or false per image: was the answer right?")
    from scipy.special import bdtr  # noqa: PLC0415 - half a second; the binomial distribution function

    a, b = a.astype(bool), b.astype(bool)
    n, mine, theirs = len(a), int((a & ~b).sum()), int((b & ~a).sum())
    z, more = _quantile(level), n + 2
    middle = (mine - theirs) / more
    half = z * math.sqrt(mine + theirs + 1 - (mine - theirs) ** 2 / more) / more
    tail = float(bdtr(min(mine, theirs), mine + theirs, 0.5))
    return Paired((mine - theirs) / n, middle - half, middle + half, min(1.0, 2 * tail), mine, theirs, n)


def share_error(shares: Sequence[float] | np.ndarray, images: int, level: float = 0.95) -> np.ndarray:
    """Half the width of the interval of a share of `images` images: z sqrt(p (1 - p) / n), for error bars.

    For one share by itself. Two bars whose intervals overlap may still differ clearly on the same images: use `paired`.
    """
    p = np.asarray(shares, np.float64)
    return _quantile(level) * np.sqrt(p * (1 - p) / images)


def _quantile(level: float) -> float:
    """The z of a two-sided interval of the normal distribution."""
    from scipy.special import ndtri  # noqa: PLC0415

    return float(ndtri((1 + level) / 2))
