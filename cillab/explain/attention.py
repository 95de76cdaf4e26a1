"""Two maps from attention, to be shown beside Grad-CAM: rollout (no class) and attention x gradient (a class).

Both materialise the attention of every block, which fused kernels never do; it is computed once more while they look.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from cillab.core.contract import Backbone, Learner
from cillab.core.errors import IncompatibleError
from cillab.explain.gradcam import (
    ONE_AT_A_TIME,
    Target,
    learner_backbone,
    target_name,
    target_score,
    validate_targets,
)
from cillab.explain.layers import attention_modules, class_token_only, patch_grid, prefix_tokens


def attention_rollout(
    learner: Learner[Any], images: UInt8[Tensor, "image 3 height width"]
) -> Float[Tensor, "image row column"]:
    """How much of each patch reaches the features if attention only mixed tokens. Not class specific.

        R = A_L ... A_1,    A_l = (mean over heads of attention_l + identity) / 2

    Rows of R sum to 1; the map is the row of the class token, or the mean row of a model that averages its patches.
    Source: Abnar & Zuidema, ACL 2020, arXiv:2005.00928, section 3.
    """
    backbone = learner_backbone(learner)
    with ONE_AT_A_TIME, torch.enable_grad(), visible_attention(backbone) as attention:
        learner.features(images)  # with grad: without it, a backbone may answer from memory
    rollout = _identity(attention[0])
    for weights in attention:
        rollout = (weights.detach().float().mean(dim=1) + _identity(weights)) / 2 @ rollout
    return _read_out(rollout, backbone)


def attention_times_gradient(
    learner: Learner[Any],
    images: UInt8[Tensor, "image 3 height width"],
    targets: Sequence[Target] = ("predicted",),
    *,
    labels: Int64[Tensor, " image"] | None = None,
) -> dict[str, Float[Tensor, "image row column"]]:
    """Relevance of each patch for a target: attention weighted by its own gradient, through all blocks.

        R <- R + mean over heads of relu(attention_l * d score / d attention_l) @ R,    from R = identity, l = 1 .. L

    Targets as in `gradcam`. Source: Chefer, Gur & Wolf, ICCV 2021, arXiv:2103.15679, equations (5) and (6).
    """
    validate_targets(learner, targets, labels, len(images))
    backbone = learner_backbone(learner)
    maps = {}
    with ONE_AT_A_TIME, torch.enable_grad(), visible_attention(backbone) as attention:
        logits = learner.logits(images)
        own = None if labels is None else labels.to(logits.device)
        for target in targets:
            score = target_score(logits, learner.seen, target, own)
            valid = score.isfinite()
            gradients = torch.autograd.grad(score[valid].sum(), attention, retain_graph=True)
            relevance = _identity(attention[0])
            for weights, gradient in zip(attention, gradients, strict=True):
                spoken = (weights.detach() * gradient).relu().float().mean(dim=1)
                relevance = relevance + spoken @ relevance
            relevance = relevance - _identity(relevance)  # what attention added, not the patch itself
            maps[target_name(target)] = _read_out(relevance, backbone).masked_fill(~valid.view(-1, 1, 1), torch.nan)
    return maps


@contextmanager
def visible_attention(backbone: Backbone) -> Iterator[list[Float[Tensor, "image head query key"]]]:
    """Inside, each forward pass appends the attention of every block, from which the block's output is then computed.

    Under grad the first one requires grad, so that there is a graph from it to the score although weights are frozen.
    """
    seen: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(backbone.tap())  # under a tap, a backbone forwards all images in one batch
        for module in attention_modules(backbone):
            if isinstance(module, nn.MultiheadAttention):
                hook = module.register_forward_hook(_explicit(seen))
            elif hasattr(module, "fused_attn") and isinstance(drop := getattr(module, "attn_drop", None), nn.Module):
                stack.callback(setattr, module, "fused_attn", module.fused_attn)
                setattr(module, "fused_attn", False)  # noqa: B010 (no attribute that nn.Module declares)
                hook = drop.register_forward_hook(_record(seen))
            else:
                raise IncompatibleError(f"the attention of {backbone.tag} ({type(module).__name__}) cannot be read.")
            stack.callback(hook.remove)
        yield seen


def _record(seen: list[Tensor]) -> Any:
    """Hook on timm's dropout of attention weights, which passes them on unchanged in eval mode."""

    def hook(_module: nn.Module, _inputs: tuple[Any, ...], weights: Tensor) -> Tensor:
        seen.append(_with_grad(weights))
        return seen[-1]

    return hook


def _explicit(seen: list[Tensor]) -> Any:
    """Hook on `nn.MultiheadAttention`: the same result from explicit softmax(q k / sqrt(d)) v (self-attention)."""

    def hook(module: nn.MultiheadAttention, inputs: tuple[Any, ...], _output: Any) -> tuple[Tensor, None]:
        tokens = inputs[0] if module.batch_first else inputs[0].transpose(0, 1)
        projected = nn.functional.linear(tokens, module.in_proj_weight, module.in_proj_bias)
        q, k, v = projected.unflatten(2, (3, module.num_heads, module.head_dim)).permute(2, 0, 3, 1, 4)
        seen.append(_with_grad((q @ k.transpose(2, 3) / module.head_dim**0.5).softmax(dim=-1)))
        mixed = module.out_proj((seen[-1] @ v).transpose(1, 2).flatten(2))
        return (mixed if module.batch_first else mixed.transpose(0, 1)), None

    return hook


def _with_grad(weights: Tensor) -> Tensor:
    return weights.detach().requires_grad_() if torch.is_grad_enabled() and not weights.requires_grad else weights


def _identity(square: Float[Tensor, "image *head token token"]) -> Float[Tensor, "token token"]:
    return torch.eye(square.shape[-1], device=square.device)


def _read_out(relevance: Float[Tensor, "image token token"], backbone: Backbone) -> Float[Tensor, "image row column"]:
    rows, columns = patch_grid(backbone)
    patches = slice(first := prefix_tokens(backbone), first + rows * columns)  # prompts come behind them
    to_patches = relevance[..., patches]
    read = to_patches[:, 0] if class_token_only(backbone) else to_patches[:, patches].mean(dim=1)
    return read.unflatten(1, (rows, columns))
