"""`torch.compile` for a frozen backbone: its blocks are compiled, and what learners put between them is not.

A block whose inside is dressed at the moment (an adapter beside its MLP, a prefix in its attention, a tap) runs as it
is written, but for its MLP if that is untouched. So slots come and go without a new compilation; other weights in the
place of the block's own (overlays, low-rank sums, scales) are inputs of the compiled code.
"""

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import nn

from cillab.core.devices import check_compiler
from cillab.core.errors import InvalidRequestError, one_line


def compile_blocks(module: nn.Module, names: Sequence[str], device: torch.device) -> None:
    """Let the blocks called `names` be compiled when they are first used; batches of any size share the code.

    Raises:
        InvalidRequestError: this machine has no compiler for the device.
    """
    check_compiler(device.type)
    for region in _regions(module, names):
        region.forward = Region(region)


def _regions(module: nn.Module, names: Sequence[str]) -> Iterator[nn.Module]:
    """MLPs before the blocks that they are in: a block keeps in mind what its inside is."""
    for name in names:
        block = module.get_submodule(name)
        if isinstance(mlp := getattr(block, "mlp", None), nn.Module):
            yield mlp
        yield block


@final
class Region:
    """The compiled `forward` of a module, as long as nothing stands inside of it."""

    def __init__(self, module: nn.Module) -> None:
        self._eager = module.forward
        self._inside = [(inner, vars(inner).get("forward")) for inner in module.modules() if inner is not module]
        self._compiled = torch.compile(self._eager, dynamic=True)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the module returns.

        Raises:
            InvalidRequestError: the compiler is there and fails.
        """
        if torch.compiler.is_compiling() or self.touched:
            return self._eager(*args, **options)
        try:
            return self._compiled(*args, **options)
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise InvalidRequestError(
                f"torch.compile does not work here: {one_line(error)[:200]} Leave compile out."
            ) from error

    @property
    def touched(self) -> bool:
        """Is anything hooked to a module inside, or put in the place of its forward?"""
        return any(
            inner._forward_hooks or inner._forward_pre_hooks or vars(inner).get("forward") is not forward
            for inner, forward in self._inside
        )
