"""A forward pass in bf16 against the same in fp32: is `precision=auto` right on this machine?

    python benchmarks/precision.py [--backbone timm:deit_tiny_patch16_224.fb_in1k] [--weights FILE] [--image-size 96]

Both take turns on the same pixels; the result is the ratio of median CPU times, so other work on the machine counts
little. Above 1, bf16 is faster.
"""

import argparse
import json
import statistics
import time

from cillab.backbones import make_backbone
from cillab.backbones.computing import resolve_precision

import torch


def main() -> None:
    """One JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="bundled:vit")
    parser.add_argument("--weights")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    backbones = {
        precision: make_backbone(
            asked.backbone, precision=precision, weights=asked.weights, image_size=asked.image_size
        )
        for precision in ("fp32", "bf16")
    }  # fmt: skip
    size = backbones["fp32"].preprocessing.size
    x = torch.rand(asked.images, 3, size, size, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {precision: [] for precision in backbones}
    for turn in range(asked.rounds + 1):
        for precision, backbone in backbones.items():
            began = time.process_time()
            with torch.inference_mode(), backbone.autocast():
                backbone.module(x)
            if turn:  # the first packs weights
                seconds[precision].append(time.process_time() - began)
    median = {precision: statistics.median(values) for precision, values in seconds.items()}
    print(json.dumps({
        "backbone": asked.backbone, "size": size, "amx": torch.cpu._is_amx_tile_supported(),
        "fp32 / bf16": round(median["fp32"] / median["bf16"], 2),
        "images a CPU second": {name: round(asked.images / value, 1) for name, value in median.items()},
        "auto": resolve_precision("auto", torch.device("cpu")),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
