r"""What a task costs beside its gradient steps at the papers' sizes: 100 classes, 768 features, ViT-B/16 and CLIP.

    python benchmarks/parts_full_size.py [--images 5000] [--batch 8] [--expansion 2048]

A task is the last one of CIFAR-100 in ten: `images` new images of ten classes, ninety old classes. Each part is timed
once at its full size (random weights: the cost is the same), an image's gradient step on adapters and on the low-rank
factors of CLIP, with `batch` images. `share` is the part's time over that of the method's whole task at its default
epochs: gradient steps on images, one pass for features, and the parts. Alignment and the text stage are training, no
part of this share; the encoding of class names, once per change, is.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from cillab.backbones.clip import ClipBackbone, clip_anatomy
from cillab.backbones.lora import LoRA
from cillab.backbones.prompts import TextPrompt
from cillab.backbones.slots import AdapterSlot, Slots
from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.arrays import through_numpy
from cillab.core.contract import Backbone
from cillab.core.pixels import Preprocessing
from cillab.geometry.etf import nearest_etf
from cillab.learners.dmc_ot import DMCOTParams
from cillab.learners.min import MiNParams
from cillab.learners.ncptm import NCPTMParams
from cillab.parts.calibration import Pairs, gaussian
from cillab.parts.fitting import attention_for
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.least_squares import Ridge

import open_clip
import timm
import torch
import torch.nn.functional as F

HALF = (0.5, 0.5, 0.5)
VIEW = Preprocessing(224, 0.9, "bicubic", HALF, HALF)
CLASSES, NEW, DIM, TEXT_DIM = 100, 10, 768, 512


def seconds(what: Callable[[], Any], repeats: int = 3) -> float:
    """Median of a few calls after one that is thrown away."""
    what()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        what()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


def vit() -> Backbone:
    """ViT-B/16 with random weights."""
    module = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0)
    anatomy = timm_anatomy(module, "vit")
    tag = "timm:vit_base_patch16_224.augreg_in21k"
    return TimmBackbone(module, tag=tag, anatomy=anatomy, preprocessing=VIEW, precision="bf16")


def clip() -> ClipBackbone:
    """CLIP ViT-B/16 with random weights."""
    model = open_clip.create_model("ViT-B-16", pretrained=None)
    words = open_clip.get_tokenizer("ViT-B-16")
    anatomy = clip_anatomy(model.visual)
    return ClipBackbone(
        model, words, tag="openclip:ViT-B-16/openai", anatomy=anatomy, preprocessing=VIEW, precision="bf16"
    )


def image_costs(backbone: Backbone, delta: Any, batch: int) -> tuple[float, float]:
    """Seconds per image of a gradient step on `delta`, and of a pass without gradient."""
    pixels = torch.randn(batch, 3, 224, 224)
    trained = list(delta.parameters())
    for parameter in trained:
        parameter.requires_grad_(True)

    def step() -> None:
        with torch.enable_grad(), attention_for(backbone), backbone.wearing(delta):
            backbone.embed(pixels).square().mean().backward()

    def look() -> None:
        with torch.no_grad(), backbone.wearing(delta):
            backbone.embed(pixels)

    return seconds(step) / batch, seconds(look) / batch


def statistics(images: int, dim: int) -> tuple[GaussianMemory, float]:
    """A memory of 90 old classes, and the time to add the task's images and to take roots of all covariances."""
    draws = torch.Generator().manual_seed(0)
    old = GaussianMemory(dim)
    old.add(torch.randn(90 * 20, dim, generator=draws), torch.arange(90).repeat_interleave(20))
    h, y = torch.randn(images, dim, generator=draws), torch.arange(90, 100).repeat_interleave(images // NEW)

    def add() -> GaussianMemory:
        memory = old.only(old.classes)
        memory.add(h, y)
        memory.sample(1, draws)
        return memory

    return add(), seconds(add)


def report(name: str, task: float, parts: dict[str, float]) -> None:
    """One line: the task's seconds, and each part's share of it."""
    whole = task + sum(parts.values())
    shares = {part: round(cost / whole, 4) for part, cost in parts.items()}
    print(json.dumps({"learner": name, "task_s": round(whole, 1), "parts_s": {k: round(v, 2) for k, v in parts.items()},
                      "share": round(sum(parts.values()) / whole, 4), "shares": shares}), flush=True)  # fmt: skip


def main(images: int, batch: int, expansion: int) -> None:
    """The two image methods on the ViT, dmc-ot on CLIP."""
    backbone = vit()
    adapters = Slots.everywhere(
        backbone, "mlp", lambda layer: AdapterSlot(DIM, 64, 0.1, generator=torch.Generator().manual_seed(layer))
    )
    step, look = image_costs(backbone, adapters, batch)
    memory, add = statistics(images, DIM)
    simplex = seconds(lambda: through_numpy(nearest_etf, memory.means, memory.means))
    # a later task of ncptm has no gradient step on images at all; the first one has
    first = NCPTMParams().fit.epochs * step + look
    report("ncptm, first task", images * first, {"statistics": add, "simplex": simplex})
    report("ncptm, later task", images * look, {"statistics": add, "simplex": simplex})

    ridge = Ridge(expansion, 10.0)
    ridge.grow(tuple(range(CLASSES)))
    phi, labels = F.relu(torch.randn(images, expansion)), torch.randint(0, CLASSES, (images,))
    sums = seconds(lambda: ridge.add(phi, labels), repeats=1)
    solve = seconds(ridge.solve, repeats=1)
    how = MiNParams()
    passes = how.augmented_passes + 2  # augmented, clean, prototype
    report(f"min, D = {expansion}", images * (how.fit.epochs * step + passes * look),
           {"ridge sums": sums * (how.augmented_passes + 1), "ridge solutions": 2 * solve})  # fmt: skip

    del backbone, ridge, phi
    towers = clip()
    delta = LoRA(towers, 8, 8.0, generator=torch.Generator().manual_seed(0))
    step, look = image_costs(towers, delta, batch)
    memory, add = statistics(images, TEXT_DIM)
    old = memory.only(tuple(range(90)))
    pairs = Pairs(
        torch.randn(images, TEXT_DIM), torch.randn(images, TEXT_DIM), torch.arange(90, 100).repeat(images // NEW)
    )
    transport = seconds(lambda: gaussian(old, pairs))
    prompt = TextPrompt(towers, "a photo of a", generator=torch.Generator().manual_seed(0))
    names = [f"class number {number}" for number in range(CLASSES)]
    with torch.no_grad():
        text = seconds(lambda: prompt.prototypes(names), repeats=1)
    report("dmc-ot", images * (DMCOTParams().fit.epochs * step + 2 * look),
           {"statistics": add, "transport": transport, "names": text})  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--expansion", type=int, default=2048)
    options = parser.parse_args()
    main(options.images, options.batch, options.expansion)
