"""The noise slot of MiN: frozen projections, one pair of linear generators per task, mixed by weights."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cillab.backbones.slots import Slot, Slots, Tokens, _linear
from cillab.core.arrays import double
from cillab.core.errors import InvalidRequestError


class Generator(nn.Module):
    """What one task adds: eps = mu(z) + e * sigma(z) with z = r down; two linear maps, both zero when fresh."""

    mu: nn.Linear
    sigma: nn.Linear

    def __init__(self, noise_dim: int) -> None:
        super().__init__()
        self.mu = _linear(noise_dim, noise_dim)
        self.sigma = _linear(noise_dim, noise_dim)


@final
class NoiseSlot(Slot):
    """Mixture of noise on the residual stream r, for `after:` places.

        eps_i = mu_i(r down) + e * sigma_i(r down),   e = 1, or drawn from N(0, I) while `sampling`      (1)
        slot(r) = r + branch(r) + (sum_i weights_i eps_i) up                                             (2)

    Source: MiN, arXiv:2509.16738 v3, section 4 [equations as in its released code; numbers here are ours]. `branch`
    exists in the released code only: a linear map dim -> dim, zero at the start. With e = 1 everything behind `down`
    is linear, so it is folded into one map whose cost does not grow with the number of generators:

        (sum_i weights_i eps_i) = z (sum_i weights_i (M_i + S_i))^T + sum_i weights_i (m_i + s_i)        (3)

    with M_i, m_i weight and bias of mu_i and S_i, s_i those of sigma_i. Gradients go through (3) as through (1). Where
    noise_dim is not small beside dim, `down` and `up` are folded in as well (`whole`).
    `down` and `up` are drawn once and never trained: uniform in +-1/sqrt(columns) (released code) or N(0, 1) (paper).
    Holds 2 dim noise_dim frozen numbers, 2 (noise_dim^2 + noise_dim) per generator, dim^2 + dim for the branch.
    """

    down: Tensor
    up: Tensor

    def __init__(
        self,
        dim: int,
        noise_dim: int,
        *,
        branch: bool = False,
        init: Literal["uniform", "normal"] = "uniform",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.register_buffer("down", _projection(dim, noise_dim, init, generator))
        self.register_buffer("up", _projection(noise_dim, dim, init, generator))
        self.branch = _linear(dim, dim) if branch else None
        self.generators = nn.ModuleList()
        self.weights = nn.Parameter(torch.zeros(0), requires_grad=False)
        self._draws_from: torch.Generator | None = None
        self._meter: NoiseMeter | None = None

    def grow(self, weights: Float[Tensor, " generator"]) -> None:
        """Append a zero generator and take `weights`, one per generator. All that was there is frozen.

        With the older weights unchanged, the output is the same as before to the last bit.
        """
        if len(weights) != len(self.generators) + 1:
            raise ValueError(f"{len(weights)} weights for {len(self.generators) + 1} generators.")
        self._add_generators(1)
        self.weights = nn.Parameter(weights.detach().to(self.down, copy=True), requires_grad=False)

    def mix(self, weights: Float[Tensor, " generator"]) -> None:
        """Take other mixing weights, in place: what-ifs and fixed mixtures."""
        with torch.no_grad():
            self.weights.copy_(weights)

    def newest(self, part: Literal["both", "mean", "sigma"] = "both") -> Iterator[nn.Parameter]:
        """The parameters of the last generator, or of one of its two maps: what a task after the first one trains."""
        last = next(reversed(list(self._generators())))
        yield from {"both": last, "mean": last.mu, "sigma": last.sigma}[part].parameters()

    def forward(self, tokens: Tokens) -> Tokens:
        """Equation (2)."""
        out = tokens if self.branch is None else tokens + self.branch(tokens)
        if not len(self.generators):
            return out
        if self._meter is not None:
            self._meter.note(self, tokens)
        if self._draws_from is None and self.folds_whole:
            return out + F.linear(tokens, *self.whole())
        hidden = tokens @ self.down
        if self._draws_from is None:
            matrix, bias = self.folded()
            noise = F.linear(hidden, matrix, bias)
        else:
            noise = torch.stack([w * eps for w, eps in zip(self.weights, self._each(hidden), strict=True)]).sum(0)
        return out + noise @ self.up

    @property
    def folds_whole(self) -> bool:
        """Is one product of dim^2 a token cheaper than `down`, (3) and `up`?"""
        dim, width = self.down.shape
        return dim * dim < 2 * dim * width + width * width

    def whole(self) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, " dim"]]:
        """`down`, equation (3) and `up` as the weight and bias of one linear map, multiplied in float32."""
        with torch.autocast(self.down.device.type, enabled=False):
            matrix, bias = self.folded()
            return self.up.T @ matrix @ self.down.T, bias @ self.up

    def folded(self) -> tuple[Float[Tensor, "noise noise"], Float[Tensor, " noise"]]:
        """Equation (3): matrix and bias of the whole mixture with e = 1."""
        width = self.down.shape[1]
        matrix, bias = self.down.new_zeros(width, width), self.down.new_zeros(width)
        for weight, generator in zip(self.weights, self._generators(), strict=True):
            matrix = matrix + weight * (generator.mu.weight + generator.sigma.weight)
            bias = bias + weight * (generator.mu.bias + generator.sigma.bias)
        return matrix, bias

    def unfolded(self, tokens: Tokens) -> Float[Tensor, "generator image token noise"]:
        """Equation (1) for every generator, before mixing."""
        return torch.stack(list(self._each(tokens @ self.down)))

    def ratios(self, tokens: Tokens) -> Float[Tensor, "generator image token"]:
        """Noise-to-signal ratio ||weights_i eps_i up|| / ||r|| of every generator on every token; >= 0."""
        noise = self.weights[:, None, None, None] * self.unfolded(tokens) @ self.up
        return noise.norm(dim=-1) / tokens.norm(dim=-1).clamp(min=torch.finfo(tokens.dtype).tiny)

    def _each(self, hidden: Float[Tensor, "image token noise"]) -> Iterator[Float[Tensor, "image token noise"]]:
        for generator in self._generators():
            mu, sigma = generator.mu(hidden), generator.sigma(hidden)
            yield mu + (sigma if self._draws_from is None else sigma * self._draw(sigma))

    def _generators(self) -> Iterator[Generator]:
        yield from self.generators  # type: ignore[misc] - a ModuleList does not say of what

    def _draw(self, like: Tensor) -> Tensor:
        assert self._draws_from is not None
        drawn = torch.randn(like.shape, generator=self._draws_from, device=self._draws_from.device)
        return drawn.to(like.device, like.dtype)

    def _add_generators(self, count: int) -> None:
        self.requires_grad_(False)
        for _ in range(count):
            self.generators.append(Generator(self.down.shape[1]).to(self.down).requires_grad_(False))

    def shape_like(self, tensors: Mapping[str, Tensor]) -> None:
        """As many generators as the state has weights."""
        wanted = len(tensors.get("weights", self.weights))
        if wanted < len(self.generators):
            self.generators = self.generators[:wanted]
        self._add_generators(wanted - len(self.generators))
        if wanted != len(self.weights):
            self.weights = nn.Parameter(torch.zeros(wanted).to(self.down), requires_grad=False)

    def circumstances(self) -> Mapping[str, Tensor]:
        """While sampling, something that is never the same twice: drawn features must not be remembered."""
        if self._draws_from is None:
            return {}
        return {"draw": torch.frombuffer(bytearray(os.urandom(16)), dtype=torch.uint8)}


class NoiseMeter:
    """Collects noise-to-signal ratios while images pass through the slots."""

    def __init__(self, slots: "list[NoiseSlot]") -> None:
        self._slots = slots
        self._sums = {id(slot): torch.zeros(0, dtype=torch.float64) for slot in slots}
        self._tokens = dict.fromkeys(self._sums, 0)

    def note(self, slot: NoiseSlot, tokens: Tokens) -> None:
        """Add the tokens of one forward pass."""
        with torch.no_grad():
            ratios = double(slot.ratios(tokens.detach())).sum(dim=(1, 2)).cpu()
        before = self._sums[id(slot)]
        self._sums[id(slot)] = ratios if len(before) == 0 else before + ratios
        self._tokens[id(slot)] += tokens.shape[0] * tokens.shape[1]

    def ratios(self) -> Float[Tensor, "slot generator"]:
        """Mean over images and tokens, one row per slot.

        Raises:
            InvalidRequestError: nothing has passed through yet.
        """
        if not all(self._tokens.values()):
            raise InvalidRequestError("No image passed through the slots: use backbone.embed, which never remembers.")
        return torch.stack([self._sums[id(slot)] / self._tokens[id(slot)] for slot in self._slots])


@contextmanager
def metered(slots: Slots) -> Iterator[NoiseMeter]:
    """Measure noise-to-signal ratios of all forward passes inside the context."""
    noisy = [slot for slot in slots if isinstance(slot, NoiseSlot)]
    meter = NoiseMeter(noisy)
    try:
        for slot in noisy:
            slot._meter = meter
        yield meter
    finally:
        for slot in noisy:
            slot._meter = None


@contextmanager
def sampling(slots: Slots, generator: torch.Generator | None) -> Iterator[None]:
    """Inside the context e of equation (1) is drawn from `generator`, one number per token, channel and task.

    Without a generator e stays 1.
    """
    noisy = [slot for slot in slots if isinstance(slot, NoiseSlot)]
    try:
        for slot in noisy:
            slot._draws_from = generator
        yield
    finally:
        for slot in noisy:
            slot._draws_from = None


def _projection(
    rows: int, columns: int, init: Literal["uniform", "normal"], generator: torch.Generator
) -> Float[Tensor, "rows columns"]:
    if init == "normal":
        return torch.randn(rows, columns, generator=generator)
    bound = 1 / math.sqrt(columns)
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)
