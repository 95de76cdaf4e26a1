"""What ACIL and G-ACIL share: one solution, for ACIL's recursion and for what becomes of it where classes return."""

from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import torch
from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from cillab.core.contract import Progress, Task
from cillab.core.internals import Internal
from cillab.core.params import HyperParams
from cillab.parts.least_squares import RandomFeatures, Ridge
from cillab.parts.method import Method, gathered


class AnalyticParams(HyperParams):
    """None of them is trained."""

    expansion: NonNegativeInt = 2048
    """D, the number of random features; 0 reads the backbone's features themselves. The paper has 8192."""
    gamma: PositiveFloat = 10.0
    """Ridge."""
    init: Literal["uniform", "normal"] = "uniform"
    """The law of R: U(-1/sqrt(D), 1/sqrt(D)), or N(0, 1). The released code has U(-1/sqrt(d), 1/sqrt(d)) for d features
    of the backbone, where the same solution takes a ridge of gamma D / d."""

    quick = {"expansion": 128, "gamma": 1.0}


P = TypeVar("P", bound=AnalyticParams)


class Analytic(Method[P]):
    """R, and the sums over all images that equation (1) of the leaves is solved from."""

    former_parts = {"random_features": "expand", "ridge": "classifier"}

    def setup(self) -> None:
        """R, and sums over no image."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.expand = RandomFeatures(dim, p.expansion or 1, p.init, self.draws("random features"), device)
        self.classifier = Ridge(p.expansion or dim, p.gamma, device, reads=self.expand if p.expansion else None)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        self.classifier.add(*(yield from gathered(self, task, stage="ridge")))
        self.classifier.solve()

    def internals(self) -> Mapping[str, Tensor]:
        """Length of each row of W."""
        return {"row_norms": torch.linalg.vector_norm(self.classifier.weight, dim=0)}


ROW_NORMS = Internal("row_norms", "f32 [K]", "length of each row of the ridge's weights")
