"""A learner asked about images that no data set has, in every state that its run kept. Only here torch is loaded."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np
from PIL import Image

from app.learner import waking
from app.shell.store import Opened
from cillab.geometry.rows import unit

_REMEMBERED = 2000  # answers, of a few numbers and one small map each
_NEAREST = 5


@dataclass(frozen=True)
class Said:
    """What the learner answers to one image in one state."""

    answer: int  # class id
    second: int | None
    margin: float  # score of the answer minus score of the second
    nearest: tuple[tuple[int, float], ...]  # class ids by cosine to the class means, centred on their average
    cam: np.ndarray  # what speaks for the answer, in the unit of the score


@dataclass
class Asker:
    """One learner that is put into one state after the other; sessions take turns."""

    reopened: Any
    task: int
    memo: OrderedDict[tuple[int, str], Said] = field(default_factory=OrderedDict)
    lock: RLock = field(default_factory=RLock)


def digest(content: bytes) -> str:
    """A name for an image by its bytes."""
    return hashlib.sha256(content).hexdigest()[:24]


def load(view: Opened) -> Asker | str | None:
    """The learner of a run, one line on why it cannot be had, or None: it is on its way, and the page says so."""
    kept = view.run.checkpoints
    if not kept:
        return "This run kept no checkpoint, so its learner cannot be asked."
    return waking.awake(view, max(kept), Own)


class Own(waking.Waking):
    """Waking a learner for images of the visitor."""

    def prepared(self, reopened: Any) -> Asker:
        """The learner, with nothing asked yet."""
        return Asker(reopened, self.task)


def expected(view: Opened) -> str:
    """How long that takes, as far as it is known."""
    return waking.expected(view, max(view.run.checkpoints), Own)


def seen_as(asker: Asker, content: bytes, name: str) -> Image.Image:
    """The image as the learner gets it: upright, RGB, on the canvas of its backbone.

    Raises:
        DataError: it cannot be decoded.
    """
    from cillab.streams.pictures import decode, to_canvas  # noqa: PLC0415

    return to_canvas(decode(content, name), asker.reopened.backbone.preprocessing)


def crop(asker: Asker, content: bytes, name: str, side: int) -> np.ndarray:
    """What the learner looks at, after the evaluation crop: the picture that a map lies on, [side, side, 3].

    Raises:
        DataError: it cannot be decoded.
    """
    import torch  # noqa: PLC0415

    from cillab.core.pixels import evaluation_crop  # noqa: PLC0415

    pixels = torch.from_numpy(np.array(seen_as(asker, content, name)).transpose(2, 0, 1)[None].copy())
    cut = evaluation_crop(pixels, asker.reopened.backbone.preprocessing)[0].numpy().transpose(1, 2, 0)
    return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((side, side), Image.Resampling.BICUBIC))


def ask(view: Opened, asker: Asker, step: int, files: list[tuple[str, bytes]]) -> dict[str, Said]:
    """Answers by digest in the state after the task of `step`; what was asked before is remembered.

    Raises:
        CillabError: the state or an image cannot be read.
    """
    snapshot = view.snapshots[step]
    wanted = {digest(content): (name, content) for name, content in files}
    with asker.lock:
        new = [key for key in wanted if (snapshot.task, key) not in asker.memo]
        if new:
            _become(view, asker, snapshot.task)
            pictures = [np.asarray(seen_as(asker, wanted[key][1], wanted[key][0])) for key in new]
            for key, said in zip(new, _look(asker, snapshot, np.stack(pictures)), strict=True):
                asker.memo[snapshot.task, key] = said
        found = {}
        for key in wanted:
            asker.memo.move_to_end((snapshot.task, key))
            found[key] = asker.memo[snapshot.task, key]
        while len(asker.memo) > _REMEMBERED:
            asker.memo.popitem(last=False)
    return found


def _become(view: Opened, asker: Asker, task: int) -> None:
    """Put the learner into another state of the same run."""
    from cillab.lab import checkpoints  # noqa: PLC0415

    if asker.task != task:
        asker.task = -1  # if loading fails half-way, nobody must take it for a state
        checkpoints.load(view.run.checkpoints[task], asker.reopened.learner, whole=False)
        asker.task = task


def _look(asker: Asker, snapshot: Any, pictures: np.ndarray) -> list[Said]:
    import torch  # noqa: PLC0415

    from cillab.explain.gradcam import gradcam  # noqa: PLC0415

    learner = asker.reopened.learner
    device = asker.reopened.backbone.device
    images = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(device)
    with torch.no_grad():
        logits = learner.logits(images).float().cpu().numpy()
        features = learner.features(images).float().cpu().numpy()
    maps = gradcam(learner, images, ("predicted",))["predicted"].float().cpu().numpy()
    seen = list(learner.seen)
    out = []
    for row, near, cam in zip(logits, _near(snapshot, features), maps, strict=True):
        order = np.argsort(row)[::-1]
        second = seen[order[1]] if len(seen) > 1 else None
        margin = float(row[order[0]] - row[order[1]]) if len(seen) > 1 else float("nan")
        out.append(Said(seen[order[0]], second, margin, near, np.nan_to_num(cam)))
    return out


def _near(snapshot: Any, features: np.ndarray) -> list[tuple[tuple[int, float], ...]]:
    """Classes whose training means point the same way, seen from the average of the means.

    cos(x - m, mu_k - m),  m = average of the class means mu_k as measured after this task
    """
    means = snapshot.get("means/now")
    if means is None or np.shape(means)[1] != features.shape[1]:
        return [()] * len(features)
    means, ids = np.asarray(means, dtype=np.float64), np.asarray(snapshot["seen"])
    centre = means.mean(axis=0)
    cosines = unit(features - centre) @ unit(means - centre).T
    best = np.argsort(-cosines, axis=1)[:, :_NEAREST]
    return [tuple((int(ids[k]), float(row[k])) for k in chosen) for row, chosen in zip(cosines, best, strict=True)]
