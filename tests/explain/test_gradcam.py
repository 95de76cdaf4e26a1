"""Grad-CAM against the `grad-cam` package (when installed), a full backward pass, and the traps of ViTs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cillab.backbones.slots import PromptSlot, Slots
from cillab.core.errors import InvalidRequestError, NotObservedError, UnknownNameError
from cillab.explain.gradcam import gradcam, maps_of, noise_floor, noise_floors, patch_gradients, similarity_gradcam
from cillab.explain.layers import cam_layer, patch_grid, prefix_tokens
from tests.explain.models import (
    ARCHITECTURES,
    GRID,
    PATCH,
    SIZE,
    CosineReadOut,
    narrow,
    random_images,
    random_learner,
    random_model,
)

LABELS = torch.tensor([7, 401, 3, 7, 401])
LAYERS = {
    "class": "blocks.1.norm1",
    "registers": "blocks.1.norm1",
    "average": "blocks.1",
    "clip": "transformer.resblocks.1.ln_1",
    "clip-average": "transformer.resblocks.1",
    "convnet": "layer4",
}


def first_logit(learner: Any, images: Tensor) -> Any:
    return lambda where: {"first": learner.logits(images[where])[:, 0]}


@pytest.mark.parametrize(("kind", "layer"), LAYERS.items())
def test_layer_follows_pooling_and_is_alive(kind: str, layer: str) -> None:
    learner, images = random_learner(kind), random_images()
    assert cam_layer(learner.backbone) == layer
    _, gradients = patch_gradients(learner.backbone, first_logit(learner, images), slice(None), layer)
    assert (gradients["first"].flatten(1).abs().amax(dim=1) > 0).all()
    maps = gradcam(learner, images, ("true", "predicted", "difference", 401), labels=LABELS)
    assert list(maps) == ["true", "predicted", "difference", "class/401"]
    for found in maps.values():
        assert (found >= 0).all()
        assert found.shape == (5, *(GRID if kind != "convnet" else (1, 1)))


@pytest.mark.parametrize("layer", ["blocks.1", "blocks.1.norm2", "blocks.1.attn", "norm"])
def test_trap_behind_the_last_attention_patches_are_dead_under_class_pooling(layer: str) -> None:
    learner, images = random_learner("class"), random_images()
    _, gradients = patch_gradients(learner.backbone, first_logit(learner, images), slice(None), layer)
    assert (gradients["first"] == 0).all()  # exactly
    with pytest.raises(InvalidRequestError, match=r"no gradient reaches the patches .* use 'blocks.1.norm1'"):
        gradcam(learner, images, layer=layer)


@pytest.mark.parametrize("kind", ["class", "registers", "average", "clip", "convnet"])
def test_cut_graph_gives_the_gradient_of_the_full_backward(kind: str) -> None:
    learner, images, layer = random_learner(kind), random_images(), LAYERS[kind]
    activation, gradients = patch_gradients(learner.backbone, first_logit(learner, images), slice(None), layer)
    learner.backbone.module.requires_grad_(True)
    with learner.backbone.tap(layer) as taps:
        logits = learner.logits(images)
    (full,) = torch.autograd.grad(logits[:, 0].sum(), taps[layer])
    if full.ndim == 3:  # the last 16 tokens are the patches
        full, seen = full[:, -16:].reshape(5, *GRID, -1), taps[layer][:, -16:].reshape(5, *GRID, -1)
    else:
        full, seen = full.permute(0, 2, 3, 1), taps[layer].permute(0, 2, 3, 1)
    torch.testing.assert_close(gradients["first"], full, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(activation, seen, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["class", "average", "clip", "convnet"])
def test_agrees_with_the_grad_cam_package(kind: str) -> None:
    package = pytest.importorskip("pytorch_grad_cam", reason="the oracle extra is not installed")
    learner, images, layer = random_learner(kind), random_images(), LAYERS[kind]
    backbone = learner.backbone
    wrapped = torch.nn.Module()
    wrapped.inner = backbone.module  # so that the package finds parameters and a device

    def forward(pixels: Tensor) -> Tensor:
        return learner.scale * torch.cosine_similarity(backbone.embed(pixels)[:, None], learner.rows[None], dim=-1)

    wrapped.forward = forward
    to_grid = None if kind == "convnet" else lambda t: t[:, -16:].transpose(1, 2).reshape(len(t), -1, *GRID)
    pixels = (images.float() / 255 - 0.5) / 0.5
    cam = package.GradCAM(wrapped, [backbone.module.get_submodule(layer)], reshape_transform=to_grid)
    with cam:
        cam.get_target_width_height = lambda _pixels: GRID if kind != "convnet" else (1, 1)
        backbone.module.requires_grad_(True)
        targets = [package.utils.model_targets.ClassifierOutputTarget(1)] * len(images)
        theirs = torch.from_numpy(cam(pixels, targets))
    ours = gradcam(learner, images, (401,))["class/401"]
    low, high = ours.amin(dim=(1, 2), keepdim=True), ours.amax(dim=(1, 2), keepdim=True)
    torch.testing.assert_close((ours - low) / (1e-7 + high - low), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["class", "clip", "convnet"])
def test_batch_mates_and_batch_size_do_not_matter(kind: str) -> None:
    learner, images = random_learner(kind), random_images()
    whole = gradcam(learner, images, ("difference",), labels=LABELS)["difference"]
    backwards = gradcam(learner, images.flip(0), ("difference",), labels=LABELS.flip(0), batch_size=2)["difference"]
    torch.testing.assert_close(backwards.flip(0), whole, rtol=1e-4, atol=1e-6)


def test_difference_is_true_minus_rival() -> None:
    learner, images = random_learner(), random_images(8)
    logits = learner.logits(images)
    best, second = logits.topk(2, dim=1).indices.T

    def every_class(where: slice) -> dict[str, Tensor]:
        return {str(k): column for k, column in enumerate(learner.logits(images[where]).T)}

    activation, gradients = patch_gradients(learner.backbone, every_class, slice(None), "blocks.1.norm1")
    by_class = torch.stack([gradients[str(k)] for k in range(3)])
    each = torch.arange(8)
    for labels, rival in ((best, second), (second, best)):  # all right: runner-up; all wrong: the prediction
        ids = torch.tensor(learner.seen)[labels]
        weight = (by_class[labels, each] - by_class[rival, each]).mean(dim=(1, 2))
        expected = torch.einsum("nrcd,nd->nrc", activation, weight).relu()
        found = gradcam(learner, images, ("difference",), labels=ids)["difference"]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_unseen_labels_have_no_map_but_do_not_disturb_others() -> None:
    learner, images = random_learner(), random_images()
    whole = gradcam(learner, images, ("true",), labels=LABELS)["true"]
    labels = LABELS.clone()
    labels[2] = 99
    found = gradcam(learner, images, ("true", "predicted", "difference"), labels=labels)
    assert found["true"][2].isnan().all()
    assert found["difference"][2].isnan().all()
    assert found["predicted"].isfinite().all()
    keep = [0, 1, 3, 4]
    torch.testing.assert_close(found["true"][keep], whole[keep])


@pytest.mark.parametrize("row", range(GRID[0]))
def test_moving_a_bright_patch_moves_the_map(row: int) -> None:
    backbone, column = random_model("class"), (2 * row + 1) % GRID[1]

    def with_patch(r: int, c: int) -> Tensor:
        image = torch.full((3, SIZE, SIZE), 60, dtype=torch.uint8)
        image[:, r * PATCH : (r + 1) * PATCH, c * PATCH : (c + 1) * PATCH] = 250
        return image

    everywhere = torch.stack([with_patch(r, c) for r in range(GRID[0]) for c in range(GRID[1])])
    dark = torch.full((1, 3, SIZE, SIZE), 60, dtype=torch.uint8)
    rows = torch.stack([backbone(everywhere).mean(dim=0), backbone(dark)[0]])
    learner: Any = CosineReadOut(backbone, rows, seen=(0, 1))
    image = with_patch(row, column)[None]
    found = gradcam(learner, image, ("difference",), labels=torch.tensor([0]))["difference"]
    assert divmod(int(found.argmax()), GRID[1]) == (row, column)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_bright_patch_lights_up_where_it_is(kind: str) -> None:
    """Class, register and distillation tokens, averages and attention pooling: features are timm's, maps lie right."""
    backbone = narrow(kind)
    side, module = backbone.preprocessing.size // 4, backbone.module
    images = torch.full((17, 3, 4 * side, 4 * side), 60, dtype=torch.uint8)
    for k in range(16):  # the last one stays dark
        row, column = divmod(k, 4)
        images[k, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = 250
    with torch.no_grad():
        features = backbone(images)
        own = module.forward_head(module.forward_features(backbone.pixels(images)), pre_logits=True)
    torch.testing.assert_close(features, own, rtol=1e-4, atol=1e-5)
    assert patch_grid(backbone) == (4, 4)
    assert prefix_tokens(backbone) == {"dinov2 with registers": 5, "dinov3": 5, "class and distillation token": 2}.get(
        kind, 0 if "SigLIP" in kind else 1
    )
    learner: Any = CosineReadOut(backbone, torch.stack([features[:16].mean(dim=0), features[16]]), seen=(0, 1))
    found = gradcam(learner, images[:16], ("difference",), labels=torch.zeros(16, dtype=torch.int64))["difference"]
    bright = found.flatten(1).argmax(dim=1)
    at_least = 14 if "pooling" in kind else 16  # random attention may prefer a neighbour
    assert (bright == torch.arange(16)).sum() >= at_least, bright.tolist()


def test_another_head_gives_another_map() -> None:
    images = random_images()
    one, two = (gradcam(random_learner(seed=seed), images)["predicted"] for seed in (0, 5))
    assert not torch.allclose(one, two, rtol=0.1)


def test_similarity_is_the_cosine_to_a_text() -> None:
    learner, images = random_learner("clip", scale=1.0), random_images()
    by_text = similarity_gradcam(learner, images, 3 * learner.rows)  # length of a text feature does not matter
    for k, class_id in enumerate(learner.seen):
        by_class = gradcam(learner, images, (class_id,))[f"class/{class_id}"]
        torch.testing.assert_close(by_text[f"text/{k}"], by_class, rtol=1e-4, atol=1e-7)


def test_noise_floor_has_the_unit_of_the_maps() -> None:
    images = random_images(12)
    floor = noise_floor(random_learner(scale=1.0), images)
    assert floor > 0
    assert noise_floor(random_learner(scale=1.0), images, batch_size=5) == pytest.approx(floor, rel=1e-3)
    assert noise_floor(random_learner(scale=10.0), images) == pytest.approx(10 * floor, rel=1e-3)
    assert noise_floor(random_learner(scale=1.0), images, seed=2) != pytest.approx(floor, rel=1e-3)


def test_floors_of_several_targets_are_those_of_each_alone() -> None:
    images, labels = random_images(6), torch.tensor([LABELS[0], LABELS[1]] * 3)
    learner = random_learner(scale=1.0)
    found = noise_floors(learner, images, ("true", "predicted", "difference"), labels=labels)
    for target, floor in found.items():
        assert noise_floor(learner, images, target, labels=labels) == pytest.approx(floor, rel=1e-5)
    few = noise_floors(learner, images[:1], ("true", "predicted"), labels=labels[:1])
    assert all(math.isnan(floor) for floor in few.values())  # no spread of one image


def test_nothing_is_left_behind() -> None:
    learner, images = random_learner(), random_images()
    before = {name: value.clone() for name, value in learner.backbone.module.state_dict().items()}
    generator = torch.get_rng_state()
    gradcam(learner, images, ("true",), labels=LABELS)
    noise_floor(learner, images)
    assert all(not module._forward_hooks for module in learner.backbone.module.modules())
    assert all(not parameter.requires_grad for parameter in learner.backbone.module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in learner.backbone.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_registers_are_not_patches() -> None:
    learner = random_learner("registers")
    assert patch_grid(learner.backbone) == GRID
    learner.backbone.module.reg_token.data += 5.0  # a loud register must not appear as a patch
    images = random_images()
    taps = maps_of(learner.backbone, first_logit(learner, images), len(images))["first"]
    assert taps.shape == (5, *GRID)


@pytest.mark.parametrize("kind", ["class", "registers", "average", "clip", "clip-average"])
def test_prompts_are_not_patches(kind: str) -> None:
    """With prompts worn the map is that of the patches: computed by hand from the tokens behind the prefix."""
    learner, images = random_learner(kind), random_images()
    backbone, layer = learner.backbone, LAYERS[kind]

    def make(index: int) -> PromptSlot:
        return PromptSlot(backbone.token_dim, 3, generator=torch.Generator().manual_seed(index))

    with backbone.wearing(Slots.everywhere(backbone, "before", make)):
        assert cam_layer(backbone) == layer
        found = maps_of(backbone, first_logit(learner, images), len(images))["first"]
        with torch.enable_grad(), backbone.tap(layer, cut=True) as taps:
            score = learner.logits(images)[:, 0].sum()
        (gradient,) = torch.autograd.grad(score, taps[layer])
    first = prefix_tokens(backbone)
    patches, slopes = (t[:, first : first + 16].detach() for t in (taps[layer], gradient))
    expected = torch.einsum("npd,nd->np", patches, slopes.mean(dim=1)).relu().reshape(5, *GRID)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert (found.flatten(1).amax(dim=1) > 0).any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"targets": ("true",)}, InvalidRequestError, "one label an image: 5 images, none labels"),
        ({"targets": (8,)}, InvalidRequestError, "class 8 was not seen. Seen: 7, 401, 3"),
        ({"targets": ("predict",)}, UnknownNameError, "Did you mean 'predicted'"),
        ({"layer": "norm_pre.missing"}, Exception, "missing"),
    ],
)
def test_errors_say_what_was_given(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gradcam(random_learner(), random_images(), **arguments)


def test_before_the_first_task_there_is_nothing_to_explain() -> None:
    learner = random_learner()
    learner.seen = ()
    with pytest.raises(NotObservedError, match="no class yet"):
        gradcam(learner, random_images())
