r"""A training step of each method against the bare forward/backward pass of the parts that it trains.

    python benchmarks/methods.py [--classes 20] [--per-class 40] [--full-size] [LEARNER ...]

Every method learns two tasks of shields on the bundled model, or (`--full-size`) on a ViT-B/16, for CLIP with its text
tower, with random weights, where a step costs what it costs in the papers; the second task is measured. "bare" wears
the same deltas on the same backbone, trains the same parameters with the same optimiser, and its loss is the mean
square of the features (and of the class texts, where a prompt is trained): no augmentation, no memory, no progress, no
statistics. `step` is the ratio of the two times per step, `beside` the share of the task's time that is spent outside
gradient steps and outside passes of images through the backbone: statistics, simplex, transport, sampling, encoding of
class names.
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import parts_full_size
import torch
from torch import Tensor, nn

import cillab
from cillab.backbones.prompts import TextPrompt
from cillab.core.contract import Learner, Task
from cillab.learners import learners
from cillab.learners.checks import learn
from cillab.parts import fitting
from cillab.parts.fitting import FitParams, attention_for
from cillab.parts.text_head import TextHead

DEFAULT = ("finetune", "min", "ncptm", "coop", "dmc", "dmc-ot", "cpt")
IMAGE_STAGES = ("finetune", "noise", "adapt", "images", "prompts", "joint")


class Watch:
    """Notes what is trained in which stage, and how long the backbone and the steps take."""

    def __init__(self, learner: Learner[Any]) -> None:
        self.learner, self.backbone = learner, learner.backbone  # pyright: ignore[reportAttributeAccessIssue]
        self.trained: dict[str, tuple[list[nn.Parameter], FitParams]] = {}
        self.worn: tuple[Any, ...] = ()
        self.seconds: dict[str, float] = {}
        self.steps: dict[str, int] = {}
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

        def descend(batches: Any, steps: int, parameters: Any, loss: Any, how: FitParams, **more: Any) -> Iterator[Any]:
            groups = [g if isinstance(g, dict) else {"params": [g]} for g in parameters]
            groups = [{**g, "params": list(g["params"])} for g in groups]
            self.trained[more["stage"]] = ([p for g in groups for p in g["params"]], how)
            return self._descend(batches, steps, groups, loss, how, **more)

        self.backbone.embed = embed
        for name in ("fitting", "decoupled", "prompting"):
            module = __import__(f"cillab.parts.{name}", fromlist=[name])
            if hasattr(module, "descend"):
                module.descend = descend
        return self

    def __exit__(self, *_: object) -> None:
        del self.backbone.embed
        for name in ("fitting", "decoupled", "prompting"):
            module = __import__(f"cillab.parts.{name}", fromlist=[name])
            if hasattr(module, "descend"):
                module.descend = self._descend

    def observe(self, task: Task) -> float:
        """Seconds of the whole task; those of each stage stand in `seconds`."""
        whole = began = time.perf_counter()
        for progress in self.learner.observe(task):
            now = time.perf_counter()
            self.seconds[progress.stage] = self.seconds.get(progress.stage, 0.0) + now - began
            self.steps[progress.stage] = self.steps.get(progress.stage, 0) + 1
            began = now
        return time.perf_counter() - whole


def bare_step(watch: Watch, stage: str, pixels: Tensor, names: list[str], steps: int = 12) -> float:
    """Median seconds of forward, backward and optimiser step of the parameters that `stage` trained."""
    trained, how = watch.trained[stage]
    prompt = next((p for p in watch.learner.parts().values() if isinstance(p, TextPrompt)), None)
    texts = prompt if prompt is not None and any(p is q for p in trained for q in prompt.parameters()) else None
    optimiser = fitting._optimiser([{"params": trained}], how.model_copy(update={"lr": 1e-12, "weight_decay": 0.0}))
    fitting._require_grad(trained, True)
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        with torch.enable_grad(), attention_for(watch.backbone):
            terms = []
            if stage in IMAGE_STAGES:
                with watch.backbone.wearing(*watch.worn):
                    terms.append(watch.backbone.embed(pixels).square().mean())
            if texts is not None:
                head = watch.learner.parts().get("text")
                rows = head.encode() if isinstance(head, TextHead) else texts.encode(names)
                terms.append(rows.square().mean())
            optimiser.zero_grad(set_to_none=True)
            torch.stack(terms).sum().backward()
        optimiser.step()
        times.append(time.perf_counter() - began)
    fitting._require_grad(trained, False)
    return sorted(times[2:])[len(times[2:]) // 2]


def measure(name: str, classes: int, per_class: int, full_size: bool) -> Iterator[dict[str, Any]]:
    """One record per stage with gradient steps."""
    kind = "clip" if "clip" in learners[name].capabilities.needs else "vit"
    backbone = getattr(parts_full_size, kind)() if full_size else cillab.backbone(f"bundled:{kind}")
    stream = cillab.stream("shields", split=f"B0-Inc{classes // 2}", train_per_class=per_class)[:2].on(backbone)
    learner = cillab.learner(name, backbone)
    if name != "ncptm":  # its adapters train in the first task alone
        learn(learner, stream[0])
    with Watch(learner) as watch:
        whole = watch.observe(stream[0 if name == "ncptm" else 1])
        names = [stream.class_names[c] for c in learner.seen]
        gradient = sum(watch.seconds[stage] for stage in watch.trained)
        beside = max(0.0, whole - gradient - watch.backbone_seconds)
        for stage, (_, how) in watch.trained.items():
            pixels = backbone.pixels(stream[0].batches(how.batch_size).__next__()[0])
            try:
                bare = bare_step(watch, stage, pixels, names)
            except (RuntimeError, StopIteration):  # a stage on features: there is no backbone in it to compare with
                continue
            own = watch.seconds[stage] / watch.steps[stage]
            yield {"learner": name, "stage": stage, "step_ms": 1000 * own, "bare_ms": 1000 * bare,
                   "step": own / bare, "beside": beside / whole, "task_s": whole}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("learners", nargs="*", default=list(DEFAULT))
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--full-size", action="store_true", help="ViT-B/16 with random weights")
    options = parser.parse_args()
    for chosen in options.learners:
        for record in measure(chosen, options.classes, options.per_class, options.full_size):
            print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}), flush=True)
