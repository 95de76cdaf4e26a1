"""A scale and a shift for every channel of every layer, folded into the layers' own weights while it is worn."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from cillab.core.contract import Backbone, Delta, Part, State
from cillab.core.errors import InvalidRequestError, RunError

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_MAPS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


class _Site(NamedTuple):
    """A layer whose last step is `weight * x (+ bias)`."""

    module: str
    weight: str
    bias: str


@final
class Affine(nn.Module, Delta, Part):
    """y <- gamma * y + beta for the output y of every layer, channel by channel.

        weight <- gamma * weight,    bias <- gamma * bias + beta                                             (1)

    is the same function for a linear layer, a convolution and a normalisation (in evaluation mode), so that it costs
    nothing per token, also when it is trained. "everywhere" is SSF (Lian et al., NeurIPS 2022, arXiv:2210.08823):
    linear and normalisation layers and the patch embedding. "norms" is FiLM as in first-session adaptation (Panos et
    al., ICCV 2023, arXiv:2303.13199): normalisation layers alone. gamma ~ N(1, std^2) and beta ~ N(0, std^2): SSF has
    std 0.02, FiLM 0, with which a fresh one changes no bit. Works on any ViT and convnet; convolutions with
    standardised weights are left out, because they would undo (1). Holds 2 numbers per channel: 205,824 "everywhere"
    on a ViT-B/16.
    """

    def __init__(
        self,
        backbone: Backbone,
        where: Literal["everywhere", "norms"] = "everywhere",
        std: float = 0.02,
        *,
        generator: torch.Generator,
    ) -> None:
        """Draw gamma and beta on the backbone's device; nothing requires grad.

        Raises:
            InvalidRequestError: the backbone has no such layer.
        """
        super().__init__()
        kinds = _NORMS if where == "norms" else (*_NORMS, *_MAPS)
        self.sites = tuple(s for name, m in backbone.module.named_modules() if (s := _site(name, m, kinds)))
        if not self.sites:
            raise InvalidRequestError(f"{backbone.tag} has no layer for a scale and a shift {where!r}.")
        self.gamma, self.beta = nn.ParameterList(), nn.ParameterList()
        for site in self.sites:
            weight = backbone.module.get_submodule(site.module)._parameters[site.weight]
            assert weight is not None
            for values, mean in ((self.gamma, 1.0), (self.beta, 0.0)):
                drawn = mean + std * torch.randn(len(weight), generator=generator)
                values.append(nn.Parameter(drawn.to(backbone.device), requires_grad=False))

    @contextmanager
    def worn_by(self, module: nn.Module) -> Iterator[None]:
        """Put the products and sums of (1) in the place of the weights; put the same objects back at the end."""
        exchanged: list[tuple[nn.Module, str, nn.Parameter | None]] = []
        try:
            for site, gamma, beta in zip(self.sites, self.gamma, self.beta, strict=True):
                owner = module.get_submodule(site.module)
                weight, bias = owner._parameters[site.weight], owner._parameters[site.bias]
                assert weight is not None
                exchanged += [(owner, site.weight, weight), (owner, site.bias, bias)]
                with torch.autocast(weight.device.type, enabled=False):
                    scaled = weight * gamma.reshape(-1, *[1] * (weight.dim() - 1))
                    shifted = beta if bias is None else bias * gamma + beta
                owner._parameters[site.weight] = scaled  # type: ignore[assignment]  # a tensor with a graph behind it
                owner._parameters[site.bias] = shifted  # type: ignore[assignment]
            yield
        finally:
            for owner, leaf, original in reversed(exchanged):
                owner._parameters[leaf] = original

    def tensors(self) -> Mapping[str, Tensor]:
        """Scales and shifts by layer."""
        return {
            f"Affine/{site.module}/{name}": values[index]
            for index, site in enumerate(self.sites)
            for name, values in (("gamma", self.gamma), ("beta", self.beta))
        }

    def state(self) -> State:
        """Scales and shifts by layer."""
        return State(dict(self.tensors()))

    def load(self, state: State) -> None:
        """Take the values of `state`; everything is frozen afterwards.

        Raises:
            RunError: the state is of other layers.
        """
        own = self.tensors()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.tensors.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in own.items()}:
            raise RunError("The checkpoint's scales and shifts are of other layers than the learner's.")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state.tensors[name])
        self.requires_grad_(False)


def _site(name: str, module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> _Site | None:
    """Where the weights of a layer of one of `kinds` are, if it has any that (1) can change."""
    if not isinstance(module, kinds) or "Std" in type(module).__name__:
        return None
    prefix = "in_proj_" if isinstance(module, nn.MultiheadAttention) else ""
    site = _Site(name, f"{prefix}weight", f"{prefix}bias")
    return site if module._parameters.get(site.weight) is not None else None
