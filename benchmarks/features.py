"""Feature extraction through `backbone(images)` against a bare forward loop on pixels that are ready in memory.

    python benchmarks/features.py [--backbone timm:deit_tiny_patch16_224.fb_in1k] [--weights FILE] [--image-size 96]

Both do the same forward passes under the same precision on the same batches; ours also hashes every image, crops,
normalises, and remembers the features. The two take turns (a machine drifts more within a minute than they differ),
and the result is the ratio of their medians in images per second: 1 means that the library costs nothing.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

from cillab.backbones import FrozenBackbone, make_backbone
from cillab.backbones.frozen import CHUNK

import torch
import torch.nn.functional as F


def measure(
    backbone: FrozenBackbone, images: torch.Tensor, rounds: int, clock: Callable[[], float]
) -> dict[str, object]:
    """Images per second of both ways and of a second look at the same images, medians over `rounds`."""
    ready = backbone.pixels(images)

    def bare() -> torch.Tensor:
        with backbone.autocast():
            return torch.cat([backbone.module(batch).float() for batch in ready.split(CHUNK)])

    def ours() -> torch.Tensor:
        backbone.memory.clear()
        return backbone(images)

    def again() -> torch.Tensor:
        return backbone(images)

    with torch.no_grad():
        apart = 1 - F.cosine_similarity(bare(), ours()).min().item()  # warms both up, too
        seconds: dict[str, list[float]] = {"bare": [], "ours": [], "again": []}
        for turn in range(rounds):
            ways = (bare, ours) if turn % 2 else (ours, bare)
            for way in (*ways, again):
                seconds[way.__name__].append(timed(way, backbone.device, clock))
    speed = {name: len(images) / statistics.median(values) for name, values in seconds.items()}
    pairs = sorted(bare / own for bare, own in zip(seconds["bare"], seconds["ours"], strict=True))
    return {
        "images_per_second": {name: round(value, 1) for name, value in speed.items()},
        "ratio": round(speed["ours"] / speed["bare"], 3),
        "ratio_of_fastest": round(min(seconds["bare"]) / min(seconds["ours"]), 3),  # least moved by other programs
        "ratio_of_pairs": [round(statistics.median(pairs), 3), round(pairs[0], 3), round(pairs[-1], 3)],
        "largest_cosine_distance": apart,
    }


def timed(way: Callable[[], torch.Tensor], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of one call, the device's queue included."""
    start = clock()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="bundled:vit")
    parser.add_argument("--weights")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--stored-size", type=int, help="side of the stored images; default: the backbone's canvas")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--cpu-time", action="store_true", help="one thread, its CPU seconds: for a machine that is busy"
    )
    args = parser.parse_args()
    if args.cpu_time:
        torch.set_num_threads(1)
    backbone = make_backbone(args.backbone, weights=args.weights, image_size=args.image_size, precision=args.precision)
    side = args.stored_size or backbone.preprocessing.resize
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (args.images, 3, side, side), dtype=torch.uint8, generator=rng).to(backbone.device)
    clock = time.process_time if args.cpu_time else time.perf_counter
    setting = {
        "backbone": backbone.tag,
        "precision": backbone.precision,
        "device": str(backbone.device),
        "clock": "cpu" if args.cpu_time else "wall",
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "images": args.images,
        "stored_px": side,
        "input_px": backbone.preprocessing.size,
    }
    print(json.dumps({**setting, **measure(backbone, images, args.rounds, clock)}, indent=2))


if __name__ == "__main__":
    main()
