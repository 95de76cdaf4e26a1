r"""The fitting loop against a bare forward/backward loop on pixels that are ready in memory.

    python benchmarks/fitting.py [--backbone timm:deit_tiny_patch16_224.fb_in1k] \
        [--weights FILE] [--image-size 96]

Both train all weights of the backbone and a linear head with SGD on the same number of images, under the same
precision. Ours also shuffles, crops, mirrors and normalises every batch and yields its progress. The two take turns,
and the result is the ratio of their medians in images per second: 1 means that the loop costs nothing. On a busy
machine read the ratio of processor times, which counts what the two did and not what they waited for, and that of the
fastest rounds: neighbours on the same caches can only slow a round down.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator

from cillab.backbones import make_backbone
from cillab.backbones.overlay import Overlay
from cillab.core.contract import Backbone, Task
from cillab.parts.fitting import Fit, attention_for, fit
from cillab.parts.heads import Linear

import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 10


class InMemory(Task):
    """Random images with random labels: what they show does not matter here."""

    def __init__(self, count: int, side: int, device: torch.device) -> None:
        rng = torch.Generator().manual_seed(0)
        self.index, self.classes = 0, tuple(range(CLASSES))
        self.class_names = {c: str(c) for c in self.classes}
        self.images = torch.randint(0, 256, (count, 3, side, side), generator=rng, dtype=torch.uint8).to(device)
        self.labels = torch.randint(0, CLASSES, (count,), generator=rng).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int, shuffle: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """As every task: each image once."""
        order = torch.arange(len(self)) if shuffle is None else torch.randperm(len(self), generator=shuffle)
        for chosen in order.to(self.images.device).split(batch_size):
            yield self.images[chosen], self.labels[chosen]


def measure(backbone: Backbone, task: InMemory, how: Fit, rounds: int, compare_attention: bool) -> dict[str, object]:
    """Images per second of both loops (or of both attention kernels in the bare one), medians over `rounds`."""
    head = Linear(backbone.feature_dim).to(backbone.device)
    head.grow(task.classes)
    theta = Overlay(backbone, "*")
    ready = backbone.pixels(task.images)

    def loss(pixels: Tensor, labels: Tensor) -> Tensor:
        with backbone.wearing(theta):
            return F.cross_entropy(head(backbone.embed(pixels)), labels)

    def fused() -> None:
        """A bare step under torch's own choice of attention kernel."""
        theta.requires_grad_(True)
        for pixels, labels in zip(ready.split(how.batch_size), task.labels.split(how.batch_size), strict=True):
            loss(pixels, labels).backward()
        theta.requires_grad_(False)

    def chosen() -> None:
        """The same under the kernel that `fit` chooses."""
        with attention_for(backbone):
            fused()

    def ours() -> None:
        parameters = [*head.parameters(), *theta.parameters()]
        for _ in fit(task, backbone, parameters, loss, how, seed=0, stage="benchmark"):
            pass

    def bare() -> None:
        parameters = [*head.parameters(), *theta.parameters()]
        optimiser = torch.optim.SGD(parameters, how.lr, momentum=how.momentum, weight_decay=how.weight_decay)
        for parameter in parameters:
            parameter.requires_grad_(True)
        with attention_for(backbone), backbone.wearing(theta):
            for pixels, labels in zip(ready.split(how.batch_size), task.labels.split(how.batch_size), strict=True):
                optimiser.zero_grad(set_to_none=True)
                F.cross_entropy(head(backbone.embed(pixels)), labels).backward()
                optimiser.step()
        for parameter in parameters:
            parameter.requires_grad_(False)

    base, other = (fused, chosen) if compare_attention else (bare, ours)
    seconds: dict[str, list[float]] = {base.__name__: [], other.__name__: []}
    processor: dict[str, list[float]] = {base.__name__: [], other.__name__: []}
    for way in (base, other):  # warm up
        way()
    for turn in range(rounds):
        for way in (base, other) if turn % 2 else (other, base):
            began = time.process_time()
            seconds[way.__name__].append(timed(way, backbone.device))
            processor[way.__name__].append(time.process_time() - began)
    speed = {name: len(task) / statistics.median(values) for name, values in seconds.items()}
    pairs = sorted(b / o for b, o in zip(seconds[base.__name__], seconds[other.__name__], strict=True))
    return {
        "images_per_second": {name: round(value, 1) for name, value in speed.items()},
        "ratio": round(speed[other.__name__] / speed[base.__name__], 3),
        "ratio_of_pairs": [round(statistics.median(pairs), 3), round(pairs[0], 3), round(pairs[-1], 3)],
        "ratio_of_processor_time": round(
            statistics.median(processor[base.__name__]) / statistics.median(processor[other.__name__]), 3
        ),
        "ratio_of_fastest": round(min(processor[base.__name__]) / min(processor[other.__name__]), 3),
    }


def timed(way: Callable[[], None], device: torch.device) -> float:
    """Seconds of one call, the device's queue included."""
    start = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="bundled:vit")
    parser.add_argument("--weights")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--stored-size", type=int, default=64, help="side of the stored images")
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compare-attention", action="store_true", help="torch's kernel against the one `fit` uses")
    args = parser.parse_args()
    backbone = make_backbone(args.backbone, weights=args.weights, image_size=args.image_size, precision=args.precision)
    task = InMemory(args.images, args.stored_size, backbone.device)
    found = measure(backbone, task, Fit(epochs=1, lr=1e-4), args.rounds, args.compare_attention)
    about = {
        "benchmark": "fitting",
        "backbone": backbone.tag,
        "image_size": backbone.preprocessing.size,
        "precision": backbone.precision,
        "device": str(backbone.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    print(json.dumps(about | found))


if __name__ == "__main__":
    main()
