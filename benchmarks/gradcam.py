"""Milliseconds an image of batched Grad-CAM, beside a full backward pass in the same run.

    python benchmarks/gradcam.py [--model vit_tiny_patch16_224] [--size 224] [--batch 32] [--repeats 5]

Random weights: time does not depend on them. One JSON line; compare ratios of one run, never two runs.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

from cillab.backbones.vision import TimmBackbone, timm_anatomy
from cillab.core.pixels import Preprocessing, normalise
from cillab.explain.gradcam import maps_of
from cillab.explain.layers import cam_layer

import timm
import torch

HALF = (0.5, 0.5, 0.5)


def random_vit(model: str, size: int) -> TimmBackbone:
    """A timm ViT with random weights for images of `size` pixels."""
    module = timm.create_model(model, num_classes=0, img_size=size)
    preprocessing = Preprocessing(size, 1.0, "bicubic", HALF, HALF)
    tag, anatomy = f"random:{model}", timm_anatomy(module, "vit")
    return TimmBackbone(module, tag=tag, anatomy=anatomy, preprocessing=preprocessing, precision="fp32", device="cpu")


def milliseconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Wall time of each call after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    """Time the cut graph, the full backward pass, and a single image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    backbone = random_vit(given.model, given.size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (given.batch, 3, given.size, given.size), generator=generator, dtype=torch.uint8)
    layer = cam_layer(backbone)

    def cut(count: int) -> Any:
        return maps_of(backbone, lambda where: {"first": backbone(images[where])[:, 0]}, count, batch_size=given.batch)

    def full() -> None:
        pixels = normalise(images, HALF, HALF).requires_grad_()
        with backbone.tap(layer) as taps:
            score = backbone.embed(pixels)[:, 0].sum()
        torch.autograd.grad(score, [taps[layer], pixels])  # down to the input, as hooks on a live model do

    def forward() -> None:
        with torch.no_grad():  # `embed` remembers nothing
            backbone.embed(normalise(images, HALF, HALF))

    spread = {}
    for name, work, count in (
        ("forward", forward, given.batch),
        ("gradcam", lambda: cut(given.batch), given.batch),
        ("full_backward", full, given.batch),
        ("gradcam_single", lambda: cut(1), 1),
    ):
        times = [t / count for t in milliseconds(work, given.repeats)]
        spread[name] = {"median": statistics.median(times), "least": min(times), "most": max(times)}
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    setting = {"model": given.model, "size": given.size, "batch": given.batch, "torch": torch.__version__, **machine}
    print(json.dumps({"unit": "ms per image", **setting, **spread}))


if __name__ == "__main__":
    main()
