"""Where in a vision model a saliency map is taken, and how its tokens lie on the image."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from cillab.core.contract import Backbone
from cillab.core.errors import IncompatibleError, InvalidRequestError

_NORM_FIRST = {"Block", "EvaBlock", "ResidualAttentionBlock", "CustomResidualAttentionBlock"}


def cam_layer(backbone: Backbone) -> str:
    """The dotted name of the last module whose patches still reach the features.

    A ViT that reads its class token alone: the first norm of the last block. Behind it, each patch is processed by
    itself and thrown away, so every gradient at a patch is exactly zero. A ViT that averages its patches: the last
    block. A convnet: its last stage.
    """
    last = backbone.block_names[-1]
    if backbone.kind == "convnet" or not class_token_only(backbone):
        return last
    block = backbone.module.get_submodule(last)
    for norm in ("norm1", "ln_1"):
        if hasattr(block, norm) and type(block).__name__ in _NORM_FIRST:
            return f"{last}.{norm}"
    return backbone.block_names[-2]  # norms in unusual places: the input of the last block is always safe


def attention_modules(backbone: Backbone) -> list[nn.Module]:
    """The attention of every block, from the first to the last.

    Raises:
        IncompatibleError: the model is not a plain ViT.
    """
    if backbone.kind != "vit":
        raise IncompatibleError(f"{backbone.tag} is a {backbone.kind}: it has no attention to read.")
    return [backbone.module.get_submodule(f"{name}.attn") for name in backbone.block_names]


def class_token_only(backbone: Backbone) -> bool:
    """Do the features come from the class token alone, or from all patches?"""
    trunk = _trunk(backbone.module)
    if getattr(trunk, "attn_pool", None) is not None:
        return False
    return getattr(trunk, "global_pool", getattr(trunk, "pool_type", "token")) in {"token", "tok"}


def prefix_tokens(backbone: Backbone) -> int:
    """Tokens before the patches as the model counts them: class, distillation, registers."""
    trunk = _trunk(backbone.module)
    return int(getattr(trunk, "num_prefix_tokens", 1))  # open_clip always has one class token


def patch_grid(backbone: Backbone) -> tuple[int, int]:
    """Rows and columns of patches at the size that the backbone is fed with."""
    trunk, size = _trunk(backbone.module), backbone.preprocessing.size
    embed: Any = getattr(trunk, "patch_embed", None)
    if embed is not None and hasattr(embed, "dynamic_feat_size"):
        rows, columns = embed.dynamic_feat_size((size, size))
    else:
        rows, columns = (size // side for side in _pair(trunk.patch_size))
    return int(rows), int(columns)


def as_grid(
    activation: Float[Tensor, "..."], backbone: Backbone, layer: str, *, images: int
) -> Float[Tensor, "image row column channel"]:
    """An activation laid out on the image: prefix tokens and prompts dropped, channels last.

    Raises:
        InvalidRequestError: the layer's output is not made of patches.
    """
    if activation.ndim == 4:  # feature maps
        channels_last = getattr(_trunk(backbone.module), "output_fmt", "NCHW") == "NHWC"
        return activation if channels_last else activation.permute(0, 2, 3, 1)
    rows, columns = patch_grid(backbone)
    if activation.ndim == 3 and _sequence_first(backbone.module):
        activation = activation.transpose(0, 1)
    shortest = prefix_tokens(backbone) + rows * columns
    if activation.ndim != 3 or activation.shape[0] != images or activation.shape[1] < shortest:
        raise InvalidRequestError(
            f"layer {layer!r} gives {tuple(activation.shape)} for {images} images; a map needs at least {shortest} "
            f"tokens an image ({prefix_tokens(backbone)} prefix + {rows} x {columns} patches) or a feature map."
        )
    first = prefix_tokens(backbone)  # prompts come behind the patches, see `cillab.backbones.slots`
    return activation[:, first:shortest].unflatten(1, (rows, columns))


def _trunk(model: nn.Module) -> Any:
    """open_clip may wrap a timm model as `trunk`."""
    return getattr(model, "trunk", model)


def _sequence_first(model: nn.Module) -> bool:
    return not getattr(getattr(model, "transformer", None), "batch_first", True)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
