"""Neural collapse in one record: every NC metric of a step, with its detail and the notes that belong beside it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

from cillab.geometry import nc1 as one, nc2 as two
from cillab.geometry.incremental import DATA_NAMES, READING, Blocks, Data, blocks
from cillab.geometry.moments import Moments
from cillab.geometry.nc3 import Agreement, OutlierAngle, SelfDuality, nc3, nc4, nc4_from_logits, nc5
from cillab.geometry.rows import centre
from cillab.geometry.spectrum import Spectrum, spectrum, top_eigenvalue_share

__all__ = ["Collapse", "blocks", "collapse", "nc4"]

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Collapse:
    """All collapse metrics of one set of features. What is undefined is NaN (None for detail), and `notes` says why.

    Perfect collapse: `nc1` 0, `nc2` 0, `nc3` 0, `nc4` 1. Each scalar is a reduction of a detail stored beside it;
    formulas, ranges and sources stand with the functions of `nc1`, `nc2`, `nc3`, `spectrum` and `incremental`.
    """

    classes: tuple[int, ...]  # classes with at least one image: the rows of every per-class detail
    counts: Int[np.ndarray, " cls"]
    notes: tuple[str, ...]  # to be shown with every plot of these numbers

    nc1_pinv: float
    nc1_svd: float
    nc1_quotient: float
    cdnv: float
    nc2_equinorm: float
    nc2_equinorm_head: float
    nc2_equiangularity: float
    nc2_maximal_angle: float
    nc2_gram: float
    gnc2_log_mean: float
    gnc2_log_variance: float
    gnc2_riesz_mean: float
    gnc2_riesz_variance: float
    nc3_distance: float
    nc3_cosine: float
    nc3_uniformity: float
    nc3_structure: float
    nc4_agreement: float
    nc5_orthogonality: float
    effective_rank_between: float
    effective_rank_within: float
    participation_between: float
    participation_within: float
    within_top_share: float

    per_class_quotient: Float[np.ndarray, " cls"]  # v_c / tr Sigma_B
    pair_cdnv: Float[np.ndarray, "cls cls"]
    norms: Float[np.ndarray, " cls"]  # ||mu_c - mu_G||
    cosines: Float[np.ndarray, "cls cls"] | None
    spectral: one.SpectralRatio | None  # NC1 by direction of Sigma_B
    within_spectrum: Spectrum | None
    between_spectrum: Spectrum | None
    per_class_top_share: Float[np.ndarray, " cls"] | None  # needs Moments(scatter="full")
    norms_head: Float[np.ndarray, " cls"] | None
    duality: SelfDuality | None
    agreement: Agreement | None
    outliers: OutlierAngle | None
    blocks: Blocks | None

    @property
    def nc1(self) -> float:
        """The variant with the pseudo-inverse."""
        return self.nc1_pinv

    @property
    def nc2(self) -> float:
        """Simplex Gram distance: norms and angles in one number."""
        return self.nc2_gram

    @property
    def nc3(self) -> float:
        """Distance of head and class means, both of unit Frobenius norm."""
        return self.nc3_distance

    @property
    def nc4(self) -> float:
        """Agreement of head and nearest-mean rule."""
        return self.nc4_agreement

    def scalars(self) -> dict[str, float]:
        """Every scalar by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is float}


def collapse(
    moments: Moments,
    head_weight: Float[np.ndarray, "head feature"] | None = None,
    head_bias: Float[np.ndarray, " head"] | None = None,
    *,
    head_classes: Sequence[int] | None = None,
    features: Float[np.ndarray, "image feature"] | None = None,
    labels: Int[np.ndarray, " image"] | None = None,
    logits: Float[np.ndarray, "image head"] | None = None,
    task_of_class: Mapping[int, int] | None = None,
    outlier_mean: Float[np.ndarray, " feature"] | None = None,
    data: Data = "unstated",
    cutoff: float = one.CUTOFF,
    riesz_exponent: float = 1.0,
) -> Collapse:
    """Everything that can be said of the collapse of these features, from the first class on.

    `moments` alone give NC1 (with scatter "pooled" or "full"; otherwise only quotient and CDNV), NC2 and the
    spectra. A head adds NC3; its rows follow `head_classes` (default: `moments.classes`). Features, with a head or
    with `logits`, add NC4; `labels` are class ids. `task_of_class` adds the angle blocks, `outlier_mean` NC5.
    mu_G is the average of the class means. Nothing raises because there is little data: with 1 class nearly all
    is NaN, with 2 the NC2 metrics are 0 whatever the features, an empty class is left out; `notes` say so.
    The Riesz exponent defaults to 1 (Thomson's problem), since D - 2 of the source overflows for D in the hundreds.

    Raises:
        ValueError: shapes, classes or tasks that do not fit together, an unknown `data`.
    """
    if data not in DATA_NAMES:
        raise ValueError(f"Unknown data {data!r}. Valid: {', '.join(DATA_NAMES)}.")
    present = moments.counts > 0
    classes = tuple(c for c, some in zip(moments.classes, present.tolist(), strict=True) if some)
    means, variances, counts = moments.means()[present], moments.variances()[present], moments.counts[present]
    k, dim = means.shape
    notes = _notes(moments, classes, counts, data, has_head=head_weight is not None)
    columns = moments.classes if head_classes is None else tuple(head_classes)
    rows = _head_rows(classes, columns)
    weight, bias = _head(head_weight, head_bias, rows, columns, dim)
    if logits is not None and logits.shape[1] != len(columns):
        raise ValueError(f"logits have {logits.shape[1]} columns for {len(columns)} head classes.")
    attempt = _Attempt(notes)

    centred = centre(means)
    quotient, pairs = one.nc1_quotient(variances, counts, centred), one.cdnv(variances, means)
    if k > 1:
        norms = two.equinorm(means)
        cosines = attempt(lambda: two.cosines(means), None)
    else:
        norms, cosines = two.Equinorm(math.nan, np.linalg.norm(centred, axis=-1)), None
    several = cosines is not None
    log = two.generalised_nc2(means, "log") if several else None
    riesz = two.generalised_nc2(means, "riesz", riesz_exponent) if several else None

    has_within = moments.scatter in ("pooled", "full") and k > 0
    within = moments.pooled_within() if has_within else None
    pinv = one.nc1_pinv(within, centred, cutoff) if within is not None else None
    svd = one.nc1_svd(within, centred) if within is not None else None
    if pinv is not None and pinv.dropped:
        notes.append(
            f"The class means span {pinv.dropped} directions fewer than min(K - 1, D): nc1_svd divides by"
            " rounding noise, read nc1_pinv."
        )
    shares = None
    if moments.scatter == "full":
        shares = np.array([top_eigenvalue_share(moments.covariance(c)) for c in classes])
    inside = spectrum(within) if within is not None else None
    # The K x K Gram matrix has the eigenvalues of the D x D covariance, apart from zeros.
    outside = spectrum(centred @ centred.T / k) if k > 1 else None

    duality = nc3(weight, means) if weight is not None and k > 1 else None
    head_norms = two.equinorm(weight, centred=False) if weight is not None else None
    agree = _agreement(means, classes, rows, weight=weight, bias=bias, features=features, labels=labels, logits=logits)
    outliers = nc5(means, outlier_mean) if outlier_mean is not None and k > 0 else None
    split = None
    if task_of_class is not None and cosines is not None:
        missing = [c for c in classes if c not in task_of_class]
        if missing:
            raise ValueError(f"task_of_class names no task for classes {missing}.")
        split = blocks(cosines, [task_of_class[c] for c in classes])

    nan = math.nan
    return Collapse(
        classes=classes,
        counts=counts,
        nc1_pinv=pinv.value if pinv else nan,
        nc1_svd=svd.value if svd else nan,
        nc1_quotient=quotient.value,
        cdnv=pairs.value,
        nc2_equinorm=norms.value,
        nc2_equinorm_head=head_norms.value if head_norms else nan,
        nc2_equiangularity=two.equiangularity(means) if several and k > 2 else nan,
        nc2_maximal_angle=two.maximal_angle(means) if several else nan,
        nc2_gram=attempt(lambda: two.simplex_gram_distance(means), nan) if k > 1 else nan,
        gnc2_log_mean=log.mean if log else nan,
        gnc2_log_variance=log.variance if log else nan,
        gnc2_riesz_mean=riesz.mean if riesz else nan,
        gnc2_riesz_variance=riesz.variance if riesz else nan,
        nc3_distance=duality.distance if duality else nan,
        nc3_cosine=duality.mean_cosine if duality else nan,
        nc3_uniformity=duality.uniformity if duality else nan,
        nc3_structure=duality.structure if duality else nan,
        nc4_agreement=agree.value if agree else nan,
        nc5_orthogonality=outliers.value if outliers else nan,
        effective_rank_between=outside.effective_rank if outside else nan,
        effective_rank_within=inside.effective_rank if inside else nan,
        participation_between=outside.participation_ratio if outside else nan,
        participation_within=inside.participation_ratio if inside else nan,
        within_top_share=inside.top_share if inside else nan,
        per_class_quotient=quotient.per_class,
        pair_cdnv=pairs.pairs,
        norms=norms.norms,
        cosines=cosines,
        spectral=pinv,
        within_spectrum=inside,
        between_spectrum=outside,
        per_class_top_share=shares,
        norms_head=head_norms.norms if head_norms else None,
        duality=duality,
        agreement=agree,
        outliers=outliers,
        blocks=split,
        notes=tuple(dict.fromkeys(notes)),
    )


class _Attempt:
    """Call a metric; where it is undefined, keep its reason as a note and return the substitute."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def __call__(self, metric: Callable[[], _T], substitute: _T) -> _T:
        try:
            return metric()
        except ValueError as error:
            self.notes.append(f"Undefined here: {error}")
            return substitute


def _notes(moments: Moments, classes: tuple[int, ...], counts: np.ndarray, data: Data, *, has_head: bool) -> list[str]:
    k = len(classes)
    notes = [f"Measured on {DATA_NAMES[data]}. {READING['data']}", READING["prototypes"]]
    if has_head:
        notes.append(READING["head"])
    if moments.dim < k - 1:
        notes.append(READING["dimension"])
    if k:
        low, high = int(counts.min()), int(counts.max())
        count = f"{low} to {high} images" if low != high else f"{low} image{'s' * (low != 1)}"
        notes.append(f"{count} per class. {READING['samples']}")
        if low != high:
            notes.append("Classes differ in size: mu_G is the average of the class means, Sigma_W weighs every image.")
        if int(counts.sum()) - k < moments.dim:
            notes.append(f"Sigma_W has rank at most {int(counts.sum()) - k} in {moments.dim} dimensions.")
        if low == 1:
            single = [c for c, n in zip(classes, counts.tolist(), strict=True) if n == 1]
            notes.append(f"Classes with one image have no spread: {single}.")
    empty = [c for c in moments.classes if c not in set(classes)]
    if empty:
        notes.append(f"Classes without an image are left out: {empty}.")
    if k < 2:
        notes.append(f"{k} class{'es' * (k != 1)}: nothing is between classes yet, so NC1 to NC3 are undefined (NaN).")
    if k == 2:
        notes.append(
            "2 classes: centred means are always opposite, so equinorm, maximal angle and Gram distance are"
            " 0 by construction, and equiangularity is undefined (NaN)."
        )
    if moments.scatter not in ("pooled", "full"):
        notes.append(
            f"Moments with scatter {moments.scatter!r} hold no Sigma_W: nc1_pinv, nc1_svd and the"
            " within-class spectrum are NaN."
        )
    return [*notes, READING["target"], READING["frozen"], READING["companions"]]


def _head_rows(classes: tuple[int, ...], head_classes: Sequence[int]) -> list[int]:
    position = {c: i for i, c in enumerate(head_classes)}
    missing = [c for c in classes if c not in position]
    if missing:
        raise ValueError(f"head_classes {list(head_classes)} lack classes {missing} of the moments.")
    return [position[c] for c in classes]


def _head(
    weight: np.ndarray | None, bias: np.ndarray | None, rows: list[int], head_classes: Sequence[int], dim: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if weight is None:
        if bias is not None:
            raise ValueError("head_bias was given without head_weight.")
        return None, None
    if weight.shape != (len(head_classes), dim) or (bias is not None and bias.shape != weight.shape[:1]):
        raise ValueError(
            f"Expected a head [{len(head_classes)}, {dim}] with one bias per row, got"
            f" {list(weight.shape)} and {None if bias is None else list(bias.shape)}."
        )
    return np.asarray(weight)[rows], None if bias is None else np.asarray(bias)[rows]


def _agreement(
    means: np.ndarray,
    classes: tuple[int, ...],
    rows: list[int],
    *,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    features: np.ndarray | None,
    labels: np.ndarray | None,
    logits: np.ndarray | None,
) -> Agreement | None:
    if features is None or not classes or (logits is None and weight is None):
        return None
    row_of = {c: i for i, c in enumerate(classes)}
    targets = None
    if labels is not None:
        ids, inverse = np.unique(np.asarray(labels), return_inverse=True)
        unknown = [c for c in ids.tolist() if c not in row_of]
        if unknown:
            raise ValueError(f"labels name classes {unknown} of which the moments hold no image.")
        targets = np.array([row_of[c] for c in ids.tolist()], dtype=np.int64)[inverse]
    if logits is not None:
        return nc4_from_logits(np.asarray(logits)[:, rows], features, means, targets)
    assert weight is not None
    return nc4(features, weight, bias, means, targets)
