"""SimpleCIL: a class is the mean of its features, an image goes to the mean with the largest cosine."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from pydantic import PositiveInt
from torch import Tensor

from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.fitting import sweep
from cillab.parts.heads import ClassMeans


class SimpleCILParams(HyperParams):
    """Hyper-parameters of SimpleCIL: none of them is trained."""

    similarity: Literal["cosine", "euclidean"] = "cosine"
    """Compare directions, equation (2), or points, equation (3)."""
    normalise_first: bool = False
    """Average unit features instead of raw ones; moves A_last by tenths of a point."""
    batch_size: PositiveInt = 128
    """Images per forward pass: changes speed, never the result."""


@learners.register("simplecil")
@final
class SimpleCIL(Learner[SimpleCILParams]):
    """Nearest class mean on frozen features. No gradient step, no stored image.

        mu_c       = (1 / n_c) sum of f(x_i) over the images i of class c                              (1)
        logit_c(x) = cos(f(x), mu_c)              if params.similarity == "cosine"                     (2)
        logit_c(x) = -||f(x) - mu_c||^2           if params.similarity == "euclidean"                  (3)

    Source: SimpleCIL in Zhou et al., IJCV 2024, arXiv:2303.07338; (1), (3) Mensink et al., TPAMI 35(11) 2013.
    Deviation: the authors' code overwrites the mean of a class that returns in a later task; here n_c goes on, so (1)
    holds over all images observed. Up to rounding the result depends on neither class order nor task boundaries.
    Keeps one float64 vector of length D and a count per seen class; one forward pass per image.
    """

    name: ClassVar[str] = "simplecil"
    Params: ClassVar[type[HyperParams]] = SimpleCILParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="nearest class mean on frozen features: no training at all",
        paper="Zhou et al., IJCV 2024, arXiv:2303.07338",
        evidence="reproduction",
    )

    def __init__(self, backbone: Backbone, params: SimpleCILParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or SimpleCILParams(), seed
        self.stats = ClassMeans(backbone.feature_dim, backbone.device)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.stats.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Add the task's images to the means, one batch per step."""

        def add(images: Tensor, labels: Tensor) -> None:
            h = self.features(images)
            self.stats.add(F.normalize(h, dim=-1) if self.params.normalise_first else h, labels)

        with undone_on_failure(self.parts()):
            yield from sweep(task.batches(self.params.batch_size), add, len(task), "means")

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """f(x), frozen."""
        return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Equation (2), in [-1, 1], or (3), in (-inf, 0]: similarities, not calibrated log-probabilities."""
        if not self.seen:
            raise NotObservedError("SimpleCIL has seen no class yet: exhaust observe(task) first.")
        h = self.features(images)
        mu = self.stats.means(like=h)
        if self.params.similarity == "cosine":
            return F.normalize(h, dim=-1) @ F.normalize(mu, dim=-1).T
        # the matrix-product shortcut of cdist cancels badly for h close to mu
        return -torch.cdist(h, mu, compute_mode="donot_use_mm_for_euclid_dist").square()

    def head(self) -> Head:
        """The class means themselves."""
        return Head(self.stats.means().float() if self.seen else self.stats.sums.float(), None)

    def internals(self) -> Mapping[str, Tensor]:
        """Images per class."""
        return {"counts": self.stats.counts}

    def parts(self) -> Mapping[str, Part]:
        """The class means."""
        return {"stats": self.stats}
