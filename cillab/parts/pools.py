"""Prompts that depend on the image: a pool from which it chooses (L2P, DualPrompt), components that it mixes (CODA)."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cillab.backbones.slot import KeyValueSlot, Tokens, TokenSlot
from cillab.backbones.slots import Slots
from cillab.core.arrays import counted, sent
from cillab.core.contract import Backbone, Conditional, Delta, State
from cillab.core.errors import InvalidRequestError
from cillab.parts.module import ModulePart

Kind = Literal["tokens", "prefix"]
Query = Float[Tensor, "image feature"]
Given = Float[Tensor, "layer half image token dim"]  # one half for tokens; keys, then values for a prefix


class _Pool(ModulePart, Conditional):
    """What the two kinds of pools share: blocks of rows, one for each time that the pool grew, and slots to fill.

    A prompt is made for each image from its own naked feature, so that it depends on neither batch mates, nor chunks,
    nor the memory of features. Older blocks of rows are left alone, whatever the optimiser does with the newest.
    """

    plain = ("grown",)

    def __init__(
        self,
        backbone: Backbone,
        length: int,
        kind: Kind,
        blocks: Sequence[int],
        *,
        reads: bool = False,
        beside: Delta | None = None,
    ) -> None:
        super().__init__()
        names = [backbone.block_names[i] for i in blocks if i < backbone.depth]
        if not names:
            raise InvalidRequestError(f"No block for prompts: {backbone.tag} has {backbone.depth} blocks.")
        self.halves, self.length, self.dim = (1 if kind == "tokens" else 2), length, backbone.token_dim
        self.grown: tuple[int, ...] = ()  # rows of each block
        self._device, self._query_dim, self._reads = backbone.device, backbone.feature_dim, reads
        self._count = self._tokens_of(length)
        place, slot = ("before", _Tokens) if kind == "tokens" else ("kv", _Prefix)
        anatomy = getattr(backbone, "anatomy", None)
        alone = getattr(anatomy, "prefix_tokens", 0) + 1 if reads else 0
        made = {f"{place}:{name}": slot(self._count, alone) for name in names}
        self._slots = (Slots(backbone, made),)  # in a tuple: it has nothing to save
        self._beside = (beside,)  # nor has this: it is a part of the learner, not of the pool

    def _tokens_of(self, length: int) -> int:
        """Tokens that an image gets at each place."""
        return length

    @property
    def layers(self) -> int:
        """Blocks of the backbone that get prompts."""
        return len(self._slots[0])

    @property
    def total(self) -> int:
        """Rows of the pool."""
        return sum(self.grown)

    @abstractmethod
    def _add_rows(self, count: int, draws: torch.Generator | None) -> None:
        """Append `count` rows to every list; drawn, or zero where a state is going to be loaded."""

    @abstractmethod
    def _prompts_for(self, query: Query) -> Given:
        """The prompts of each image."""

    def grow(self, count: int, draws: torch.Generator | None = None) -> None:
        """`count` more rows; the older ones are frozen."""
        self._add_rows(count, draws)
        self.grown = (*self.grown, count)
        self.requires_grad_(False)

    def newest(self) -> list[nn.Parameter]:
        """The rows that came last: what a task trains."""
        return [values[-1] for values in self.children() if isinstance(values, nn.ParameterList)]

    def see(self, query: Query) -> None:
        """Make the prompts of the images whose naked features these are."""
        for slot, given in zip(self._slots[0], self._prompts_for(query), strict=True):
            slot.given = given  # type: ignore[assignment]

    def circumstances(self) -> dict[str, Tensor]:
        """What else decides what an image gets, and is no part of the state."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Rows and circumstances: the key under which features may be remembered."""
        beside = {} if self._beside[0] is None else self._beside[0].tensors()
        return self.held() | self.circumstances() | {f"beside/{name}": tensor for name, tensor in beside.items()}

    def read(self, features: Float[Tensor, "row feature"]) -> Float[Tensor, "image feature"]:
        """The mean of what the prompts became, where that is what is read; otherwise the features as they are."""
        return features.unflatten(0, (-1, self._count)).mean(dim=1) if self._reads else features

    @contextmanager
    def worn_by(self, module: nn.Module) -> Iterator[None]:
        """Put the slots in their places, after what is worn beside the pool."""
        beside = self._beside[0]
        with nullcontext() if beside is None else beside.worn_by(module), self._slots[0].worn_by(module):
            yield

    def load(self, state: State) -> None:
        """As many blocks of rows as the state has."""
        for name, _ in list(self.named_children()):
            setattr(self, name, nn.ParameterList())
        self.grown = ()
        for count in state.meta["grown"]:
            self.grow(count)
        super().load(state)

    def _put_rows(self, values: nn.ParameterList, rows: Tensor) -> None:
        values.append(nn.Parameter(rows.to(self._device), requires_grad=False))


@final
class PromptPool(_Pool):
    """Prompts with keys; an image gets those whose keys are like its naked feature.

        q = f(x) without prompts,    K_x = the `top` keys with the largest cos(q, k_m)                        (1)

    Its prompts stand beside its tokens, or before the keys and values of the attention, in each of `blocks`. Keys and
    prompts are drawn from U(-1, 1). `likeness` are the cosines of (1) after a forward pass, with gradient to the keys.
    `reads` makes the feature the mean of what the prompts became (L2P). Source: L2P, Wang et al., CVPR 2022,
    arXiv:2112.08654; DualPrompt, Wang et al., ECCV 2022, arXiv:2204.04799. Holds M (d + layers * L * D) numbers, twice
    the L for a prefix.
    """

    plain = ("grown", "chosen")

    def __init__(
        self,
        backbone: Backbone,
        length: int,
        top: int = 1,
        *,
        kind: Kind = "tokens",
        blocks: Sequence[int] = (0,),
        reads: bool = False,
        vote: bool = False,
        spread: bool = False,
        shows: bool = False,
        beside: Delta | None = None,
    ) -> None:
        """Slots at `blocks`, and no prompt yet.

        Args:
            backbone: What wears it.
            length: Tokens of a prompt; keys as well as values, for a prefix.
            top: Prompts that an image gets.
            kind: Tokens beside those of the image, or a prefix in the attention.
            blocks: Numbers of the blocks; those that the backbone lacks are left out.
            reads: Return the mean of what the prompts became instead of the backbone's own feature. Tokens only.
            vote: Let all images that pass together have the prompts that most of them would choose: a leak, since test
                images come class by class in many loaders. Nothing of it is remembered.
            spread: Let prompts that were chosen often seem farther away: an image gets those with the smallest
                (1 - cos(q, k_m)) (n_m + 1), n_m being `chosen` (MVP, Moon et al., ICCV 2023, arXiv:2308.09303).
            shows: Return q behind the feature, for classifiers that ask again which prompts an image got.
            beside: Worn with the pool, and not while the naked feature is taken.
        """
        self.top = top
        super().__init__(backbone, length, kind, blocks, reads=reads, beside=beside)
        self.vote, self.spread, self.shows = vote, spread, shows
        self._counts = torch.zeros(0, dtype=torch.int64, device=self._device)
        self.keys, self.prompts = nn.ParameterList(), nn.ParameterList()
        self.likeness: Tensor = torch.zeros(0, top)
        self.rows: Tensor = torch.zeros(0, top, dtype=torch.int64)  # what the images of the last pass got
        self._query = torch.zeros(0, self._query_dim)
        self._forced: int | None = None

    @property
    def chosen(self) -> tuple[int, ...]:
        """How many training images have chosen each prompt."""
        return tuple(self._counts.tolist())

    @chosen.setter
    def chosen(self, counts: Sequence[int]) -> None:
        self._counts = sent(list(counts), self._device, torch.int64)

    def _tokens_of(self, length: int) -> int:
        return self.top * length

    def _add_rows(self, count: int, draws: torch.Generator | None) -> None:
        if self.total + count < self.top:
            raise InvalidRequestError(f"{self.top} prompts for every image, but only {self.total + count} in the pool.")
        for values, shape in ((self.keys, ()), (self.prompts, (self.layers, self.halves, self.length))):
            rows = torch.zeros(count, *shape, self._query_dim if values is self.keys else self.dim)
            self._put_rows(values, rows if draws is None else rows.uniform_(-1, 1, generator=draws))
        self._counts = F.pad(self._counts, (0, count))

    @contextmanager
    def forced(self, row: int) -> Iterator[None]:
        """Inside, every image gets the prompt of `row`: how DualPrompt trains the prompt of a task."""
        self._forced = row
        try:
            yield
        finally:
            self._forced = None

    def cosines(self, query: Query) -> Float[Tensor, "image row"]:
        """cos(q, k_m) of equation (1)."""
        return F.normalize(query, dim=1) @ F.normalize(torch.cat([*self.keys]), dim=1).T

    def choice(self, query: Query) -> Int64[Tensor, "image top"]:
        """Equation (1), most similar first; in a vote, the same for all."""
        with torch.no_grad():
            near = self.cosines(query)
            if self.spread:
                near = (near - 1) * self.mass(near)
            chosen = near.topk(min(self.top, self.total), dim=1).indices
            if self.vote:
                votes = counted(chosen.flatten(), self.total)
                chosen = votes.argsort(descending=True, stable=True)[: chosen.shape[1]].expand(len(query), -1)
        return chosen

    def mass(self, like: Tensor) -> Float[Tensor, " row"]:
        """n_m + 1: how often each prompt was chosen, and once more."""
        return self._counts.to(like) + 1

    def count(self, query: Query) -> None:
        """Add to `chosen` what these images choose: naked features of training images."""
        self.tally(self.choice(query))

    def tally(self, rows: Int64[Tensor, "image top"]) -> None:
        """Add these choices to `chosen`."""
        self._counts = self._counts + counted(rows.flatten(), self.total)

    def _prompts_for(self, query: Query) -> Given:
        cosines = self.cosines(query)
        rows = self.choice(query) if self._forced is None else torch.full_like(query[:, :1], self._forced).long()
        self._query, self.rows, self.likeness = query, rows, cosines.gather(1, rows)
        given = torch.cat([*self.prompts])[rows]  # [image, top, layer, half, length, dim]
        return given.permute(2, 3, 0, 1, 4, 5).flatten(3, 4)

    def read(self, features: Float[Tensor, "row feature"]) -> Float[Tensor, "image read"]:
        """What the pool reads, and the naked feature behind it where that is shown."""
        found = super().read(features)
        return torch.cat([found, self._query], dim=1) if self.shows else found

    def circumstances(self) -> dict[str, Tensor]:
        """How many prompts an image gets, which one is forced, what counts; in a vote what is never the same twice."""
        counts = self.chosen if self.spread else ()
        more = torch.tensor([self.top, -1 if self._forced is None else self._forced, *counts])
        return {"choice": more, "vote": _once()} if self.vote else {"choice": more}


@final
class ComponentPool(_Pool):
    """Prompts mixed from components, with weights that depend on the image; for every layer its own.

        alpha_m = cos(q * A_m, K_m),    P = sum_m alpha_m P_m,    q = f(x) without prompts                    (1)

    P is a prefix: its first half stands before the keys, its second before the values. New rows of A, K and P are drawn
    from N(0, 1) and made orthonormal to all older ones and to each other, as far as there is room; older rows are
    used and never trained again. Source: CODA-Prompt, Smith et al., CVPR 2023, arXiv:2211.13218. Holds
    M * layers * (2 d + 2 L D) numbers for prefixes of L keys and L values.
    """

    def __init__(self, backbone: Backbone, length: int, blocks: Sequence[int] = (0,)) -> None:
        """Slots at `blocks`, and no component yet; `length` keys and as many values for each of them."""
        super().__init__(backbone, length, "prefix", blocks)
        self.keys, self.attention, self.prompts = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()

    def _add_rows(self, count: int, draws: torch.Generator | None) -> None:
        for values, shape in (
            (self.keys, (self._query_dim,)),
            (self.attention, (self._query_dim,)),
            (self.prompts, (self.halves, self.length, self.dim)),
        ):
            rows = torch.zeros(self.layers, count, *shape)
            if draws is not None:
                old = torch.cat([*values, rows[:, :0].to(self._device)], dim=1).flatten(2).cpu()
                fresh = torch.randn(rows.flatten(2).shape, generator=draws)
                rows = orthonormal(fresh, old).reshape(rows.shape)
            self._put_rows(values, rows)

    def weights(self, query: Query) -> Float[Tensor, "layer image row"]:
        """Alpha of equation (1)."""
        keys, attention = torch.cat([*self.keys], dim=1), torch.cat([*self.attention], dim=1)
        product = torch.einsum("nd,lmd->lnm", query, attention * F.normalize(keys, dim=2))
        length = torch.einsum("nd,lmd->lnm", query.square(), attention.square()).sqrt()
        return product / length.clamp(min=torch.finfo(query.dtype).tiny)

    def overlap(self) -> Float[Tensor, ""]:
        """How far rows are from orthonormal: mean (B B^T - 1)^2, summed over layers, K, A and P; older rows held."""
        terms = []
        for values in (self.keys, self.attention, self.prompts):
            rows = torch.cat([*(v.detach() for v in [*values][:-1]), values[-1]], dim=1).flatten(2)
            gram = rows @ rows.mT - torch.eye(rows.shape[1], device=rows.device)
            terms.append(gram.square().mean(dim=(1, 2)).sum())
        return torch.stack(terms).sum()

    def _prompts_for(self, query: Query) -> Given:
        return torch.einsum("lnm,lmhtd->lhntd", self.weights(query), torch.cat([*self.prompts], dim=1))


def orthonormal(
    fresh: Float[Tensor, "layer row size"], old: Float[Tensor, "layer older size"]
) -> Float[Tensor, "layer row size"]:
    """`fresh` rows by Gram and Schmidt: at right angles to those in `old` and to each other, of length 1.

    Old rows need not be orthogonal any more. Rows for which there is no room are only made unit.
    """
    size, room = fresh.shape[2], fresh.shape[2] - old.shape[1]
    if old.shape[1]:
        basis = torch.linalg.qr(old.mT[..., : min(old.shape[1], size)]).Q
        free = fresh - fresh @ basis @ basis.mT if room > 0 else fresh
    else:
        free = fresh
    head = max(0, min(room, fresh.shape[1]))
    made = torch.linalg.qr(free[:, :head].mT).Q.mT if head else free[:, :0]
    return torch.cat([made, F.normalize(fresh[:, head:], dim=2)], dim=1)


class _Tokens(TokenSlot):
    """Tokens that a pool gives for each image."""

    given: Float[Tensor, "1 image token dim"]

    def __init__(self, count: int, alone: int) -> None:
        super().__init__()
        self.count, self.alone = count, alone

    def __len__(self) -> int:
        return self.count

    def forward(self, tokens: Tokens) -> Float[Tensor, "image longer dim"]:
        return torch.cat([tokens, self.given[0].to(tokens.dtype)], dim=1)


class _Prefix(KeyValueSlot):
    """Keys and values that a pool gives for each image."""

    given: Float[Tensor, "2 image length dim"]

    def __init__(self, _count: int, _alone: int) -> None:
        super().__init__()

    def forward(self, tokens: Tokens) -> Float[Tensor, "2 image length dim"]:
        del tokens
        return self.given


def _once() -> Tensor:
    return torch.frombuffer(bytearray(os.urandom(16)), dtype=torch.uint8)
