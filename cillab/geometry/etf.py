"""Simplex equiangular tight frames (ETF): random, nearest to given class means, and growing with the classes.

Vertices are rows. An ETF of K classes has unit rows with all pairwise cosines -1/(K-1), so they sum to zero
and span K-1 dimensions. Everything here is float64.
"""

import math

import numpy as np
from jaxtyping import Float, Float64

from cillab.geometry.rows import centre


def ideal_cosine(classes: int) -> float:
    """The cosine between any two vertices of a simplex ETF of K classes.

        cos = -1 / (K - 1)

    Source: Papyan, Han & Donoho, PNAS 117(40) 2020, doi:10.1073/pnas.2015509117. Range [-1, 0); the most
    negative value that all pairs can share. It moves with K: a jump between tasks is not forgetting. Small samples: it
    is exact.

    Raises:
        ValueError: fewer than 2 classes.
    """
    _at_least_two(classes)
    return -1.0 / (classes - 1)


def growth_angle(k_old: int, k_new: int) -> float:
    """Angle in radians by which each old vertex turns when an ETF grows from `k_old` to `k_new` classes.

        cos(angle) = sqrt( K2 (K1 - 1) / (K1 (K2 - 1)) )

    It holds when the columns of the basis U are kept and new orthonormal ones are appended (`extend_basis`). Source:
    derived from M = sqrt(K/(K-1)) U (I - 11^T/K); the tests measure it on vertices. Range [0, pi/4]; 5 -> 10: 19.47
    degrees, 90 -> 100: 1.92 degrees. Smaller is gentler to classes already learnt. Small samples: it is exact.

    Raises:
        ValueError: fewer than 2 old classes, or fewer new classes than old ones.
    """
    _at_least_two(k_old)
    if k_new < k_old:
        raise ValueError(f"An ETF only grows: k_new must be at least k_old = {k_old}, got {k_new}.")
    squared = k_new * (k_old - 1) / (k_old * (k_new - 1))
    return math.acos(min(1.0, math.sqrt(squared)))


def orthonormal_basis(dim: int, columns: int, generator: np.random.Generator) -> Float[np.ndarray, "feature column"]:
    """Random orthonormal columns, uniform over all such frames (Haar measure).

    QR of a Gaussian matrix with the signs of diag(R) moved into Q; without that step the law is not uniform
    (Mezzadri, Notices of the AMS 54(5) 2007, arXiv:math-ph/0609050).

    Raises:
        ValueError: more columns than dimensions.
    """
    return extend_basis(np.zeros((dim, 0)), columns, generator)


def extend_basis(
    basis: Float[np.ndarray, "feature column"], extra: int, generator: np.random.Generator
) -> Float[np.ndarray, "feature grown"]:
    """Append `extra` random orthonormal columns; the columns already there are kept bit for bit.

    Raises:
        ValueError: a negative number of columns, or more columns in all than dimensions.
    """
    dim, columns = basis.shape
    if extra < 0 or columns + extra > dim:
        raise ValueError(
            f"A basis in {dim} dimensions with {columns} columns has room for 0 to {dim - columns} more, got {extra}."
        )
    kept = np.asarray(basis, dtype=np.float64)
    fresh = generator.standard_normal((dim, extra))
    for _ in range(2):  # once is not enough: one Gram-Schmidt step leaves a residue when little is left over
        fresh = fresh - kept @ (kept.T @ fresh)
    q, r = np.linalg.qr(fresh)
    return np.concatenate([kept, q * np.sign(r.diagonal())], axis=1)


def etf_from_basis(basis: Float[np.ndarray, "feature cls"]) -> Float[np.ndarray, "cls feature"]:
    """The simplex ETF with one vertex per orthonormal column of `basis`.

        M = sqrt(K / (K - 1)) U (I - 11^T / K),    rows of the result = columns of M

    Source: Papyan, Han & Donoho 2020 (definition of the simplex ETF). To grow it, extend the basis.

    Raises:
        ValueError: fewer than 2 columns, or columns that are not orthonormal.
    """
    classes = basis.shape[1]
    _at_least_two(classes)
    u = np.asarray(basis, dtype=np.float64)
    error = float(np.abs(u.T @ u - np.eye(classes)).max())
    if not error < 1e-6:  # a float32 basis has 1e-7; a basis that was trained or scaled has far more
        raise ValueError(f"The columns of the basis must be orthonormal: U^T U differs from I by {error:.2g}.")
    return math.sqrt(classes / (classes - 1)) * centre(u.T)


def basis_of(
    vertices: Float[np.ndarray, "cls feature"], generator: np.random.Generator
) -> Float[np.ndarray, "feature cls"]:
    """Orthonormal columns that make these vertices: the inverse of `etf_from_basis`.

        U = sqrt((K - 1) / K) M^T + u 1^T / sqrt(K),    u a random unit vector orthogonal to every vertex

    The simplex leaves one direction of U free, hence the random u. Use it to grow an ETF that was placed by
    `nearest_etf`, as ProNC does (arXiv:2505.24254) with a pseudo-inverse.

    Raises:
        ValueError: fewer than 2 vertices, as many classes as dimensions plus one, or no simplex ETF of unit vertices.
    """
    classes, dim = vertices.shape
    if classes > dim:
        raise ValueError(f"{classes} vertices in {dim} dimensions leave no direction free: at most {dim}.")
    if not gram_error(vertices) < 1e-5:  # float32 vertices have 1e-6
        raise ValueError(f"The vertices are no simplex ETF: their Gram matrix is off by {gram_error(vertices):.2g}.")
    m = np.asarray(vertices, dtype=np.float64)
    span, _, _ = np.linalg.svd(m.T, full_matrices=False)
    free = extend_basis(span[:, : classes - 1], 1, generator)[:, -1]
    return math.sqrt((classes - 1) / classes) * m.T + free[:, None] / math.sqrt(classes)


def simplex_etf(classes: int, dim: int, generator: np.random.Generator) -> Float[np.ndarray, "cls feature"]:
    """A simplex ETF in random orientation, one unit vertex per row; K - 1 dimensions suffice.

        M = sqrt(K / (K - 1)) Q B^T,    Q [dim, K-1] random orthonormal, B [K, K-1] orthonormal and orthogonal to 1

    Source: Papyan, Han & Donoho 2020; the random orientation as in NC-FSCIL, Yang et al., ICLR 2023,
    arXiv:2302.03004 (there with K columns, so dim >= K). For an ETF that grows use `orthonormal_basis`,
    `extend_basis`, `etf_from_basis`.

    Raises:
        ValueError: fewer than 2 classes, or dim < classes - 1 (no simplex ETF exists there).
    """
    _fits(classes, dim)
    q = orthonormal_basis(dim, classes - 1, generator)
    return math.sqrt(classes / (classes - 1)) * (_centred_basis(classes) @ q.T)


def nearest_etf(
    means: Float[np.ndarray, "cls feature"], weights: Float[np.ndarray, " cls"] | None = None
) -> Float[np.ndarray, "cls feature"]:
    """The simplex ETF that agrees best with given class means: orthogonal Procrustes.

        maximise sum_k w_k <M_k, h_k>,    h_k = (mu_k - mu_G) / ||mu_k - mu_G||
        M = sqrt(K / (K - 1)) A C^T B^T,    A S C^T = thin SVD of H^T diag(w) B

    B [K, K-1] spans the complement of the vector 1. A rotated and scaled ETF is recovered exactly.
    `weights` (one per class, any scale) let large classes, or classes already learnt, hold their place.
    Source: orthogonal Procrustes, Schoenemann, Psychometrika 31 1966, doi:10.1007/BF02289451.

    Raises:
        ValueError: fewer than 2 classes, dim < classes - 1, a mean equal to the global mean, bad weights.
    """
    classes, dim = means.shape
    _fits(classes, dim)
    centred = centre(means)
    norms = np.linalg.norm(centred, axis=-1)
    if not (norms > 1e-12 * norms.max()).all():  # also catches NaN
        raise ValueError(f"class mean {int(norms.argmin())} equals the global mean or is not finite.")
    h = centred / norms[:, None]
    if weights is not None:
        if weights.shape != (classes,) or not (np.asarray(weights) > 0).all():
            raise ValueError(f"weights must be {classes} positive numbers, got {weights.tolist()}.")
        h = h * np.asarray(weights, dtype=np.float64)[:, None]
    b = _centred_basis(classes)
    a, _, c = np.linalg.svd(h.T @ b, full_matrices=False)
    return math.sqrt(classes / (classes - 1)) * (b @ (a @ c).T)


def gram_error(vertices: Float[np.ndarray, "cls feature"]) -> float:
    """Largest deviation of the Gram matrix from that of a simplex ETF of unit vertices.

        max_ij | (V V^T)_ij - (K/(K-1) [i = j] - 1/(K-1)) |

    0 for a simplex ETF (about 1e-15 after rounding), lower is better; not scale-free: the norms count.

    Raises:
        ValueError: fewer than 2 vertices.
    """
    classes = len(vertices)
    _at_least_two(classes)
    v = np.asarray(vertices, dtype=np.float64)
    ideal = (classes * np.eye(classes) - 1) / (classes - 1)
    return float(np.abs(v @ v.T - ideal).max())


def _centred_basis(classes: int) -> Float64[np.ndarray, "cls rank"]:
    """K - 1 orthonormal columns orthogonal to the vector 1 (Helmert's matrix)."""
    j = np.arange(1, classes)
    rows = np.arange(classes)[:, None]
    return ((rows < j) - j * (rows == j)) / np.sqrt(j * (j + 1.0))


def _at_least_two(classes: int) -> None:
    if classes < 2:
        raise ValueError(f"A simplex ETF needs at least 2 classes, got {classes}.")


def _fits(classes: int, dim: int) -> None:
    _at_least_two(classes)
    if dim < classes - 1:
        raise ValueError(f"A simplex ETF of {classes} classes needs at least {classes - 1} dimensions, got {dim}.")
