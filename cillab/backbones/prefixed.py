"""Keys and values in front of those of an attention layer: prefix tuning, for timm's ViTs and open_clip's own.

A `kv:blocks.3` place is the attention of that block. Queries see prefix and image, and there are as many outputs as
inputs, so that nothing has to be taken away behind the block:

    out = softmax(q [K_p, k]^T / sqrt(d_head)) [V_p, v]                                                     (1)

K_p and V_p stand behind the layer's input map, and behind its normalisation of keys where there is one. Source: prefix
tuning, Li and Liang, ACL 2021, arXiv:2101.00190, as DualPrompt (ECCV 2022, arXiv:2204.04799) uses it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cillab.backbones.slot import KeyValueSlot, Tokens
from cillab.core.errors import InvalidRequestError

Heads = Float[Tensor, "image head token part"]


@contextmanager
def prefixed(block: nn.Module, slot: KeyValueSlot) -> Iterator[None]:
    """Inside, the attention of `block` is equation (1), with the prefixes of all slots that stand there."""
    module: Any = attention_of(block)
    if "forward" in vars(module):  # another slot stands here already
        module.forward.slots.append(slot)
        try:
            yield
        finally:
            module.forward.slots.remove(slot)
        return
    compute: Callable[..., Any] = _multihead if isinstance(module, nn.MultiheadAttention) else _timm
    slots = [slot]

    def forward(*args: Any, **options: Any) -> Any:
        return compute(module, slots, *args, **options)

    forward.slots = slots  # type: ignore[attr-defined]
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def attention_of(block: nn.Module) -> nn.Module:
    """The attention layer of `block`.

    Raises:
        InvalidRequestError: there is none that takes a prefix.
    """
    module = getattr(block, "attn", None)
    stacked = isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
    plain = type(module).__name__ == "Attention" and type(module).__module__.startswith("timm.")
    if not (stacked or plain):
        raise InvalidRequestError(
            f"A {type(block).__name__} with {type(module).__name__} as its attention takes no prefix: `kv:` places are "
            "blocks of timm's plain ViTs and of open_clip's own."
        )
    assert module is not None
    return module


def _with(slots: list[KeyValueSlot], x: Tokens, k: Heads, v: Heads) -> tuple[Tensor, Tensor]:
    """Keys and values with the prefixes in front of them."""
    for slot in slots:
        for_keys, for_values = (_split(part.to(k.dtype), k.shape[1]) for part in slot(x))
        k, v = torch.cat([for_keys, k], dim=2), torch.cat([for_values, v], dim=2)
    return k, v


def _split(x: Tokens, heads: int) -> Heads:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _timm(
    module: Any, slots: list[KeyValueSlot], x: Tensor, attn_mask: Tensor | None = None, **_options: Any
) -> Tensor:
    """The attention of timm's ViT in evaluation mode, by equation (1)."""
    if attn_mask is not None:
        raise InvalidRequestError("A masked attention takes no prefix.")
    q, k, v = (_split(part, module.num_heads) for part in module.qkv(x).chunk(3, dim=2))
    q, k = module.q_norm(q), module.k_norm(k)
    out = F.scaled_dot_product_attention(q, *_with(slots, x, k, v), scale=module.scale)
    out = module.norm(out.transpose(1, 2).flatten(2))
    gate = getattr(module, "gate", None)
    return module.proj(out if gate is None else out * gate(x).sigmoid())


def _multihead(
    module: nn.MultiheadAttention,
    slots: list[KeyValueSlot],
    query: Tensor,
    *_keys: Any,
    attn_mask: Any = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Self-attention of `nn.MultiheadAttention` in evaluation mode, by equation (1)."""
    if attn_mask is not None:
        raise InvalidRequestError("A masked attention takes no prefix.")
    x = query if module.batch_first else query.transpose(0, 1)
    stacked = F.linear(x, module.in_proj_weight, module.in_proj_bias)
    q, k, v = (_split(part, module.num_heads) for part in stacked.chunk(3, dim=2))
    out = F.scaled_dot_product_attention(q, *_with(slots, x, k, v)).transpose(1, 2).flatten(2)
    out = F.linear(out, module.out_proj.weight, module.out_proj.bias)
    return (out if module.batch_first else out.transpose(0, 1)), None


@final
class PrefixSlot(KeyValueSlot):
    """The same prefix for every image: `length` keys and values, drawn from U(-bound, bound).

    DualPrompt draws its general prompts from U(-1, 1). Holds 2 * length * dim numbers.
    """

    def __init__(self, dim: int, length: int, bound: float = 1.0, *, generator: torch.Generator) -> None:
        super().__init__()
        self.prefix = nn.Parameter(torch.empty(2, length, dim).uniform_(-bound, bound, generator=generator))

    def forward(self, tokens: Tokens) -> Float[Tensor, "2 image length dim"]:
        """The prefix, once for each image."""
        return self.prefix[:, None].expand(-1, len(tokens), -1, -1)
