"""ACIL: a ridge classifier on random features of a frozen backbone. Learning in tasks equals learning all at once."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, UInt8
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from cillab.core import rng
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.fitting import sweep
from cillab.parts.heads import RandomFeatures, RidgeHead


class ACILParams(HyperParams):
    """Hyper-parameters of ACIL: none of them is trained."""

    expansion: NonNegativeInt = 2048
    """D, the number of random features; 0 reads the backbone's features themselves. The same default as `min`, whose
    classifier this is; the paper has 8192."""
    gamma: PositiveFloat = 10.0
    """Ridge. The same default as `min`."""
    init: Literal["uniform", "normal"] = "uniform"
    """The law of the random features."""
    batch_size: PositiveInt = 128
    """Images per forward pass: changes speed, never the result."""


@learners.register("acil")
@final
class ACIL(Learner[ACILParams]):
    """One least-squares problem over all images ever seen, solved in closed form after every task.

        phi(x) = relu(f(x) R),    W = (sum phi^T phi + gamma I)^{-1} sum phi^T y,    logits = phi W         (1)

    Source: ACIL, Zhuang et al., NeurIPS 2022, arXiv:2205.14922 (recursive least squares; here the sums are kept, which
    is the same solution). On a frozen backbone; no gradient step, no stored image. Keeps D^2 + D K numbers.
    """

    name: ClassVar[str] = "acil"
    Params: ClassVar[type[HyperParams]] = ACILParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="ridge classifier on random features of a frozen backbone, in closed form",
        paper="Zhuang et al., NeurIPS 2022, arXiv:2205.14922",
        evidence="reproduction",
    )

    def __init__(self, backbone: Backbone, params: ACILParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or ACILParams(), seed
        how, draw = self.params, rng.stream(seed, "random features")
        self.expand = RandomFeatures(backbone.feature_dim, how.expansion or 1, how.init, draw, backbone.device)
        self.ridge = RidgeHead(how.expansion or backbone.feature_dim, how.gamma, backbone.device)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.ridge.classes

    def _phi(self, images: Tensor) -> Tensor:
        h = self.features(images)
        return self.expand(h) if self.params.expansion else h

    def observe(self, task: Task) -> Iterator[Progress]:
        """Add the task's images to the sums of (1) and solve."""
        with undone_on_failure(self.parts()):
            self.ridge.grow(task.classes)
            yield from sweep(
                task.batches(self.params.batch_size), lambda x, y: self.ridge.add(self._phi(x), y), len(task), "ridge"
            )
            self.ridge.solve()

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """f(x), frozen."""
        return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Least-squares scores phi W, near 1 for the class and near 0 for others."""
        if not self.seen:
            raise NotObservedError("ACIL has seen no class yet: exhaust observe(task) first.")
        return self.ridge(self._phi(images))

    def head(self) -> Head:
        """W; its rows live in the random features unless `expansion` is 0."""
        return Head(self.ridge.weight.T.contiguous(), None)

    def internals(self) -> Mapping[str, Tensor]:
        """Length of each row of W."""
        return {"row_norms": torch.linalg.vector_norm(self.ridge.weight, dim=0)}

    def parts(self) -> Mapping[str, Part]:
        """Random features and classifier."""
        return {"random_features": self.expand, "ridge": self.ridge}
