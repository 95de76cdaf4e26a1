"""A simplex ETF as a classifier: its vertices drawn at random, nearest to class means, or grown with the classes."""

from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cillab.core.arrays import through_numpy
from cillab.core.contract import Head, State
from cillab.core.errors import InvalidRequestError
from cillab.geometry.etf import basis_of, etf_from_basis, extend_basis, nearest_etf, simplex_etf
from cillab.parts.heads import Table, with_new
from cillab.parts.module import Classifier, empty


def drawn_simplex(
    vertices: int, dim: int, draws: np.random.Generator, device: torch.device | None = None
) -> Float[Tensor, "vertex feature"]:
    """Unit vertices in random orientation (`geometry.etf.simplex_etf`)."""
    like = empty(0, device=device)
    return through_numpy(simplex_etf, like, vertices, dim, draws).to(like)


@final
class Simplex(Classifier):
    """Unit vertices m_k of a simplex ETF M as a classifier, with what belongs to it: a centre, a basis, what turned.

        nearest   M = argmax over ETFs of sum_k w_k <m_k, mean of class k - mean of all>                       (1)
        prefix    the first M by (1), U its basis; then U <- [U, n random orthonormal columns],  M = etf(U)    (2)
        fixed     `capacity` vertices in random orientation, handed out in order of arrival                    (3)

    logits = <m_k, z>: cosines, when z has length 1. Everything lives in `kept`, by name; "vertices" has one row per
    class, in the order of `classes`. Sources: (2) ProNC, arXiv:2505.24254; (3) NC-FSCIL, arXiv:2302.03004.
    """

    def __init__(
        self,
        dim: int,
        device: torch.device | None = None,
        kind: Literal["nearest", "prefix", "fixed"] = "nearest",
        capacity: int = 0,
    ) -> None:
        """No class yet.

        Raises:
            InvalidRequestError: no fixed simplex has so many vertices.
        """
        super().__init__()
        if kind == "fixed" and not 2 <= capacity <= dim + 1:
            raise InvalidRequestError(f"capacity = {capacity}, but {dim} features hold 2 to {dim + 1} vertices.")
        self.kind, self.most = kind, {"nearest": dim + 1, "prefix": dim, "fixed": capacity}[kind]
        self.table = Table(device)
        self._none = empty(0, dim, device=device)

    @property
    def kept(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        return self.table.tensors

    @property
    def vertices(self) -> Float[Tensor, "cls feature"]:
        """One unit row per class."""
        return self.kept.get("vertices", self._none)

    @property
    def whole(self) -> Float[Tensor, "vertex feature"]:
        """All vertices, those of a fixed simplex that are still free included."""
        return self.kept["simplex"] if self.kind == "fixed" else self.vertices

    def grow(self, arriving: tuple[int, ...]) -> None:
        """Only write the classes down: `place` gives them vertices.

        Raises:
            InvalidRequestError: more classes than vertices, or a single one where the vertices follow the classes.
        """
        classes = with_new(self.classes, arriving)
        if len(classes) > self.most:
            more = ": give a larger capacity" if self.kind == "fixed" else f" on {self._none.shape[1]} features"
            raise InvalidRequestError(f"The simplex has room for {self.most} classes, not {len(classes)}{more}.")
        if len(classes) < 2 and self.kind != "fixed":  # a fixed one has all its vertices
            raise InvalidRequestError("The first task needs two classes: one vertex is no simplex.")
        self.classes = classes

    def place(
        self,
        means: Float[Tensor, "cls feature"] | None = None,
        draws: np.random.Generator | None = None,
        old: int = 0,
        hold: float = 1.0,
    ) -> None:
        """Vertices for all classes, by (1), (2) or (3); the `old` classes that were there before weigh `hold` each.

        (1) asks for means, (3) for draws, and (2) for both when it begins and for draws later.
        """
        kept, count = self.kept, len(self.classes)
        if self.kind == "fixed":
            if "simplex" not in kept:
                assert draws is not None, "a fixed simplex is drawn"
                kept["simplex"] = drawn_simplex(self.most, self._none.shape[1], draws, self._none.device)
            kept["vertices"] = kept["simplex"][:count]
        elif self.kind == "prefix" and old:
            if old < count:
                kept["basis"] = through_numpy(extend_basis, self._none, kept["basis"], count - old, draws)
            self.rebuild()
        else:
            assert means is not None, "the nearest simplex is nearest to means"
            weights = torch.ones(count)
            weights[:old] = hold
            nearest = through_numpy(nearest_etf, means, means, weights)
            kept["vertices"] = nearest.to(self._none)
            if self.kind == "prefix":
                kept["basis"] = through_numpy(basis_of, nearest, nearest, draws)

    def rebuild(self) -> None:
        """M = etf(U)."""
        self.kept["vertices"] = through_numpy(etf_from_basis, self._none, self.kept["basis"]).to(self._none)

    def forward(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """Products with the vertices."""
        return features @ self.vertices.T

    def rows(self) -> Head:
        """The vertices."""
        return Head(self.vertices, None)

    def state(self) -> State:
        """Everything as it is."""
        return State(dict(self.kept), {"classes": list(self.classes)})

    def load(self, state: State) -> None:
        """Take over everything."""
        self.classes = tuple(state.meta["classes"])
        self.table.load(state)
