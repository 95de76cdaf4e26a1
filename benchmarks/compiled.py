r"""Steps of adapters on a compiled backbone, against a bare model that has the same adapters built in.

    python benchmarks/compiled.py [--backbone timm:deit_tiny_patch16_224.fb_in1k --weights FILE --image-size 96] \
        [--images 64] [--rounds 5]

Four loops take turns on pixels that are ready in memory, each with one adapter beside every MLP, a linear head and SGD:
ours and a bare timm model, both as written and compiled. The bare model is compiled whole. CPU seconds of a step, the
fastest round of each, and what each is of the bare compiled loop (images per second over images per second). The first
calls, which compile, are not counted; their seconds are given.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from typing import Any

from cillab.backbones import AdapterSlot, Slots, make_backbone
from cillab.core import rng

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES, BOTTLENECK = 10, 64


class Beside(nn.Module):
    """An MLP with an adapter beside it."""

    def __init__(self, mlp: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.mlp, self.adapter = mlp, adapter

    def forward(self, tokens: Tensor) -> Tensor:
        """The sum of both."""
        return self.mlp(tokens) + self.adapter(tokens)


def adapter(dim: int, index: int) -> AdapterSlot:
    """The same for both: what a step costs does not depend on it, what it gives does."""
    return AdapterSlot(dim, BOTTLENECK, generator=rng.stream(index, "benchmark"))


def bare(backbone: Any, compiled: bool) -> nn.Module:
    """The model with adapters built in, and a head."""
    model = copy.deepcopy(backbone.module).requires_grad_(False)
    for index, block in enumerate(model.blocks):
        block.mlp = Beside(block.mlp, adapter(backbone.feature_dim, index).requires_grad_(True))
    whole = nn.Sequential(model, nn.Linear(backbone.feature_dim, CLASSES))
    if compiled:
        whole.compile()
    return whole


class Ours(nn.Module):
    """A backbone that wears adapters, and a head."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.worn = Slots.everywhere(backbone, "mlp", lambda index: adapter(backbone.feature_dim, index))
        self.worn.requires_grad_(True)
        self.head = nn.Linear(backbone.feature_dim, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores."""
        with self.backbone.wearing(self.worn):
            return self.head(self.backbone.embed(pixels))


def made(args: argparse.Namespace, compiled: bool = False) -> Any:
    """The backbone that is asked for."""
    return make_backbone(
        args.backbone, weights=args.weights, image_size=args.image_size, precision="fp32", compile=compiled
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="bundled:vit")
    parser.add_argument("--weights")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    plain = made(args)
    size = plain.preprocessing.size
    pixels = torch.randn(args.images, 3, size, size, generator=rng.stream(0, "pixels"))
    labels = torch.arange(args.images) % CLASSES
    ways = {
        "bare": bare(plain, False), "bare, compiled": bare(plain, True),
        "ours": Ours(plain), "ours, compiled": Ours(made(args, True)),
    }  # fmt: skip
    steps = {name: stepping(answer, pixels, labels) for name, answer in ways.items()}
    first = {name: round(cpu(step), 1) for name, step in steps.items()}
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(args.rounds):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            seconds[name].append(cpu(steps[name]))
    best = {name: min(found) for name, found in seconds.items()}
    about = {"benchmark": "compiled", "backbone": plain.tag, "image_size": size, "images": args.images}
    print(
        json.dumps(
            about
            | {
                "threads": torch.get_num_threads(),
                "first_call_s": first,
                "step_s": {name: round(value, 3) for name, value in best.items()},
                "of_bare_compiled": {name: round(best["bare, compiled"] / value, 3) for name, value in best.items()},
            }
        )
    )


def stepping(answer: nn.Module, pixels: Tensor, labels: Tensor) -> Callable[[], None]:
    """One step of SGD on what can be trained."""
    trained = [parameter for parameter in answer.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, 0.01, momentum=0.9)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(answer(pixels), labels).backward()
        optimiser.step()

    return step


def cpu(step: Callable[[], None]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    step()
    return time.process_time() - began


if __name__ == "__main__":
    main()
