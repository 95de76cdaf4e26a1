"""Small random models behind the contract, and a learner with a head of its own that no model has."""

from typing import Any

import timm
import torch
from open_clip.transformer import VisionTransformer as ClipVision
from torch import Tensor, nn

from cillab.backbones.frozen import Anatomy
from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.contract import Head, Learner
from cillab.core.pixels import Preprocessing

SIZE, PATCH = 32, 8
GRID = (SIZE // PATCH, SIZE // PATCH)
HALF = (0.5, 0.5, 0.5)


def wrapped(module: nn.Module, anatomy: Anatomy) -> TimmBackbone:
    preprocessing = Preprocessing(SIZE, 1.0, "bicubic", HALF, HALF)
    tag = f"test:{type(module).__name__}"
    return TimmBackbone(module, tag=tag, anatomy=anatomy, preprocessing=preprocessing, precision="fp32", device="cpu")


class CosineReadOut(Learner[Any]):
    """Scaled cosine to given rows: the part of a learner that explanations need, with sparse class ids."""

    seen: Any = ()

    def __init__(self, backbone: Any, rows: Any, seen: tuple[int, ...] = (7, 401, 3), scale: float = 10) -> None:
        self.backbone, self.rows, self.seen, self.scale = backbone, rows, seen, scale

    def features(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def scores(self, features: Tensor) -> Tensor:
        return self.scale * torch.cosine_similarity(features[:, None], self.rows[None], dim=-1)

    def head(self) -> Head:
        return Head(self.rows, None)

    def observe(self, task: Any) -> Any:
        raise NotImplementedError

    internals = parts = lambda self: {}


def random_model(kind: str, seed: int = 0) -> TimmBackbone:
    """A "class" and "average" pooled ViT, one with "registers", "clip" and "clip-average", a "convnet"."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the constructors offer no generator
        match kind:
            case "convnet":
                model = timm.create_model("resnet10t", num_classes=0)
                return wrapped(model, timm_anatomy(model, "convnet"))
            case "clip" | "clip-average":
                pool = "tok" if kind == "clip" else "avg"
                vision = ClipVision(SIZE, PATCH, 24, layers=2, heads=3, mlp_ratio=2, output_dim=16, pool_type=pool)
                names = ("transformer.resblocks.0", "transformer.resblocks.1")
                return wrapped(vision, Anatomy("vit", names, 24, 16, PATCH, 1))
            case _:
                special: Any = {"registers": {"reg_tokens": 4}, "average": {"global_pool": "avg"}}
                shape: dict[str, Any] = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": PATCH}
                shape |= {"img_size": SIZE, "num_classes": 0, "weight_init": "moco"}
                model = timm.create_model("vit_tiny_patch16_224", **shape, **special.get(kind, {}))
                return wrapped(model, timm_anatomy(model, "vit"))


# timm's own constructors, with few and narrow layers: the architectures, not imitations of them. Name, patch size.
ARCHITECTURES = {
    "dinov2": ("vit_small_patch14_dinov2", 14),
    "dinov2 with registers": ("vit_small_patch14_reg4_dinov2", 14),
    "dinov3": ("vit_small_patch16_dinov3", 16),
    "class and distillation token": ("deit_tiny_distilled_patch16_224", 16),
    "SigLIP's attention pooling": ("vit_base_patch16_siglip_224", 16),
    "CLIP with QuickGELU": ("vit_base_patch16_clip_quickgelu_224", 16),
    "EVA-02": ("eva02_tiny_patch14_224", 14),
}


def narrow(kind: str) -> TimmBackbone:
    """One of `ARCHITECTURES` with random weights and a grid of 4 x 4 patches."""
    name, patch = ARCHITECTURES[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape: dict[str, Any] = {"img_size": 4 * patch, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
        model: Any = timm.create_model(name, pretrained=False, **shape)
    for part, parameter in model.named_parameters():
        if part.endswith(".gamma"):  # of a layer scale, which begins near 0 and is near 1 in trained models
            parameter.data.fill_(1)
    preprocessing = Preprocessing(4 * patch, 1.0, "bicubic", HALF, HALF)
    anatomy = timm_anatomy(model, "vit")
    return TimmBackbone(
        model, tag=f"test:{name}", anatomy=anatomy, preprocessing=preprocessing, precision="fp32", device="cpu"
    )


def random_learner(kind: str = "class", seed: int = 0, scale: float = 10) -> Any:
    backbone = random_model(kind)
    rows = torch.randn(3, backbone.feature_dim, generator=torch.Generator().manual_seed(seed))
    return CosineReadOut(backbone, rows, scale=scale)


def random_images(count: int = 5, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
