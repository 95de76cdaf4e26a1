"""Rollout and attention x gradient against loops over blocks and images in NumPy; explicit attention against fused."""

from typing import Any

import numpy as np
import pytest
import torch

from cillab.core.errors import IncompatibleError
from cillab.explain.attention import attention_rollout, attention_times_gradient, visible_attention
from tests.explain.models import GRID, random_images, random_learner

KINDS = ["class", "registers", "average", "clip", "clip-average"]


def sharpen(learner: Any) -> Any:
    """Random weights attend almost evenly, which would hide mistakes of order: make queries loud."""
    for name, parameter in learner.backbone.module.named_parameters():
        if "qkv.weight" in name or "in_proj_weight" in name:
            parameter.data *= 12
    return learner


def read_out(kind: str, relevance: np.ndarray) -> np.ndarray:
    row = relevance[-16:].mean(axis=0) if "average" in kind else relevance[0]
    return row[-16:].reshape(GRID)


@pytest.mark.parametrize("kind", KINDS)
def test_looking_does_not_change_the_features(kind: str) -> None:
    learner, images = sharpen(random_learner(kind)), random_images()
    fused = learner.features(images)
    with visible_attention(learner.backbone) as attention:
        torch.testing.assert_close(learner.features(images), fused, rtol=1e-4, atol=1e-5)
    assert len(attention) == 2
    torch.testing.assert_close(attention[0].sum(dim=-1), torch.ones(attention[0].shape[:3]))
    assert attention[0].std() > 0.01  # sharpened, indeed
    assert all(not module._forward_hooks for module in learner.backbone.module.modules())
    torch.testing.assert_close(learner.features(images), fused, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_rollout_is_the_product_of_averaged_attention(kind: str) -> None:
    learner, images = sharpen(random_learner(kind)), random_images()
    with visible_attention(learner.backbone) as attention:
        learner.features(images)
    found = attention_rollout(learner, images)
    for i in range(len(images)):
        first, second = (block[i].detach().double().mean(dim=0).numpy() for block in attention)
        eye = np.eye(len(first))
        rolled = (0.5 * second + 0.5 * eye) @ (0.5 * first + 0.5 * eye)
        np.testing.assert_allclose(found[i].numpy(), read_out(kind, rolled), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_times_gradient_is_accumulated_from_first_to_last(kind: str) -> None:
    learner, images = sharpen(random_learner(kind)), random_images(1)
    found = attention_times_gradient(learner, images, (401,))["class/401"][0]
    with torch.enable_grad(), visible_attention(learner.backbone) as attention:
        score = learner.logits(images)[0, 1]
        gradients = torch.autograd.grad(score, attention)
    tokens = attention[0].shape[-1]
    relevance = np.eye(tokens)
    for weights, gradient in zip(attention, gradients, strict=True):
        product = (weights.detach() * gradient)[0].double().numpy().clip(min=0).mean(axis=0)
        relevance = relevance + product @ relevance
    np.testing.assert_allclose(found.numpy(), read_out(kind, relevance - np.eye(tokens)), rtol=1e-3, atol=1e-7)


def test_the_target_matters_for_the_gradient_only() -> None:
    learner, images = random_learner(), random_images()
    labels = torch.tensor([7, 401, 3, 99, 401])
    maps = attention_times_gradient(learner, images, ("true", "predicted", 3), labels=labels)
    assert not torch.allclose(maps["true"][:2], maps["class/3"][:2], rtol=0.05)
    assert maps["true"][3].isnan().all()
    assert maps["predicted"].isfinite().all()


def test_a_convnet_has_no_attention() -> None:
    with pytest.raises(IncompatibleError, match="convnet: it has no attention"):
        attention_rollout(random_learner("convnet"), random_images())
