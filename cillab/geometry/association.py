"""Do two quantities rise together? Rank correlations over observations that come in groups, with honest intervals.

Observations of one group (a method) share much, so the group is what is drawn anew by the bootstrap, and a correlation
over all of them is taken apart into one between the groups and one within them. NaN in either quantity leaves an
observation out; what has too little left is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Values = Float[np.ndarray, " observation"]
Groups = Int[np.ndarray, " observation"]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its bootstrap interval, from `count` observations of `groups` groups.

    Those with both values; of `within` only those in groups that have a say.
    """

    value: float
    low: float
    high: float
    count: int
    groups: int


def spearman(x: Values, y: Values) -> float:
    """Pearson's correlation of the ranks, ties sharing their mean rank.

    Range [-1, 1]; 1 = the same order. Source: Spearman, Am. J. Psychol. 15 1904, doi:10.2307/1412159. Small samples:
    n independent pairs have a standard error of about 1 / sqrt(n - 1). NaN for fewer than 3 pairs or a constant.
    """
    x, y = _both(x, y)
    return _pearson(_ranks(x), _ranks(y)) if len(x) > 2 else np.nan


def partial_spearman(x: Values, y: Values, given: Values) -> float:
    """Rank correlation of x and y with a third quantity held fixed.

        (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2))

    Range [-1, 1]. It removes what ranks of `given` explain linearly, and nothing else. NaN for fewer than 4
    observations, or where `given` explains one of the two wholly. Source: customary (Kendall & Stuart).
    """
    x, y, given = np.asarray(x, np.float64), np.asarray(y, np.float64), np.asarray(given, np.float64)
    kept = np.isfinite(x) & np.isfinite(y) & np.isfinite(given)
    if kept.sum() < 4:
        return np.nan
    a, b, c = (_ranks(values[kept]) for values in (x, y, given))
    r, ac, bc = _pearson(a, b), _pearson(a, c), _pearson(b, c)
    rest = (1 - ac**2) * (1 - bc**2)
    return float((r - ac * bc) / np.sqrt(rest)) if rest > 1e-12 else np.nan


def between(x: Values, y: Values, groups: Groups) -> float:
    """`spearman` of the group means: do groups with more of x have more of y?"""
    x, y, groups = _both(x, y, groups)
    ids, inverse = np.unique(groups, return_inverse=True)
    counts = np.bincount(inverse, minlength=len(ids))
    return spearman(*(np.bincount(inverse, weights=values, minlength=len(ids)) / counts for values in (x, y)))


def within(x: Values, y: Values, groups: Groups) -> float:
    """Correlation of ranks taken inside each group: does x go with y where the group is the same?

    Ranks are spread over [-1, 1] in every group, so that large groups have no larger ranks. Groups with fewer than 3
    observations, or with a constant x or y, say nothing and are left out: middle ranks would only dilute it.
    """
    x, y, groups = _both(x, y, groups)
    kept, a, b = _inside(x, y, groups)
    return _pearson(a[kept], b[kept]) if kept.any() else np.nan


def has_say(x: Values, y: Values, groups: Groups) -> Bool[np.ndarray, " observation"]:
    """Whether each observation counts for `within`: both values are there, and its group is not left out."""
    found = np.isfinite(np.asarray(x, np.float64)) & np.isfinite(np.asarray(y, np.float64))
    found[found] = _inside(*_both(x, y, groups))[0]
    return found


def bootstrapped(
    statistic: Callable[[Int[np.ndarray, " drawn"], Groups], float],
    groups: Groups,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic when whole groups are drawn with replacement.

    `statistic(index, groups)` gets the drawn observations and the group that each belongs to; a group drawn twice comes
    as two. Draws in which it is undefined are left out; NaN if more than half are, or with fewer than 3 groups. Source:
    cluster bootstrap, Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8. Small samples:
    with fewer than about 10 groups the interval is too narrow.
    """
    ids = np.unique(groups)
    if len(ids) < 3:
        return np.nan, np.nan
    rows = [np.flatnonzero(groups == group) for group in ids]
    generator, found = np.random.default_rng(seed), []
    for _ in range(draws):
        drawn = [rows[g] for g in generator.integers(0, len(ids), len(ids))]
        named = np.repeat(np.arange(len(drawn)), [len(r) for r in drawn])
        found.append(statistic(np.concatenate(drawn), named))
    values = np.array(found)
    values = values[np.isfinite(values)]
    if len(values) < draws / 2:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def correlation(
    kind: Callable[..., float], x: Values, y: Values, groups: Groups, *given: Values, draws: int = 2000
) -> Correlation:
    """One of the correlations above with its interval: `kind` gets x, y and `given`, and groups if it asks for them.

    Groups that `within` leaves out are neither counted nor drawn: a draw would only be smaller for them.
    """
    arrays = [np.asarray(values, np.float64) for values in (x, y, *given)]
    kept = np.all([np.isfinite(values) for values in arrays], axis=0)
    if kind is within:
        kept &= has_say(x, y, groups)
    arrays, groups = [values[kept] for values in arrays], np.asarray(groups)[kept]
    grouped = kind in (between, within)

    def statistic(index: np.ndarray, named: np.ndarray) -> float:
        return kind(*(values[index] for values in arrays), *([named] if grouped else []))

    if not kept.any():
        return Correlation(np.nan, np.nan, np.nan, 0, 0)
    value = statistic(np.arange(len(groups)), groups)
    low, high = bootstrapped(statistic, groups, draws) if np.isfinite(value) else (np.nan, np.nan)
    return Correlation(value, low, high, int(kept.sum()), len(np.unique(groups)))


def _both(x, y, *more):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    return tuple(np.asarray(values)[kept] for values in (x, y, *more))


def _ranks(values):
    """Ranks from 1, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]


def _inside(x, y, groups):
    """Which observations are in a group of 3 or more in which x and y vary; both as ranks inside their groups."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    a, b = _spread(x, inverse), _spread(y, inverse)
    varies = [np.bincount(inverse, ranks != 0, len(counts)) > 0 for ranks in (a, b)]  # a constant has middle ranks, 0
    return ((counts > 2) & varies[0] & varies[1])[inverse], a, b


def _spread(values, groups):
    """Ranks inside each group (numbers from 0), from -1 to 1; all at once, since the bootstrap asks often."""
    _, dense = np.unique(values, return_inverse=True)
    _, inverse, counts = np.unique(groups * len(values) + dense, return_inverse=True, return_counts=True)
    sizes = np.bincount(groups)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse] - (sizes.cumsum() - sizes)[groups]
    return 2 * (ranks - 1) / (sizes[groups] - 1).clip(min=1) - 1


def _pearson(a, b) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else np.nan
