"""Small models with random weights, and random pictures; nothing touches the global generator."""

from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cillab.backbones.clip import ClipBackbone, clip_anatomy
from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.pixels import Preprocessing

HALF = (0.5, 0.5, 0.5)
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def seeded(make: Any, seed: int = 0) -> Any:
    """`make()` with weights from `seed`, large enough that every image gets features of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(3)
    return module


def preprocessing(size: int = 32, crop: float = 1.0) -> Preprocessing:
    return Preprocessing(size, crop, "bicubic", HALF, HALF)


def vit_module(**options: Any) -> VisionTransformer:
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 0}
    return seeded(lambda: VisionTransformer(**{**shape, **options}))


def vit(precision: str = "fp32", memory: Any = None, crop: float = 1.0, **options: Any) -> TimmBackbone:
    module = vit_module(**options)
    return TimmBackbone(
        module,
        tag="timm:tiny",
        anatomy=timm_anatomy(module, "vit"),
        preprocessing=preprocessing(crop=crop),
        precision=precision,
        memory=memory,
        device="cpu",
    )


def convnet() -> TimmBackbone:
    module = seeded(lambda: timm.create_model("test_resnet", num_classes=0))
    return TimmBackbone(
        module,
        tag="timm:test_resnet",
        anatomy=timm_anatomy(module, "convnet"),
        preprocessing=preprocessing(64),
        precision="fp32",
        device="cpu",
    )


def clip_model() -> open_clip.CLIP:
    return seeded(lambda: open_clip.CLIP(**CLIP))


def clip(model: nn.Module | None = None, precision: str = "fp32") -> ClipBackbone:
    model = model or clip_model()
    return ClipBackbone(
        model,
        open_clip.SimpleTokenizer(context_length=16),
        tag="openclip:tiny",
        anatomy=clip_anatomy(model.visual),
        preprocessing=preprocessing(),
        precision=precision,
        device="cpu",
    )


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=rng)


def pixels(count: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def hooks_of(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def copies_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def saved(module: nn.Module, path: Path, **changes: Tensor | None) -> Path:
    """The state dict of `module` in a file, with entries replaced, added, or (None) left out; `__` stands for a dot."""
    state = {**module.state_dict(), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    save_file({name: tensor.contiguous() for name, tensor in state.items() if tensor is not None}, path)
    return path
