r"""A training step of each method against the bare forward/backward pass of the parts that it trains.

    python benchmarks/methods.py [--classes 20] [--per-class 40] [--full-size] [LEARNER ...]

Every method learns two tasks of shields on the bundled model, or (`--full-size`) on a ViT-B/16, for CLIP with its text
tower, with random weights, where a step costs what it costs in the papers; the second task is measured. "bare" wears
the same deltas on the same backbone, trains the same parameters with the same optimiser, and its loss is the mean
square of the features (and of the class texts, where a prompt is trained): no augmentation, no memory, no progress, no
statistics. The two take turns, step by step, so that whatever else the machine does meets both; `step` is the median
over steps of the ratio of their times. `beside` is the share of the task's time that is spent outside gradient steps
and outside passes of images through the backbone: statistics, simplex, transport, sampling, encoding of class names.

    python benchmarks/methods.py --adapters 10 [--full-size]

`each` is the time of one joint pass over so many adapters (EASE, MOS) over that of a pass for each, on images that no
memory knows: the median over rounds in which the two take turns, for one image, eight and 128.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import cillab
import parts_full_size
from cillab.backbones.prompts import TextPrompt
from cillab.backbones.slots import AdapterSlot, Slots
from cillab.core.contract import Learner, Task
from cillab.learners import learners
from cillab.learners.checks import learn
from cillab.parts import fitting
from cillab.parts.fitting import Fit, attention_for
from cillab.parts.text_head import TextHead

import torch
from torch import Tensor, nn

DEFAULT = ("finetune", "min", "ncptm", "coop", "dmc", "dmc-ot", "cpt")
TURNS = 60  # steps of a stage that are compared
IMAGE_STAGES = ("finetune", "noise", "adapt", "images", "prompts", "joint")


class Watch:
    """Notes what is trained in which stage, and how long the backbone and the steps take."""

    def __init__(self, learner: Learner[Any]) -> None:
        self.learner, self.backbone = learner, learner.backbone  # pyright: ignore[reportAttributeAccessIssue]
        self.trained: dict[str, tuple[list[nn.Parameter], Fit]] = {}
        self.worn: tuple[Any, ...] = ()
        self.seconds: dict[str, float] = {}
        self.backbone_seconds = 0.0

    def __enter__(self) -> "Watch":
        self._embed, self._descend = self.backbone.embed, fitting.descend

        def embed(pixels: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                self.worn = tuple(self.backbone._worn)
            began = time.perf_counter()
            out = self._embed(pixels)
            if not torch.is_grad_enabled():
                self.backbone_seconds += time.perf_counter() - began
            return out

        def descend(batches: Any, steps: int, parameters: Any, loss: Any, how: Fit, **more: Any) -> Iterator[Any]:
            groups = [g if isinstance(g, dict) else {"params": [g]} for g in parameters]
            groups = [{**g, "params": list(g["params"])} for g in groups]
            self.trained[more["stage"]] = ([p for g in groups for p in g["params"]], how)
            return self._descend(batches, steps, groups, loss, how, **more)

        self.backbone.embed = embed
        self._hosts = [m for m in list(sys.modules.values()) if vars(m).get("descend") is self._descend]
        for module in self._hosts:
            module.__dict__["descend"] = descend
        return self

    def __exit__(self, *_: object) -> None:
        del self.backbone.embed
        for module in self._hosts:
            module.__dict__["descend"] = self._descend

    def observe(self, task: Task, bare: "Bare") -> float:
        """Seconds of the whole task without its bare steps; those of each stage stand in `seconds`."""
        whole = 0.0
        began = time.perf_counter()
        for progress in self.learner.observe(task):
            stage, took = progress.stage, time.perf_counter() - began
            whole += took
            self.seconds[stage] = self.seconds.get(stage, 0.0) + took
            if stage in self.trained and 1 < progress.step <= TURNS:  # the first step also sets the stage up
                bare.turn(self, stage, took)
            began = time.perf_counter()
        return whole + time.perf_counter() - began


class Bare:
    """Steps of the parameters that a stage trains, and of nothing else, in turn with those of the stage."""

    def __init__(self, pixels: Callable[[int], Tensor], names: Callable[[], list[str]]) -> None:
        self.pixels, self.names = pixels, names
        self.turns: dict[str, list[tuple[float, float]]] = {}
        self._kept: dict[str, tuple[torch.optim.Optimizer, TextPrompt | None, Tensor]] = {}

    def turn(self, watch: Watch, stage: str, took: float) -> None:
        """One bare step, beside a step of the stage that took so many seconds."""
        optimiser, prompt, pixels = self._kept.get(stage) or self._kept.setdefault(stage, self._ready(watch, stage))
        if stage not in IMAGE_STAGES and prompt is None:
            return  # a stage on features: there is no backbone in it to compare with
        began = time.perf_counter()
        with torch.enable_grad(), attention_for(watch.backbone):
            terms = []
            if stage in IMAGE_STAGES:
                with watch.backbone.wearing(*watch.worn):
                    terms.append(watch.backbone.embed(pixels).square().mean())
            if prompt is not None:
                head = watch.learner.parts().get("classifier")
                rows = head.encode() if isinstance(head, TextHead) else prompt.encode(self.names())
                terms.append(rows.square().mean())
            optimiser.zero_grad(set_to_none=True)
            torch.stack(terms).sum().backward()
        optimiser.step()
        self.turns.setdefault(stage, []).append((took, time.perf_counter() - began))

    def _ready(self, watch: Watch, stage: str) -> tuple[torch.optim.Optimizer, TextPrompt | None, Tensor]:
        trained, how = watch.trained[stage]
        prompts = [part for part in watch.learner.parts().values() if isinstance(part, TextPrompt)]
        prompt = next((one for one in prompts if any(p is q for p in trained for q in one.parameters())), None)
        still = how.model_copy(update={"lr": 1e-12, "weight_decay": 0.0})  # nothing is learnt by bare steps
        return fitting._optimiser([{"params": trained}], still), prompt, self.pixels(how.batch_size)


def measure(name: str, classes: int, per_class: int, full_size: bool) -> Iterator[dict[str, Any]]:
    """One record per stage with gradient steps."""
    kind = "clip" if "clip" in learners[name].capabilities.needs else "vit"
    backbone = getattr(parts_full_size, kind)() if full_size else cillab.backbone(f"bundled:{kind}")
    stream = cillab.stream("shields", split=f"B0-Inc{classes // 2}", train_per_class=per_class)[:2].on(backbone)
    learner = cillab.learner(name, backbone)
    if name != "ncptm":  # its adapters train in the first task alone
        learn(learner, stream[0])
    bare = Bare(
        lambda size: backbone.pixels(next(stream[0].batches(size))[0]),
        lambda: [stream.class_names[c] for c in learner.seen],
    )
    with Watch(learner) as watch:
        whole = watch.observe(stream[0 if name == "ncptm" else 1], bare)
    gradient = sum(watch.seconds[stage] for stage in watch.trained)
    beside = max(0.0, whole - gradient - watch.backbone_seconds)
    for stage, turns in bare.turns.items():
        yield {"learner": name, "stage": stage, "step_ms": 1000 * median(own for own, _ in turns),
               "bare_ms": 1000 * median(other for _, other in turns),
               "step": median(own / other for own, other in turns), "n": len(turns),
               "beside": beside / whole, "task_s": whole}  # fmt: skip


def abreast(count: int, full_size: bool, rounds: int = 7) -> Iterator[dict[str, Any]]:
    """One record per number of images."""
    backbone = parts_full_size.vit() if full_size else cillab.backbone("bundled:vit")
    draws = torch.Generator().manual_seed(0)
    sets = [
        Slots.everywhere(backbone, "mlp", lambda _: AdapterSlot(backbone.token_dim, 16, generator=draws))
        for _ in range(count)
    ]
    stored = next(iter(cillab.stream("shields", train_per_class=13)[0].batches(128)))[0]

    def one_by_one(images: Tensor) -> None:
        for one in sets:
            with backbone.wearing(one):
                backbone(images)

    def timed(run: Callable[[], object]) -> float:
        backbone.memory.clear()  # pyright: ignore[reportAttributeAccessIssue]
        began = time.perf_counter()
        with torch.no_grad():
            run()
        if backbone.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    for images in (stored[:1], stored[:8], stored):
        turns = [
            (timed(partial(backbone.each, images, sets)), timed(partial(one_by_one, images))) for _ in range(rounds)
        ]
        yield {"adapters": count, "images": len(images), "each": median(joint / apart for joint, apart in turns),
               "joint_ms": 1000 * median(joint for joint, _ in turns), "n": rounds}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("learners", nargs="*", default=list(DEFAULT))
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--full-size", action="store_true", help="ViT-B/16 with random weights")
    parser.add_argument("--adapters", type=int, help="compare a joint pass over so many with a pass for each")
    options = parser.parse_args()
    runs = (
        [abreast(options.adapters, options.full_size)]
        if options.adapters
        else [measure(name, options.classes, options.per_class, options.full_size) for name in options.learners]
    )
    for run in runs:
        for record in run:
            print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}), flush=True)
