r"""A whole `cillab run` against the fewest forward and backward passes that its method needs, and where the rest goes.

    python benchmarks/end_to_end.py [--learners simplecil acil min ncptm slca l2p] \
        [--backbone timm:deit_tiny_patch16_224.fb_in1k --weights FILE --image-size 96 --data parquet:FOLDER] \
        [--train-per-class 40 --test-per-class 20] [--rounds 2]

For each learner, in turns on the same images: the command in a process of its own (all its CPU time, imports included),
and the bare passes in this process: images that are ready as pixels, forwarded in chunks of 64 under what the method
wears, or a training step of its own loss and optimiser; each a measured time per image, times the number that the
method cannot do without (`fewest`). Test images count once for each state of the model in which they are asked.
CPU time, fp32, one thread. `passes` are images forwarded and images in steps, of the run and at least: they depend on
no machine. `without imports and start` is the run again, in this process, where everything is imported. `parts` are
shares of one more run's CPU time, from cProfile, which makes Python's own calls look dearer than they are.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cillab.backbones.frozen import FrozenBackbone
from cillab.lab import Lab, RunSpec
from cillab.lab.prepare import prepare
from cillab.parts import fitting

import torch

SETTINGS: dict[str, dict[str, Any]] = {
    "simplecil": {},
    "acil": {"expansion": 1024},
    "min": {"expansion": 1024},
    "ncptm": {},
    "slca": {},
    "l2p": {},
}
CHUNK = 64
# What stands for a part of a run: functions of one file, by the words that the file's path ends with.
PARTS: dict[str, tuple[tuple[str, str], ...]] = {
    "hashing images": (("cache.py", "_hashed"),),
    "hashing weights and states": (("cache.py", "_hash"), ("frozen.py", "digest_of_weights")),
    "numbers of the probe": (("probe.py", "_conclude"),),
    "views": (("fitting.py", "_seen_anew"), ("frozen.py", "_pixels_of")),
    "writing": (
        ("writer.py", "snapshot"), ("writer.py", "log"), ("writer.py", "probe"), ("writer.py", "result"),
        ("writer.py", "tick"), ("checkpoints.py", "save"),
    ),
    "data": (("images.py", "_fill"), ("prepare.py", "prepare")),
}  # fmt: skip


class Counts:
    """Images that pass through the backbone: with gradient or without."""

    def __init__(self) -> None:
        self.forward = self.step = 0

    @contextmanager
    def watching(self, kind: type[FrozenBackbone]) -> Iterator[None]:
        """Count inside."""
        own = kind._forward

        def counted(backbone: Any, pixels: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                self.step += len(pixels)
            else:
                self.forward += len(pixels)
            return own(backbone, pixels)

        kind._forward = counted  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            kind._forward = own  # pyright: ignore[reportAttributeAccessIssue]


def fewest(name: str, params: Any, train: list[int], test: list[int]) -> tuple[int, int, int, int]:
    """Images forwarded naked, images forwarded as the method wears it, images in steps, and forwards inside steps.

    `train` and `test` are images by task. Frozen: every image once. Trained in the first task alone: every image once
    afterwards. Trained in every task: the task's images once when it has been learnt, and all test images seen so far.
    """
    seen = sum(sum(test[: t + 1]) for t in range(len(test)))
    whole = sum(train)
    match name:
        case "simplecil" | "acil":
            return whole + sum(test), 0, 0, 0
        case "min":  # (11) before noise is learnt, the augmented fit, and the fit afterwards
            return 0, whole * (2 + params.augmented_passes) + seen, whole * params.fit.epochs, 0
        case "ncptm":  # the first task is placed twice while it is learnt; views of every task for the alignment
            placed = min(2, params.fit.epochs) * train[0]
            return 0, whole * (1 + params.views) + placed + sum(test), train[0] * params.fit.epochs, 0
        case "slca":
            return 0, whole + seen, whole * params.fit.epochs, 0
        case "l2p":  # every step asks with a naked view first; naked test images once, and which prompts images chose
            return whole + sum(test), seen, whole * params.fit.epochs, whole * params.fit.epochs
    raise SystemExit(f"How many passes {name} needs is not written down here.")


class Bare:
    """CPU seconds for an image of each kind of pass, on a learner that has learnt its first task."""

    def __init__(self, spec: RunSpec) -> None:
        ready = prepare(spec)
        self.backbone, stream = ready.backbone, ready.stream.on(ready.backbone)
        task = stream[0]
        self.pixels, self.labels = ready.backbone.pixels(task.data.images), task.data.labels
        self._step: Callable[[torch.Tensor, torch.Tensor], None] | None = None
        own = fitting.descend

        def caught(batches: Any, per_epoch: int, parameters: Any, loss: Any, how: Any, **named: Any) -> Iterator[Any]:
            groups = [g if isinstance(g, dict) else {"params": [g]} for g in parameters]
            groups = [{**g, "params": list(g["params"])} for g in groups]
            first = next(iter(batches(0)))[0]
            if first.ndim == 4 and self._step is None:
                self._keep(groups, loss, how)
                self._times()  # while the method is as it is in its training
            yield from own(batches, per_epoch, groups, loss, how, **named)

        self.dressed = self.naked = self.step = 0.0
        self.learner: Any = ready.learner
        fitting.descend = caught
        try:
            for _ in ready.learner.observe(task):
                pass
        finally:
            fitting.descend = own
        self.train = [len(stream.train(t)) for t in range(len(stream))]
        self.test = [len(stream.test(t)) for t in range(len(stream))]
        self.measure()

    def _keep(self, groups: list[dict], loss: Any, how: Any) -> None:
        trained = [p for g in groups for p in g["params"]]

        def step(pixels: torch.Tensor, labels: torch.Tensor) -> None:
            optimiser = fitting._optimiser([dict(g) for g in groups], how)
            for x, y in zip(pixels.split(how.batch_size), labels.split(how.batch_size), strict=True):
                with torch.enable_grad(), fitting.attention_for(self.backbone):
                    optimiser.zero_grad(set_to_none=True)
                    loss(x, y).backward()
                    optimiser.step()

        def whole(pixels: torch.Tensor, labels: torch.Tensor) -> None:
            before = [p.detach().clone() for p in trained]
            fitting._require_grad(trained, True)
            step(pixels, labels)
            fitting._require_grad(trained, False)
            with torch.no_grad():
                for p, value in zip(trained, before, strict=True):
                    p.copy_(value)

        self._step = whole

    def _times(self) -> None:
        assert self._step is not None
        self.step = statistics.median(self._timed(lambda: self._step(self.pixels, self.labels)) for _ in range(2))  # type: ignore[misc]

    def measure(self) -> None:
        """Forward passes."""
        self.naked = min(self._timed(lambda: self._look(())) for _ in range(2))
        self.dressed = min(self._timed(lambda: self._look(self.learner.dress)) for _ in range(2))

    def _look(self, dress: Any) -> None:
        with torch.no_grad(), self.backbone.wearing(*dress):
            for chunk in self.pixels.split(CHUNK):
                self.backbone.embed(chunk)

    def _timed(self, what: Callable[[], None]) -> float:
        began = time.process_time()
        what()
        return (time.process_time() - began) / len(self.labels)


def command(spec: RunSpec, folder: Path) -> float:
    """CPU seconds of the command and its children."""
    spec.with_(out=str(folder / "run")).write(folder / "spec.yaml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CILLAB_CACHE": str(folder / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "cillab", "run", str(folder / "spec.yaml")]
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def again(spec: RunSpec, folder: Path) -> tuple[Counts, float]:
    """The same run in this process: images, CPU seconds."""
    counts, began = Counts(), time.process_time()
    lab = Lab.from_spec(spec.with_(out=str(folder / "again")))
    with counts.watching(type(lab.backbone)):  # pyright: ignore[reportArgumentType]
        for _ in lab:
            pass
    return counts, time.process_time() - began


def profiled(spec: RunSpec, folder: Path) -> dict[str, float]:
    """Shares of the CPU time of the same run in this process."""
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for _ in Lab.from_spec(spec.with_(out=str(folder / "profiled"))):
        pass
    profile.disable()
    stats: Any = pstats.Stats(profile)
    whole = stats.total_tt
    found = dict.fromkeys(PARTS, 0.0)
    for (path, _, function), (_, _, _, cumulative, _) in stats.stats.items():
        for part, owners in PARTS.items():
            if any(function == name and Path(path).name == file and "cillab" in path for file, name in owners):
                found[part] += cumulative / whole
    return {part: round(share, 4) for part, share in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--data", default="shields")
    parser.add_argument("--split", default="B0-Inc10")
    parser.add_argument("--backbone", default="bundled:vit")
    parser.add_argument("--weights")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--train-per-class", type=int, default=40)
    parser.add_argument("--test-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, help="of every stage on images, in place of the method's own")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.learners:
        fewer = {"fit.epochs": asked.epochs} if asked.epochs and name not in ("simplecil", "acil") else {}
        params = {**SETTINGS[name], **fewer}
        spec = RunSpec.of({
            "learner": name, "params": params, "data": asked.data, "split": asked.split, "backbone": asked.backbone,
            "weights": asked.weights, "image_size": asked.image_size, "train_per_class": asked.train_per_class,
            "test_per_class": asked.test_per_class, "precision": "fp32", "device": "cpu",
        })  # fmt: skip
        ratios, bare, whole, least = [], None, 0.0, 1.0
        with tempfile.TemporaryDirectory() as folder:
            os.environ["CILLAB_CACHE"] = str(Path(folder) / "own")
            for turn in range(asked.rounds):
                place = Path(folder) / str(turn)
                place.mkdir()
                whole = command(spec, place)
                bare = Bare(spec)
                needed = fewest(name, bare.learner.params, bare.train, bare.test)
                least = sum(n * s for n, s in zip(needed, (bare.naked, bare.dressed, bare.step), strict=False))
                ratios.append(whole / least)
            assert bare is not None
            counts, inside = again(spec, Path(folder))
            parts = profiled(spec, Path(folder))
        naked, dressed, steps, inside_steps = fewest(name, bare.learner.params, bare.train, bare.test)
        print(json.dumps({
            "learner": name, "run_s": round(whole, 1), "fewest_s": round(least, 1),
            "run over the fewest": round(statistics.median(ratios), 3),
            "without imports and start": round(inside / least, 3),
            "passes": {"forward": [counts.forward, naked + dressed + inside_steps], "step": [counts.step, steps]},
            "parts": parts,
        }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
