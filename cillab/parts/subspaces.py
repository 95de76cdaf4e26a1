"""Directions that later tasks keep out of: bases that grow (GPM), and the sketch of a stream of rows."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from cillab.core.arrays import double
from cillab.parts.module import ModulePart, empty


@final
class Directions(ModulePart):
    """M, orthonormal columns for each of some layers: directions in which old tasks have content.

        P = I - M M^T                                                                                          (1)
        after a task: the leading left singular vectors of P C join M, as many as it takes until M holds a share eps of
        ||C||_F^2                                                                                              (2)

    where C is what a task leaves behind, one matrix per layer: its activations (GPM, Saha et al., ICLR 2021,
    arXiv:2103.09762) or their second moments (InfLoRA). DualGPM (Liang and Li, CVPR 2023,
    doi:10.1109/CVPR52729.2023.00755) stores the complement of M once that is smaller, which is the same projection.
    Only learning needs it. Keeps at most d^2 numbers a layer.
    """

    def __init__(self, dim: int, layers: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.layers = layers
        for layer in range(layers):
            self.register_buffer(f"basis{layer}", empty(dim, 0, device=device))
        self.learning_only = frozenset(f"basis{layer}" for layer in range(layers))  # type: ignore[misc]

    def basis(self, layer: int) -> Float[Tensor, "dim direction"]:
        """M of a layer."""
        return self.get_buffer(f"basis{layer}")

    def sizes(self) -> list[int]:
        """Directions kept, by layer."""
        return [self.basis(layer).shape[1] for layer in range(self.layers)]

    def without(self, layer: int, rows: Float[Tensor, "dim column"]) -> Float[Tensor, "dim column"]:
        """P `rows` of equation (1)."""
        basis = self.basis(layer).to(rows)
        return rows - basis @ (basis.T @ rows)

    def extend(self, layer: int, content: Float[Tensor, "dim column"], share: float) -> int:
        """Equation (2); how many directions joined."""
        c = double(content)
        rest = self.without(layer, c)
        vectors, values, _ = torch.linalg.svd(rest, full_matrices=False)
        total = c.square().sum()
        if not float(total):
            return 0
        held = 1 - rest.square().sum() / total
        reached = held + values.square().cumsum(dim=0) / total
        room = len(c) - self.basis(layer).shape[1]
        count = 0 if float(held) >= share else min(room, int((reached < share).sum()) + 1)
        if count:  # by Gram and Schmidt once more: M stays orthonormal however often it grows
            joined = torch.cat([double(self.basis(layer)), vectors[:, :count]], dim=1)
            self.put(f"basis{layer}", torch.linalg.qr(joined).Q.to(self.basis(layer)))
        return count


class FrequentDirections:
    """B with `rank` rows such that B^T B is near the sum of g^T g over all rows g that were added.

        stack B and the new rows; SVD; B <- sqrt(max(S^2 - S_rank^2, 0)) V^T, the leading `rank` rows          (1)

    The error is between 0 and ||G||_F^2 / (rank + 1) in every direction, whatever comes. Source: Liberty, KDD 2013,
    arXiv:1206.0594; Ghashami et al., SIAM J. Comput. 45(5), 2016, arXiv:1501.01711. Float64, rank * d numbers.
    """

    def __init__(self, dim: int, rank: int, device: torch.device | None = None) -> None:
        self.rank = rank
        self.sketch = empty(0, dim, dtype=torch.float64, device=device)

    def add(self, rows: Float[Tensor, "row dim"]) -> None:
        """Equation (1)."""
        _, values, vectors = torch.linalg.svd(
            torch.cat([self.sketch, double(rows).to(self.sketch.device)]), full_matrices=False
        )
        squares = values.square()
        least = squares[self.rank] if len(squares) > self.rank else squares.new_zeros(())
        kept = (squares - least).clamp(min=0)[: self.rank].sqrt()
        self.sketch = kept[:, None] * vectors[: self.rank]


def leading_left(matrices: Sequence[Float[Tensor, "dim column"]], count: int) -> list[Float[Tensor, "dim count"]]:
    """The `count` leading left singular vectors of each matrix, in float64."""
    return [torch.linalg.svd(double(m), full_matrices=False)[0][:, :count] for m in matrices]


@final
class Adam:
    """Adam's step for one tensor (Kingma and Ba, ICLR 2015), without the learning rate."""

    def __init__(self) -> None:
        self.first = self.second = torch.zeros(())
        self.count = 0

    def step(self, gradient: Tensor) -> Tensor:
        """M / (sqrt v + eps), both corrected for their start at zero."""
        self.count += 1
        self.first = 0.9 * self.first.to(gradient) + 0.1 * gradient
        self.second = 0.999 * self.second.to(gradient) + 0.001 * gradient.square()
        scale = (self.second / (1 - 0.999**self.count)).sqrt() + 1e-8
        return self.first / (1 - 0.9**self.count) / scale


@final
class SubspaceSteps:
    """Adam inside the directions in which the gradients of one matrix are large, and a sketch of those gradients.

        P  = the `rank` leading left singular vectors of G, again every k steps;   the step is P Adam(P^T G)    (1)
        S  = frequent directions of the columns of G                                      [FrequentDirections]   (2)

    P and the rows for S come from an orthogonal iteration with `rows` columns. Source: CoSO, Cheng et al., NeurIPS
    2025, arXiv:2505.11816.
    """

    def __init__(self, like: Tensor, rank: int, rows: int, every: int, draws: torch.Generator) -> None:
        size, columns = like.shape
        self.rank, self.every, self.count = min(rank, columns), every, 0
        self.sketch, self.adam = FrequentDirections(size, rows, like.device), Adam()
        self.around = torch.randn(columns, min(rows, columns), generator=draws).to(like)
        self.directions = like.new_zeros(size, self.rank)

    def step(self, gradient: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
        """The step of (1), for G."""
        basis = torch.linalg.qr(gradient @ (gradient.T @ (gradient @ self.around))).Q
        inner = basis.T @ gradient
        values, vectors = torch.linalg.eigh(inner @ inner.T)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)  # largest first
        there = values > 1e-10 * values[0]  # the others are rounding, which Adam would make as large as the rest
        leading = basis @ vectors * there  # left singular vectors of G
        if self.count % self.every == 0:
            self.directions = leading[:, : self.rank]
        self.count += 1
        self.sketch.add((leading * values.sqrt()).T)
        return self.directions @ self.adam.step(self.directions.T @ gradient)
