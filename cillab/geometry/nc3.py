"""NC3 to NC5: the head against the class means, the head against the nearest mean, and outliers. float64."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cillab.geometry.nc2 import gram_distance
from cillab.geometry.rows import centre, cosine as row_cosine

# Rows in work at a time: bounds the extra memory, not the result.
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class SelfDuality:
    """The head against the centred class means."""

    distance: float  # || W/||W||_F - M/||M||_F ||_F, in [0, 2]
    cosines: Float[np.ndarray, " cls"]  # cos(w_c, mu_c - mu_G)
    mean_cosine: float
    uniformity: float  # variance over classes of 1 - cosine; 0 = all classes equally (mis)aligned
    structure: float  # simplex Gram distance of W M^T: not the same question, see `nc3`


@dataclass(frozen=True, eq=False)
class Agreement:
    """Where the head and the nearest-mean rule say the same; classes without an image are NaN."""

    value: float
    per_class: Float[np.ndarray, " cls"]  # by true class if labels were given, else by nearest mean
    counts: Int[np.ndarray, " cls"]
    head: Int[np.ndarray, " image"]  # row index chosen by the head
    nearest: Int[np.ndarray, " image"]  # row index of the nearest mean


@dataclass(frozen=True, eq=False)
class OutlierAngle:
    """|cos| between each class mean and the mean of the outliers."""

    value: float
    per_class: Float[np.ndarray, " cls"]


def nc3(
    weight: Float[np.ndarray, "cls feature"], means: Float[np.ndarray, "cls feature"], centre_head: bool = False
) -> SelfDuality:
    """Self-duality: is the head a scaled copy of the centred class means?

        distance = || W/||W||_F - M/||M||_F ||_F,        cosine_c = cos(w_c, mu_c - mu_G)

    Source: NC3 in Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117 (there squared); the
    variance over classes is UNC3 in Wu & Papyan, NeurIPS 2024, arXiv:2405.17767. `structure` is the simplex Gram
    distance of W M^T, which another toolbox reports as self-duality error. It is 0 for any W with W M^T
    proportional to I - 11^T/K, such as W = M plus anything orthogonal to the means. Range [0, 2] for the distance,
    lower is better; [-1, 1] for the cosine, higher is better. Small samples: noise of the means shrinks every cosine
    by about sqrt(1 + v_c / (n_c ||mu_c - mu_G||^2)). `centre_head` subtracts the mean row first, which changes no
    softmax; heads trained task by task have one centre per task, and text heads a modality gap: report both.
    A zero row has cosine 0. With 1 class everything is NaN.

    Raises:
        ValueError: shapes that differ.
    """
    if weight.shape != means.shape:
        raise ValueError(f"The head {list(weight.shape)} does not fit class means {list(means.shape)}.")
    w, m = (centre(weight) if centre_head else np.asarray(weight, dtype=np.float64)), centre(means)
    if len(m) < 2:
        return SelfDuality(math.nan, np.full(len(m), math.nan), math.nan, math.nan, math.nan)
    cosine = np.nan_to_num(row_cosine(w, m))
    size, spread = np.linalg.norm(w), np.linalg.norm(m)
    distance = float(np.linalg.norm(w / size - m / spread)) if size > 0 and spread > 0 else math.nan
    cross = w @ m.T
    structure = gram_distance(cross) if cross.any() else math.nan
    return SelfDuality(distance, cosine, float(cosine.mean()), float(cosine.var()), structure)


def nc4(
    features: Float[np.ndarray, "image feature"],
    weight: Float[np.ndarray, "cls feature"],
    bias: Float[np.ndarray, " cls"] | None,
    means: Float[np.ndarray, "cls feature"],
    labels: Int[np.ndarray, " image"] | None = None,
) -> Agreement:
    """Share of images on which a linear head and the nearest-class-mean rule agree.

        argmax_c (w_c . h + b_c)  =  argmin_c ||h - mu_c||

    Source: NC4 in Papyan, Han & Donoho 2020. In [0, 1], higher is better; the bias counts (a peer leaves it out).
    Rows of `weight`, `bias` and `means` follow the same order of classes, `labels` are row indices. Agreement says
    nothing of being right: two rules can agree on wrong classes. Ties go to the lower row. NaN without images.
    Small samples: means of few images are pulled by the very images that are compared with them.

    Raises:
        ValueError: shapes that do not fit.
    """
    if weight.shape != means.shape or features.shape[1] != means.shape[1]:
        raise ValueError(
            f"features {list(features.shape)}, head {list(weight.shape)} and class means"
            f" {list(means.shape)} do not fit."
        )
    origin, mu, half = _nearest_rule(means)
    w = np.asarray(weight, dtype=np.float64)
    # One pass over the images for both rules: the head sees h - o too, and its bias makes up for it.
    shift = w @ origin if bias is None else np.asarray(bias, dtype=np.float64) + w @ origin
    both, k = np.concatenate([w, mu]).T, len(w)
    head, nearest = np.empty(len(features), dtype=np.int64), np.empty(len(features), dtype=np.int64)
    for block in _blocks(len(features)):
        scores = (np.asarray(features[block], dtype=np.float64) - origin) @ both
        head[block] = (scores[:, :k] + shift).argmax(axis=1)
        nearest[block] = (scores[:, k:] - half).argmax(axis=1)
    return agreement(head, nearest, k, labels)


def nc4_from_logits(
    logits: Float[np.ndarray, "image cls"],
    features: Float[np.ndarray, "image feature"],
    means: Float[np.ndarray, "cls feature"],
    labels: Int[np.ndarray, " image"] | None = None,
) -> Agreement:
    """As `nc4`, for a learner whose logits are no linear function of its features (cosine, text, ensembles)."""
    if logits.shape != (len(features), len(means)):
        raise ValueError(f"logits {list(logits.shape)} do not fit {len(features)} features and {len(means)} means.")
    return agreement(np.asarray(logits).argmax(axis=1), nearest_mean(features, means), len(means), labels)


def nearest_mean(
    features: Float[np.ndarray, "image feature"], means: Float[np.ndarray, "cls feature"]
) -> Int[np.ndarray, " image"]:
    """Row index of the nearest class mean of every image: argmin_c ||h - mu_c||. Rows of NaN are never chosen.

        argmin_c ||h - mu_c||^2 = argmax_c  (h - o) . (mu_c - o) - ||mu_c - o||^2 / 2,    o = mean of the means

    The shift by o keeps the matrix-product form exact to float64 rounding of the spread, not of the offset.
    """
    origin, mu, half = _nearest_rule(means)
    rows = np.empty(len(features), dtype=np.int64)
    for block in _blocks(len(features)):
        rows[block] = ((np.asarray(features[block], dtype=np.float64) - origin) @ mu.T - half).argmax(axis=1)
    return rows


def agreement(
    head: Int[np.ndarray, " image"],
    nearest: Int[np.ndarray, " image"],
    classes: int,
    labels: Int[np.ndarray, " image"] | None,
) -> Agreement:
    """Compare two sets of decisions (row indices) and count by class."""
    groups = nearest if labels is None else np.asarray(labels)
    same = (head == nearest).astype(np.float64)
    counts = np.bincount(groups, minlength=classes)
    with np.errstate(invalid="ignore"):  # 0 / 0: a class without an image
        per_class = np.bincount(groups, weights=same, minlength=classes) / counts
    return Agreement(float(same.mean()) if len(same) else math.nan, per_class, counts, head, nearest)


def nc5(means: Float[np.ndarray, "cls feature"], outlier_mean: Float[np.ndarray, " feature"]) -> OutlierAngle:
    """Are outliers orthogonal to the classes?

        mean_c | cos(mu_c - mu_G, mu_out - mu_G) |,    mu_G = average of the class means

    Source: NC5 in Ammar et al. (NECO), ICLR 2024, arXiv:2310.06823; centred here, uncentred there. In [0, 1], lower is
    better: outliers then separate by the norm of their projection. Classes to come, seen by the model of today, are
    outliers with a name. Small samples: random directions in D dimensions already give about sqrt(2 / (pi D)). NaN for
    1 class or an outlier mean equal to mu_G.
    """
    mu = np.asarray(means, dtype=np.float64)
    out = np.asarray(outlier_mean, dtype=np.float64) - mu.mean(axis=0)
    per_class = np.abs(row_cosine(centre(mu), out[None]))
    return OutlierAngle(float(per_class.mean()), per_class)


def _nearest_rule(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """o, mu_c - o and ||mu_c - o||^2 / 2; a class without a mean can never be nearest."""
    mu = np.asarray(means, dtype=np.float64)
    present = np.asarray(np.isfinite(mu).all(axis=1))
    origin = mu[present].mean(axis=0)
    mu = np.where(present[:, None], mu - origin, 0.0)
    return origin, mu, np.where(present, np.square(mu).sum(axis=1) / 2, np.inf)


def _blocks(images: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, images, _BLOCK))
