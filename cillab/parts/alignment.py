"""A small residual network on top of frozen features: brings them where a classifier's geometry wants them."""

import math
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cillab.parts.module import ModulePart


@final
class Alignment(ModulePart):
    """g(x) = x + W2 phi(W1 x + b1) + b2, the identity at the start: W2 = b2 = 0.

    W1 [width, d] is drawn from `rng` (Kaiming-uniform, a = sqrt 5), phi is a leaky ReLU (slope 0.1) or GELU.
    """

    def __init__(self, dim: int, width: int, activation: Literal["leaky_relu", "gelu"], rng: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(dim)
        self.activation = activation
        drawn = torch.empty(width, dim).uniform_(-bound, bound, generator=rng)
        self.w1 = nn.Parameter(drawn, requires_grad=False)
        self.b1 = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.w2 = nn.Parameter(torch.zeros(dim, width), requires_grad=False)
        self.b2 = nn.Parameter(torch.zeros(dim), requires_grad=False)

    def forward(self, x: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """g(x)."""
        hidden = F.linear(x, self.w1, self.b1)
        hidden = F.gelu(hidden) if self.activation == "gelu" else F.leaky_relu(hidden, 0.1)
        return x + F.linear(hidden, self.w2, self.b2)
