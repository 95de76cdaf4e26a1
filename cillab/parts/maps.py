"""Small maps on features and prompts: one matrix, a sum of matrices that grows, an identity that learns a remainder."""

from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cillab.parts.module import ModulePart


@final
class LinearMap(ModulePart):
    """x -> A x, or A x + b.

    Without `draws` A is the identity and b zero; with them both are drawn from U(-1, 1) / sqrt(inputs), PyTorch's own
    rule for a linear layer. Holds outputs * inputs numbers, and `outputs` more with a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int | None = None,
        *,
        bias: bool = False,
        device: torch.device | None = None,
        draws: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        rows = outputs or inputs
        matrix, shift = torch.eye(rows, inputs), torch.zeros(rows)
        if draws is not None:
            for values in (matrix, shift) if bias else (matrix,):
                values.uniform_(-(inputs**-0.5), inputs**-0.5, generator=draws)
        self.matrix = nn.Parameter(matrix.to(device), requires_grad=False)
        self.bias = nn.Parameter(shift.to(device), requires_grad=False) if bias else None

    def forward(self, x: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
        """A x, or A x + b."""
        return F.linear(x, self.matrix, self.bias)


@final
class Projections(ModulePart):
    """x -> sum over tasks m of (A_m x + b_m); the matrices [A_m, b_m] of older tasks are kept as their sum.

    `identity` makes the sum before any task the identity, `grow` without draws adds nothing: the map stays what it was
    until the newest matrix learns. Source: PROOF, Zhou et al., TPAMI 2025, arXiv:2305.19270. Holds 2 D (D + 1) numbers.
    """

    former: Tensor

    def __init__(self, dim: int, device: torch.device | None = None, *, identity: bool) -> None:
        super().__init__()
        eye = torch.eye(dim, dim + 1, device=device)
        self.register_buffer("former", eye if identity else torch.zeros_like(eye))
        self.newest = nn.Parameter(torch.zeros_like(eye), requires_grad=False)

    def grow(self, draws: torch.Generator | None = None) -> None:
        """One matrix more, zero or drawn from U(-1, 1) / sqrt(D); the older ones are left alone."""
        fresh = torch.zeros(self.former.shape)
        if draws is not None:
            fresh.uniform_(-(len(fresh) ** -0.5), len(fresh) ** -0.5, generator=draws)
        self.former = self.former + self.newest.detach()
        self.put("newest", fresh.to(self.former))

    def forward(self, x: Float[Tensor, "row dim"]) -> Float[Tensor, "row dim"]:
        """The sum."""
        whole = self.former + self.newest
        return F.linear(x, whole[:, :-1], whole[:, -1])


@final
class ResidualMap(ModulePart):
    """P(x) = x + A(x), A of four layers with GELU in between; a fresh one is the identity. Only learning needs it.

    Source: RSIAT, CVPR 2026.
    """

    learning_only = frozenset(f"{kind}.{layer}" for kind in ("weights", "biases") for layer in range(4))

    def __init__(self, dim: int, hidden: int, code: int, draws: torch.Generator, device: torch.device) -> None:
        super().__init__()
        widths = (dim, hidden, code, hidden, dim)
        sides = list(pairwise(widths))
        self.weights, self.biases = (
            nn.ParameterList(torch.zeros(shape, device=device) for shape in shapes)
            for shapes in ([(b, a) for a, b in sides], [(b,) for _, b in sides])
        )
        with torch.no_grad():
            for weight in list(self.weights)[:-1]:  # PyTorch's own bound for a linear layer
                drawn = torch.empty(weight.shape).uniform_(-1, 1, generator=draws)
                weight.copy_(drawn * weight.shape[1] ** -0.5)
        self.requires_grad_(False)

    def forward(self, x: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """P(x)."""
        z = x
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = F.linear(z if layer == 0 else F.gelu(z), weight, bias)
        return x + z
