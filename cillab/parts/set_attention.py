"""Attention of one query over a set that all queries share, without a copy of the set for each of them."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cillab.parts.module import ModulePart, empty


@final
class SetAttention(ModulePart):
    """One attention layer with one head over [x, r_1, ..., r_n, c_1, ..., c_k], for each x alone.

        y(t) = LN(t + O sum_u a_tu V u),   a_t = softmax_u(<Q t, K u> / sqrt d),   t and u in {x, r_1, ..., c_k}    (1)

    Only what x and the rows r become is returned. What a row gathers from rows and context is the same for every x, and
    x itself enters with a weight g in (0, 1):

        sum_u a_ru V u = (1 - g) m_r + g V x,   g = sigmoid(<Q r, K x> / sqrt d - log Z_r)                         (2)

    with m_r and Z_r the mean and the sum of exponentials over rows and context. (2) is exact, and costs n d numbers per
    x in place of (n + k)^2 + (n + k) d. O starts at zero, so that a fresh layer returns LN(x) and LN(r). The context
    c_1 ... c_k grows, and only what came last is trained. Holds 4 d^2 + (2 + k) d numbers.
    """

    former: Tensor

    def __init__(self, dim: int, device: torch.device, draws: torch.Generator) -> None:
        super().__init__()

        def drawn() -> nn.Parameter:
            return nn.Parameter((torch.randn(dim, dim, generator=draws) * dim**-0.5).to(device), requires_grad=False)

        self.query, self.key, self.value = drawn(), drawn(), drawn()
        self.out = nn.Parameter(torch.zeros(dim, dim, device=device), requires_grad=False)
        self.gain = nn.Parameter(torch.ones(dim, device=device), requires_grad=False)
        self.shift = nn.Parameter(torch.zeros(dim, device=device), requires_grad=False)
        self.register_buffer("former", empty(0, dim, device=device))
        self.newest = nn.Parameter(empty(0, dim, device=device), requires_grad=False)

    def grow(self, count: int, draws: torch.Generator) -> None:
        """`count` context vectors more, drawn on the unit sphere."""
        self.former = torch.cat([self.former, self.newest.detach()])
        fresh = torch.randn(count, self.former.shape[1], generator=draws)
        self.put("newest", F.normalize(fresh, dim=1).to(self.former))

    @property
    def context(self) -> Float[Tensor, "context dim"]:
        """c_1 ... c_k."""
        return torch.cat([self.former, self.newest])

    def forward(
        self, x: Float[Tensor, "image dim"], rows: Float[Tensor, "row dim"]
    ) -> tuple[Float[Tensor, "image dim"], Float[Tensor, "image row dim"]]:
        """Equation (1) for every x, and for every row in the company of every x."""
        others, root = torch.cat([rows, self.context]), x.shape[1] ** 0.5
        keys, values = others @ self.key.T, others @ self.value.T
        own_key, own_value = x @ self.key.T, x @ self.value.T
        q = torch.cat([rows, x]) @ self.query.T
        scores = q @ keys.T / root  # of rows and x, over rows and context
        gathered, weight = scores.softmax(dim=1) @ values, scores.logsumexp(dim=1)
        n = len(rows)
        g = torch.sigmoid((own_key @ q[:n].T) / root - weight[:n])[..., None]  # [image, row, 1]
        own = torch.sigmoid((own_key * q[n:]).sum(dim=1) / root - weight[n:])[:, None]
        became = rows + ((1 - g) * gathered[:n] + g * own_value[:, None]) @ self.out.T
        return self._normed(x + ((1 - own) * gathered[n:] + own * own_value) @ self.out.T), self._normed(became)

    def _normed(self, t: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        return F.layer_norm(t, (t.shape[-1],), self.gain, self.shift)
