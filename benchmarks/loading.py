"""Training views per second: the library's batched crop-resize-flip against the usual ways, interleaved in one run.

    python benchmarks/loading.py [--device cuda] [--out FILE.json]

Every way makes the same thing from the same images: uint8 32 px (CIFAR) -> random-resized-crop, flip, resize, normalise
-> float32 batches. Interleaved rounds, medians. On a CPU the clock counts CPU seconds of one thread, so that neighbours
on the machine do not count; on a GPU it is the wall clock.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cillab.core.pixels import normalise
from cillab.streams.loading import Augment

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def ours(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    augment = Augment()
    drawn = augment.draw(rng, len(images), *images.shape[2:])
    return normalise(augment.apply(images, drawn, size), MEAN, STD)


def grid_sample(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """The usual trick on a GPU: bilinear, no antialiasing, so not the same picture when it shrinks."""
    n, _, height, width = images.shape
    drawn = Augment().draw(rng, n, height, width)
    top, left, box_height, box_width = drawn.boxes.to(images.device).unbind(1)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0] = box_width / width * (1 - 2 * drawn.mirrored.to(images.device).float())
    theta[:, 1, 1] = box_height / height
    theta[:, 0, 2] = (2 * left + box_width) / width - 1
    theta[:, 1, 2] = (2 * top + box_height) / height - 1
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    return normalise(F.grid_sample(images.float(), grid, align_corners=False, padding_mode="border"), MEAN, STD)


def pil_loader(images: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Torchvision transforms on PIL images, one by one, as a DataLoader without workers does."""
    del rng  # torchvision draws from the global generator
    how = T.InterpolationMode.BICUBIC
    steps = T.Compose(
        [
            T.RandomResizedCrop(size, (0.05, 1.0), interpolation=how),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    views = [torch.as_tensor(steps(Image.fromarray(array))) for array in arrays]
    return torch.stack(views).to(images.device)


def seconds(way: Callable[..., Tensor], images: Tensor, size: int) -> float:
    rng = torch.Generator().manual_seed(0)
    clock = time.perf_counter if images.is_cuda else time.process_time
    start = clock()
    way(images, size, rng)
    if images.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ways = {"cillab": ours, "grid_sample": grid_sample, "pil loader": pil_loader}
    rows = []
    for source, size, count in ((32, 96, 256), (32, 224, 64), (248, 224, 64)):
        images = torch.randint(0, 256, (count, 3, source, source), dtype=torch.uint8).to(given.device)
        for way in ways.values():
            seconds(way, images, size)  # warm-up
        times = {name: list[float]() for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                times[name].append(seconds(way, images, size))
        speed = {name: count / statistics.median(found) for name, found in times.items()}
        ratios = {name: speed["cillab"] / speed[name] for name in ways if name != "cillab"}
        rows.append({"from_px": source, "to_px": size, "images_per_second": speed, "cillab_is_faster_by": ratios})
        shown = "   ".join(f"{name} {value:8.0f}/s" for name, value in speed.items())
        factors = ", ".join(f"{value:.2f} x {name}" for name, value in ratios.items())
        print(f"{source:4} -> {size:3} px   {shown}   cillab = {factors}")
    if given.out:
        facts = {"torch": torch.__version__, "device": given.device, "machine": platform.platform()}
        given.out.write_text(json.dumps({**facts, "threads": torch.get_num_threads(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
