"""The learner itself, rebuilt from a checkpoint, for what no recorded array answers. Only here is torch loaded."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np

from app.learner import waking
from app.shell.public import read_only
from app.shell.store import Opened
from cillab.core.errors import CillabError

_BUDGET_S = 0.2  # of computing for one answer; the rest of 300 ms is the way to the browser and back
_FEWEST, _MOST = 40, 500  # images of the probe that a what-if is asked on


@dataclass
class Live:
    """A learner that several sessions share: take the lock before touching it."""

    reopened: Any
    order: np.ndarray  # probe positions of seen classes; any first few are spread evenly
    lock: RLock = field(default_factory=RLock)
    asked: int = _FEWEST  # how many of `order` fit into the budget
    learnt: list[Any] = field(default_factory=list)  # mixing weights as learnt, per noise slot


def available(view: Opened) -> list[int]:
    """Tasks whose learner can be rebuilt; on a server for others none, since models are large."""
    return [] if read_only() else sorted(view.run.checkpoints)


def why_not(view: Opened, task: int) -> str:
    """One sentence on why there is no live learner for this task."""
    if read_only():
        return "This server only shows (CILLAB_READONLY=1): it rebuilds no learner. Everything above was recorded."
    kept = available(view)
    if not kept:
        return "This run kept no checkpoint, so its learner cannot be asked again; everything above was recorded."
    tasks = ", ".join(str(t + 1) for t in kept)
    return f"The learner after task {task + 1} was not kept. It can be asked as it was after task {tasks}."


class Page(waking.Waking):
    """Waking a learner for a page that asks it one thing at a time."""

    def prepared(self, reopened: Any) -> Live:
        """The learner with what it needs to be asked within the budget."""
        labels = reopened.probe_images.labels.cpu().numpy()
        live = Live(reopened, _stratified(labels.tolist(), reopened.learner.seen, [t.classes for t in reopened.stream]))
        live.learnt = [slot.weights.detach().clone() for slot in slots(live)]
        _calibrate(live)
        return live


def _stratified(labels: list[int], seen: tuple[int, ...], tasks: list[tuple[int, ...]]) -> np.ndarray:
    """Probe positions such that any first few are spread evenly: over tasks, then classes, then images of a class."""
    place = {c: (at, task) for task, classes in enumerate(tasks) for at, c in enumerate(classes) if c in set(seen)}
    taken: dict[int, int] = {}
    keys = []
    for position, label in enumerate(labels):
        if label in place:
            taken[label] = taken.get(label, 0) + 1
            keys.append((taken[label], *place[label], position))
    return np.array([key[-1] for key in sorted(keys)])


def load(view: Opened, task: int) -> Live | str | None:
    """The learner after `task`, one line saying why it cannot be had, or None: it is on its way, the page says so."""
    return waking.awake(view, task, Page) if task in available(view) else why_not(view, task)


def expected(view: Opened) -> str:
    """How long the last rebuilding of this run's learner took on this machine, or that it was not measured yet."""
    return next((waking.expected(view, task, Page) for task in reversed(available(view))), "")


def slots(live: Live) -> list[Any]:
    """What the learner wears that mixes a term per task, first layer first."""
    from cillab.lab.whatif import mixtures  # noqa: PLC0415

    return list(mixtures(live.reopened.learner))


def _calibrate(live: Live) -> None:
    """Ask as many images as this machine classifies within the budget."""
    import torch  # noqa: PLC0415

    learner, images = live.reopened.learner, live.reopened.probe_images.images
    probe = min(64, len(live.order))
    with torch.no_grad():
        learner.logits(images[live.order[:probe]])  # the first pass also warms up
        for slot in slots(live)[:1]:
            slot.mix(slot.weights * 0.999)  # features are remembered by content: make the second pass a real one
        started = time.perf_counter()
        learner.logits(images[live.order[:probe]])
        took = time.perf_counter() - started
    for slot, weights in zip(slots(live), live.learnt, strict=True):
        slot.mix(weights)
    live.asked = int(np.clip(_BUDGET_S / max(took / probe, 1e-6), _FEWEST, _MOST))


@dataclass(frozen=True)
class Answer:
    """Class ids for the asked images under some mixture."""

    positions: np.ndarray  # in the probe
    labels: np.ndarray
    predicted: np.ndarray
    milliseconds: float

    @property
    def right(self) -> np.ndarray:
        """Which answers are right."""
        return self.predicted == self.labels


@contextmanager
def mixed(live: Live, factors: Sequence[float] | None, equal: bool = False) -> Iterator[None]:
    """Mixing weights that are the learnt ones (or 1/t each) times a factor per generator, shared by all layers.

    The learner is nobody else's meanwhile, and as it was afterwards, whatever happens.
    """
    import torch  # noqa: PLC0415

    with live.lock:
        try:
            for slot, learnt in zip(slots(live), live.learnt, strict=True):
                base = torch.full_like(learnt, 1 / max(len(learnt), 1)) if equal else learnt
                slot.mix(base if factors is None else base * torch.as_tensor(factors[: len(learnt)]).to(learnt))
            yield
        finally:
            for slot, learnt in zip(slots(live), live.learnt, strict=True):
                slot.mix(learnt)


def ask(live: Live, factors: Sequence[float], equal: bool) -> Answer:
    """Classify under a mixture."""
    import torch  # noqa: PLC0415

    reopened = live.reopened
    positions = live.order[: live.asked]
    index = torch.as_tensor(positions, device=reopened.probe_images.images.device)
    images, labels = reopened.probe_images.images[index], reopened.probe_images.labels[index]
    with mixed(live, factors, equal), torch.no_grad():
        started = time.perf_counter()
        columns = reopened.learner.logits(images).argmax(dim=1).cpu().numpy()
        took = 1000 * (time.perf_counter() - started)
    seen = np.array(reopened.learner.seen)
    return Answer(positions, labels.cpu().numpy(), seen[columns], took)


def cams(live: Live, index: int, factors: Sequence[float] | None = None, equal: bool = False) -> dict[str, np.ndarray]:
    """Grad-CAM of one probe image for the targets it has, in the unit of the learner's scores, under a mixture."""
    from cillab.explain.gradcam import gradcam  # noqa: PLC0415

    images = live.reopened.probe_images
    label = int(images.labels[index])
    targets = ("true", "predicted", "difference") if label in set(live.reopened.learner.seen) else ("predicted",)
    with mixed(live, factors, equal):
        found = gradcam(
            live.reopened.learner, images.images[index : index + 1], targets, labels=images.labels[index : index + 1]
        )
    return _finite(found)


def attention(live: Live, index: int) -> dict[str, np.ndarray]:
    """Maps of one probe image from attention: with its gradient for "true" and "predicted", and "rollout"."""
    from cillab.explain.attention import attention_rollout, attention_times_gradient  # noqa: PLC0415

    images, learner = live.reopened.probe_images, live.reopened.learner
    one, labels = images.images[index : index + 1], images.labels[index : index + 1]
    targets = ("true", "predicted") if int(labels[0]) in set(learner.seen) else ("predicted",)
    with live.lock:
        found = attention_times_gradient(learner, one, targets, labels=labels)
        return _finite({**found, "rollout": attention_rollout(learner, one)})


def _finite(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Maps of the first image; those that are not defined are left out."""
    arrays = {name: maps[0].detach().float().cpu().numpy() for name, maps in found.items()}
    return {name: np.nan_to_num(values) for name, values in arrays.items() if np.isfinite(values).any()}


def floor(live: Live) -> float | None:
    """What the maps of a random head reach: below it a map says nothing."""
    from cillab.explain.gradcam import noise_floor  # noqa: PLC0415

    index = live.order[:24]
    with live.lock:
        try:
            return noise_floor(live.reopened.learner, live.reopened.probe_images.images[index], "predicted", draws=4)
        except CillabError:
            return None
