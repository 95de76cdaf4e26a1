"""Uncertainty: intervals over seeds and paired comparison by Student's t, intervals over images by bootstrap."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

Numbers: TypeAlias = Sequence[float | int] | np.ndarray


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its confidence interval; `std` has divisor n - 1."""

    mean: float
    low: float
    high: float
    half_width: float
    std: float
    count: int
    level: float


@dataclass(frozen=True)
class PairedDifference:
    """a - b over the same seeds."""

    interval: Interval
    t: float
    p_value: float  # two-sided, of no difference
    wins: int  # seeds with a > b
    losses: int


def t_interval(values: Numbers, level: float = 0.95) -> Interval:
    """Mean of a few runs with its t-interval.

        mean +- t_{n-1, (1+level)/2} std / sqrt(n)

    Source: Student, Biometrika 6(1) 1908. It covers the spread over seeds or class orders only, not over test images.
    Range: that of the values. Small samples: honest down to n = 2 (where t is 12.7); with one value the interval is
    NaN. Take at least 3 class orders.

    Raises:
        ValueError: no value, a value that is not finite, level outside (0, 1).
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or not 0 < level < 1:
        raise ValueError(f"t_interval needs finite values and a level in (0, 1), got {x.tolist()} and {level}.")
    from scipy.special import stdtrit  # noqa: PLC0415 - half a second, and a run that begins has no seeds to compare

    n, mean = len(x), float(x.mean())
    std = float(x.std(ddof=1)) if n > 1 else math.nan
    half = float(stdtrit(n - 1, (1 + level) / 2)) * std / math.sqrt(n) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half, half, std, n, level)


def paired_difference(a: Numbers, b: Numbers, level: float = 0.95) -> PairedDifference:
    """Compare two learners run with the same seeds, class orders and data.

        d_i = a_i - b_i;    interval of mean(d);    t = mean(d) / (std(d) / sqrt(n)),  n - 1 degrees of freedom

    Pairing removes the spread that seeds share. p is for one planned comparison; correct it for many. All d equal:
    p = 0 (1 if they are 0), which says only that the seeds do not differ. Range: that of the differences, p in [0, 1].
    Small samples: NaN for one pair, wide for two. Source: Student, Biometrika 6(1) 1908.

    Raises:
        ValueError: lengths that differ, or as `t_interval`.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"Pairs need the same seeds on both sides, got {x.size} and {y.size} values.")
    d = x - y
    interval = t_interval(d, level)
    if math.isnan(interval.std):
        t = p = math.nan
    elif interval.std == 0:
        t, p = (0.0, 1.0) if interval.mean == 0 else (math.copysign(math.inf, interval.mean), 0.0)
    else:
        from scipy.special import stdtr  # noqa: PLC0415 - Student's t: the distribution function

        t = interval.mean / (interval.std / math.sqrt(len(d)))
        p = 2 * float(stdtr(len(d) - 1, -abs(t)))
    return PairedDifference(interval, t, p, int((d > 0).sum()), int((d < 0).sum()))


def bootstrap(values: Float[np.ndarray, " image"], level: float = 0.95, draws: int = 2000) -> tuple[float, float]:
    """Percentile interval of the mean over images; the same draws every time. NaN are left out, NaN for fewer than 2.

    Source: Efron, Annals of Statistics 7(1) 1979, doi:10.1214/aos/1176344552. Small samples: too narrow below about 20.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return math.nan, math.nan
    counts = np.random.default_rng(0).multinomial(len(x), np.full(len(x), 1 / len(x)), size=draws)
    low, high = np.quantile(counts @ x / len(x), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
