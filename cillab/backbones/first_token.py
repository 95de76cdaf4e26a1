"""The last block for the token that is read, in gradient steps: what the others would become, nobody asks.

    x <- x + attention(norm(x))        for all tokens: the class token looks at every one
    x_0 <- x_0 + MLP(norm(x_0))        for the class token alone, and so is all that stands behind the block

Where features are the class token, this leaves out the MLP of the last block for all other tokens (in timm's blocks the
output map of the attention too), forwards and backwards: 9 of the 12 dim^2 products that a token takes in that block,
a sixteenth of twelve blocks, an eighth of six. Feature and gradients are the same up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from cillab.backbones.slots import _entrance_of_mlp, _tokens_first

_BLOCKS = frozenset({"Block", "ResidualAttentionBlock"})  # timm's and open_clip's: attention first, then the MLP


def reads_first_token(module: nn.Module) -> bool:
    """Is the feature of this model of images the first token that comes out of its blocks, and nothing else?"""
    own: Any = module
    kind = f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}"
    if getattr(own, "attn_pool", None) is not None:
        return False
    if kind == "timm.VisionTransformer":
        return own.global_pool == "token"
    return kind == "open_clip.VisionTransformer" and own.pool_type == "tok" and not own.output_tokens


@contextmanager
def first_token_alone(root: nn.Module, block: str, count: int) -> Iterator[None]:
    """Inside, the last block, called `block`, goes on with the first of `count` tokens, if that is all that is read.

    Where there are more tokens a learner has put some beside those of the image, and may read them.
    """
    module, dim = root.get_submodule(block), 0 if _tokens_first(root, block) else 1
    if type(module).__name__ not in _BLOCKS or not reads_first_token(root):
        yield
        return

    def enter(_module: nn.Module, inputs: Any) -> Any:
        return (inputs[0].narrow(dim, 0, 1), *inputs[1:]) if inputs[0].shape[dim] == count else None

    def leave(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        return output.narrow(dim, 0, 1) if output.shape[dim] == count else None

    # Before whatever is worn there, which then sees one token. All tokens plus the branch of the first one is right for
    # the first one, and the others are gone before anybody sees them.
    ends, attention = [_entrance_of_mlp(module)], module.get_submodule("attn")
    if type(attention).__name__ == "Attention":  # timm's own, which ends with this map
        ends.append(attention.get_submodule("proj"))
    handles = [end.register_forward_pre_hook(enter, prepend=True) for end in ends]
    handles.append(module.register_forward_hook(leave, prepend=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
