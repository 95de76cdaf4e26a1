"""Low-rank changes of the attention's input maps, for any ViT that keeps q, k and v in one matrix."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cillab.core.contract import Backbone, Delta, Part, State
from cillab.core.errors import IncompatibleError, RunError

Map = Literal["q", "k", "v"]
_ROWS: dict[str, int] = {"q": 0, "k": 1, "v": 2}  # thirds of the stacked matrix
_STACKED = ("attn.in_proj_weight", "attn.qkv.weight")  # open_clip's own blocks, timm's blocks


@final
class LoRA(nn.Module, Delta, Part):
    """W + (alpha / rank) U D in place of W, for the maps `maps` of every block; W itself stays as it is.

        W: [dim, dim],  D: [rank, dim] uniform in +-1/sqrt(dim),  U: [dim, rank] zero at the start           (1)

    so that a fresh one changes nothing, bit for bit. W is the third of `attn.in_proj_weight` (open_clip) or of
    `attn.qkv.weight` (timm) that belongs to the map. Source: Hu et al., ICLR 2022, arXiv:2106.09685, section 4.1.
    Holds blocks * maps * 2 * rank * dim numbers: 294,912 for rank 8 on q and v of a ViT-B. The sum is formed in float32
    when it is put on, also under autocast: for training, put it on anew in every step, as `fit`'s losses do.
    """

    def __init__(
        self,
        backbone: Backbone,
        rank: int = 8,
        alpha: float = 8.0,
        maps: Sequence[Map] = ("q", "v"),
        *,
        generator: torch.Generator,
    ) -> None:
        """Factors for every block, on the backbone's device; nothing requires grad.

        Raises:
            IncompatibleError: the backbone is no ViT, or its blocks keep q, k and v apart.
        """
        super().__init__()
        if backbone.kind != "vit":
            raise IncompatibleError(f"{backbone.tag} is a {backbone.kind}: LoRA changes the attention of a ViT.")
        self.names = tuple(_stacked(backbone, block) for block in backbone.block_names)
        self.maps, self.scale = tuple(maps), alpha / rank
        dim, count = backbone.token_dim, len(self.maps)
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for _ in self.names:
            drawn = torch.empty(count, rank, dim).uniform_(-1 / math.sqrt(dim), 1 / math.sqrt(dim), generator=generator)
            self.down.append(nn.Parameter(drawn.to(backbone.device), requires_grad=False))
            self.up.append(nn.Parameter(torch.zeros(count, dim, rank).to(backbone.device), requires_grad=False))

    def change(self, block: int) -> Float[Tensor, "rows dim"]:
        """What is added to the stacked matrix of `block`: (alpha / rank) U D in the rows of each map, 0 elsewhere."""
        return self.stacked(self.scale * self.up[block] @ self.down[block])

    def stacked(self, products: Float[Tensor, "map dim dim"]) -> Float[Tensor, "rows dim"]:
        """A change of each map as a change of the stacked matrix."""
        nothing = torch.zeros_like(products[0])
        thirds = {_ROWS[name]: products[index] for index, name in enumerate(self.maps)}
        return torch.cat([thirds.get(third, nothing) for third in range(3)])

    @contextmanager
    def worn_by(self, module: nn.Module) -> Iterator[None]:
        """Put the sums in the place of the matrices; put the same objects back at the end."""
        with changed(module, self.names, self.change):
            yield

    def tensors(self) -> Mapping[str, Tensor]:
        """The factors by the name of their matrix, and the scale."""
        named = {f"LoRA/{'+'.join(self.maps)}/scale": torch.tensor(self.scale)}
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            named |= {f"{name}/down": down, f"{name}/up": up}
        return named

    def state(self) -> State:
        """The factors by block."""
        return State(dict(self.named_parameters()))

    def load(self, state: State) -> None:
        """Take the factors of `state`.

        Raises:
            RunError: other blocks, maps or ranks.
        """
        own = dict(self.named_parameters())
        shapes = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in own.items()}:
            raise RunError("The checkpoint's low-rank factors have other blocks, maps or ranks than the learner's.")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state.tensors[name])
        self.requires_grad_(False)


@contextmanager
def changed(
    module: nn.Module, names: Sequence[str], change: Callable[[int], Float[Tensor, "rows dim"]]
) -> Iterator[None]:
    """Inside, the i-th of the named matrices is itself plus `change(i)`, in float32; the same objects come back."""
    exchanged: list[tuple[nn.Module, str, nn.Parameter | None]] = []
    try:
        for index, name in enumerate(names):
            path, _, leaf = name.rpartition(".")
            owner = module.get_submodule(path)
            original = owner._parameters[leaf]
            assert original is not None
            exchanged.append((owner, leaf, original))
            with torch.autocast(original.device.type, enabled=False):
                total = original + change(index)
            owner._parameters[leaf] = total  # type: ignore[assignment]  # a tensor with a graph behind it
        yield
    finally:
        for owner, leaf, original in reversed(exchanged):
            owner._parameters[leaf] = original


def _stacked(backbone: Backbone, block: str) -> str:
    """The dotted name of the matrix that makes q, k and v in `block`."""
    available = {name for name, _ in backbone.module.get_submodule(block).named_parameters()}
    for name in _STACKED:
        if name in available:
            return f"{block}.{name}"
    kind = type(backbone.module.get_submodule(block)).__name__
    raise IncompatibleError(f"{backbone.tag}: {block} ({kind}) has no matrix that makes q, k and v together for LoRA.")
