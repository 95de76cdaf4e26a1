"""A learner's own copies of some backbone weights, in force while they are worn."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import final

import torch
from torch import Tensor, nn

from cillab.core.contract import Backbone, Delta, Part, State
from cillab.core.errors import InvalidRequestError, RunError, nearest


@final
class Overlay(Delta, Part):
    """Copies of the parameters whose dotted names match any of `patterns`; the backbone's own stay as they are.

    Patterns are shell-like and `*` crosses dots: `"*"` is everything, `"blocks.*.norm?.*"` the norms in timm's blocks,
    `"norm.*"` the last one. `Overlay(backbone, *norms(backbone))` is every normalisation layer of any ViT.
    The copies start equal to the originals, so a fresh overlay changes nothing.
    """

    def __init__(self, backbone: Backbone, *patterns: str) -> None:
        available = dict(backbone.module.named_parameters())
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in available):
                raise InvalidRequestError(
                    f"No parameter of {backbone.tag} matches {pattern!r}. Nearest: {nearest(pattern, available)!r}."
                )
        self._own = {
            name: nn.Parameter(original.detach().clone(), requires_grad=False)
            for name, original in available.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        }

    def parameters(self) -> Iterator[nn.Parameter]:
        """The copies, in the order of the module."""
        yield from self._own.values()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The copies under the names of their originals."""
        yield from self._own.items()

    def requires_grad_(self, requires_grad: bool = True) -> "Overlay":
        """Let all copies be trained, or none."""
        for parameter in self._own.values():
            parameter.requires_grad_(requires_grad)
        return self

    def __len__(self) -> int:
        """Number of copied tensors."""
        return len(self._own)

    @contextmanager
    def worn_by(self, module: nn.Module) -> Iterator[None]:
        """Exchange the parameters of `module` for the copies; put the same objects back at the end."""
        exchanged: list[tuple[nn.Module, str, nn.Parameter | None]] = []
        try:
            for name, own in self._own.items():
                path, _, leaf = name.rpartition(".")
                owner = module.get_submodule(path)
                exchanged.append((owner, leaf, owner._parameters[leaf]))
                owner._parameters[leaf] = own
            yield
        finally:
            for owner, leaf, original in reversed(exchanged):
                owner._parameters[leaf] = original

    def tensors(self) -> Mapping[str, Tensor]:
        """The copies by name."""
        return dict(self._own)

    def state(self) -> State:
        """The copies by name."""
        return State(dict(self._own))

    def load(self, state: State) -> None:
        """Take the values of `state`.

        Raises:
            RunError: the state covers other parameters, or other shapes.
        """
        _check_same(self._own, state.tensors)
        with torch.no_grad():
            for name, own in self._own.items():
                own.copy_(state.tensors[name])


def _check_same(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    for name in [*own, *given]:
        if name not in given or name not in own:
            raise RunError(f"The checkpoint's overlay and the learner's differ in {name!r}.")
        if own[name].shape != given[name].shape:
            shapes = f"{tuple(given[name].shape)} in the checkpoint, {tuple(own[name].shape)} here"
            raise RunError(f"{name!r} has shape {shapes}.")


def norms(backbone: Backbone) -> tuple[str, ...]:
    """Parameter names of the normalisation layers in and after the blocks, but none before the first block.

    In timm's ViTs these are norm1 and norm2 of every block and the last norm; in open_clip's ln_1, ln_2 and ln_post.
    """
    names = []
    for path, module in backbone.module.named_modules():
        is_norm = "norm" in type(module).__name__.lower()
        before_blocks = "patch_embed" in path or path.rpartition(".")[2] in {"norm_pre", "ln_pre"}
        if is_norm and not before_blocks:
            names += [f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)]
    return tuple(names)
