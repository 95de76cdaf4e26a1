"""The smallest things that keep the contract: a world of coloured squares, a linear backbone, two learners."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cillab.core import rng
from cillab.core.contract import Backbone, Capabilities, Delta, Head, Learner, Part, Progress, State, Task
from cillab.core.params import HyperParams
from cillab.core.pixels import Preprocessing
from cillab.core.state import undone_on_failure
from cillab.streams.sources import Source
from cillab.streams.stream import Stream, make_stream


@final
class Squares(Source):
    """Class c is a colour and a corner, with noise: learnable, but not trivially."""

    def __init__(self, classes: int = 6, train: int = 12, test: int = 6, side: int = 8) -> None:
        self.name = "squares"
        self.class_names = tuple(f"square {c}" for c in range(classes))
        self.families = None
        self._pixels, self._labels = {}, {}
        for split, count in (("train", train), ("test", test)):
            draw = np.random.default_rng(classes + (split == "test"))
            labels = np.tile(np.arange(classes), count)
            pixels = draw.integers(0, 160, (len(labels), 3, side, side))
            for row, c in enumerate(labels):
                pixels[row, c % 3, : side // 2 if c % 2 else side] += 40 + 10 * (c // 3)
            self._pixels[split], self._labels[split] = pixels.clip(0, 255).astype(np.uint8), labels

    def labels(self, split):
        return self._labels[split]

    def ids(self, split, index):
        return tuple(f"{split}/{row}" for row in index)

    def common_size(self, split, index):
        return self._pixels[split].shape[2:]

    def images(self, split, index, canvas=None):
        return self._pixels[split][index]

    def digest(self, split, index):
        return str(int(self._pixels[split][index].astype(np.int64).sum()))

    def masks(self, split, index, canvas=None):
        return None


def squares(classes: int = 6, split: str = "B0-Inc2", **more) -> Stream:
    return make_stream(Squares(classes), split=split, **more)


@final
class Line(Backbone):
    """Features = a fixed random linear map of the pixels."""

    tag, kind, clip, feature_dim, precision = "fake:line", "vit", False, 5, "fp32"

    def __init__(self) -> None:
        self.module = nn.Sequential(nn.Linear(192, self.feature_dim, bias=False)).requires_grad_(False)
        self.module[0].weight.data = torch.randn(self.feature_dim, 192, generator=torch.Generator().manual_seed(0))
        self.preprocessing = Preprocessing(8, 1.0, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def depth(self) -> int:
        return 1

    @property
    def block_names(self) -> tuple[str, ...]:
        return ("0",)

    @property
    def token_dim(self) -> int:
        return self.feature_dim

    @contextmanager
    def wearing(self, *deltas: Delta) -> Iterator[None]:
        yield

    @contextmanager
    def tap(self, *names: str, cut: bool = False) -> Iterator[dict[str, Tensor]]:
        yield {}

    def pixels(self, images):
        return (images.float() / 255 - 0.5) / 0.5

    def embed(self, pixels):
        return self.module(pixels.flatten(1))

    def __call__(self, images):
        return self.embed(self.pixels(images))

    def digest(self) -> str:
        return "line"


class _Rows(nn.Module, Part):
    """One trainable row per class seen, and a map of the features that every task trains further."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.classes: tuple[int, ...] = ()
        self.weight = nn.Parameter(torch.zeros(0, dim), requires_grad=False)
        self.bend = nn.Parameter(torch.eye(dim), requires_grad=False)

    def grow(self, classes: tuple[int, ...]) -> None:
        fresh = [c for c in classes if c not in self.classes]
        rows = torch.cat([self.weight.detach(), torch.zeros(len(fresh), self.weight.shape[1])])
        self.weight, self.classes = nn.Parameter(rows, requires_grad=False), (*self.classes, *fresh)

    def state(self) -> State:
        tensors = {"weight": self.weight, "bend": self.bend, "history": torch.ones(100_000)}
        return State(tensors, {"classes": list(self.classes)}, frozenset({"history"}))

    def load(self, state: State) -> None:
        self.weight = nn.Parameter(state.tensors["weight"].clone(), requires_grad=False)
        self.bend = nn.Parameter(state.tensors["bend"].clone(), requires_grad=False)
        self.classes = tuple(state.meta["classes"])


class TinyParams(HyperParams):
    epochs: int = 3
    """Passes."""
    lr: float = 0.05
    """Step."""


@final
class Tiny(Learner[TinyParams]):
    """Linear head on a trained map of the features, by SGD in a random order: has a state, and forgets."""

    name: ClassVar[str] = "tiny"
    Params: ClassVar[type[HyperParams]] = TinyParams
    capabilities: ClassVar[Capabilities] = Capabilities("a test learner", "none", "own")

    def __init__(self, backbone: Backbone, params: TinyParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or TinyParams(), seed
        self.rows = _Rows(backbone.feature_dim)

    @property
    def seen(self) -> tuple[int, ...]:
        return self.rows.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        with undone_on_failure(self.parts()):
            self.rows.grow(task.classes)
            parameters = [self.rows.weight, self.rows.bend]
            optimiser = torch.optim.SGD(parameters, self.params.lr)
            total, done = self.params.epochs * len(task), 0
            for epoch in range(self.params.epochs):
                order = rng.stream(self.seed, "tiny", task.index, epoch)
                for images, labels in task.batches(4, shuffle=order):
                    for p in parameters:
                        p.requires_grad_(True)
                    with torch.enable_grad():
                        columns = torch.tensor([self.seen.index(c) for c in labels.tolist()])
                        loss = F.cross_entropy(self.logits(images), columns)
                        optimiser.zero_grad()
                        loss.backward()
                    optimiser.step()
                    for p in parameters:
                        p.requires_grad_(False)
                    done += len(labels)
                    yield Progress("sgd", done, total, epoch, self.params.epochs, done, float(loss.detach()), 1000.0)

    def features(self, images):
        return self.backbone(images) @ self.rows.bend

    def scores(self, features):
        return features @ self.rows.weight.T

    def head(self) -> Head:
        return Head(self.rows.weight.detach(), None)

    def internals(self) -> Mapping[str, Tensor]:
        return {"bend": self.rows.bend.detach()}

    def parts(self) -> Mapping[str, Part]:
        return {"rows": self.rows}
