"""What a method measures of itself: collapse while a stage trains, and whether its logits favour new classes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cillab.core.arrays import array
from cillab.geometry.collapse import collapse
from cillab.geometry.moments import Moments
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.module import Classifier

COLUMNS = ("nc1", "nc2", "nc3", "nc4", "pull", "push")
_KEPT = 20_000  # features of an epoch that are looked at: memory, not accuracy, sets the limit


class EpochWatch:
    """Collects the features of an epoch and closes it into (NC1, NC2, NC3, NC4, pull, push).

    The features are those of the training steps, so early ones were made by slightly older weights: the numbers lag by
    half an epoch. NC1 is the quotient of traces, NC2 the distance of Gram matrices, NC3 that of head and class means.
    """

    def __init__(self, classes: tuple[int, ...]) -> None:
        self.classes = classes
        self.rows: list[list[float]] = []
        self._features: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._terms: list[tuple[Tensor, Tensor]] = []

    def add(
        self,
        features: Float[Tensor, "image feature"],
        labels: Int64[Tensor, " image"],
        pull: Float[Tensor, ""],
        push: Float[Tensor, ""],
    ) -> None:
        """Remember one step."""
        if sum(map(len, self._labels)) < _KEPT:
            self._features.append(features.detach())
            self._labels.append(labels)
        self._terms.append((pull.detach(), push.detach()))

    def close(self, head: Float[Tensor, "cls feature"]) -> None:
        """End the epoch; the rows of `head` are in the order of `classes`."""
        features, labels = array(torch.cat(self._features).float()), array(torch.cat(self._labels))
        moments = Moments(features.shape[1], "trace")
        moments.declare(self.classes)
        moments.add(features, labels)
        found = collapse(
            moments, array(head.float()), head_classes=self.classes, features=features, labels=labels, data="train"
        )
        pull, push = torch.stack([torch.stack(pair) for pair in self._terms]).mean(dim=0).tolist()
        if len(self.classes) > 1:  # one class has nothing to collapse towards
            self.rows.append([found.nc1_quotient, found.nc2, found.nc3, found.nc4, pull, push])
        self._features, self._labels, self._terms = [], [], []

    def table(self) -> Float[Tensor, "epoch 6"]:
        """Every closed epoch, in the order of `COLUMNS`."""
        return torch.tensor(self.rows, dtype=torch.float32).reshape(-1, len(COLUMNS))


def logit_bias(
    head: Classifier, memory: GaussianMemory, new: tuple[int, ...], draws: torch.Generator, each: int = 64
) -> Float[Tensor, "2 2"]:
    """Mean of the largest logit among old (column 0) and new classes (1), for features of old (row 0) and new (1).

    `each` features of every class are drawn from `memory`. Row 0 with its larger number in column 1 is the bias
    towards new classes.
    """
    columns = [[i for i, c in enumerate(head.classes) if (c in new) == side] for side in (False, True)]
    rows = []
    for side in (False, True):
        logits = head(memory.sample(each, draws, tuple(c for c in memory.classes if (c in new) == side))[0])
        rows.append(torch.stack([logits[:, some].amax(dim=1).mean() for some in columns]))
    return torch.stack(rows)
