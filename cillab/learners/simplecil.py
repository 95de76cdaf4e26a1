"""SimpleCIL: a class is the mean of its features, an image goes to the mean with the largest cosine."""

from cillab.kit import (
    F, HyperParams, Internal, Iterator, Literal, Method, Progress, Prototypes, Task, final, gathered, method,
)  # fmt: skip


class SimpleCILParams(HyperParams):
    """Hyper-parameters of SimpleCIL: none of them is trained."""

    similarity: Literal["cosine", "euclidean"] = "cosine"
    """Compare directions, equation (2), or points, equation (3)."""
    normalise_first: bool = False
    """Average unit features instead of raw ones; moves A_last by tenths of a point."""

    former = {"batch_size": ""}


@method(
    "simplecil",
    paper="Zhou et al., IJCV 2024, arXiv:2303.07338",
    evidence="reproduction",
    family="closed form",
    when="The first number to know on any data set: what the pre-trained features are worth without training.",
    known="CIFAR-100 Inc5, ViT-B/16 in21k, seed 1993: A_avg 87.57, A_last 81.28, whatever the order.",
    internals=(Internal("counts", "f64 [K]", "training images of each class", "images"),),
)
@final
class SimpleCIL(Method[SimpleCILParams]):
    """Nearest class mean on frozen features: no training at all.

        mu_c       = (1 / n_c) sum of f(x_i) over the images i of class c                              (1)
        logit_c(x) = cos(f(x), mu_c)              if params.similarity == "cosine"                     (2)
        logit_c(x) = -||f(x) - mu_c||^2           if params.similarity == "euclidean"                  (3)

    Source: SimpleCIL in Zhou et al., IJCV 2024, arXiv:2303.07338; (1), (3) Mensink et al., TPAMI 35(11) 2013.
    Deviation: the authors' code overwrites the mean of a class that returns in a later task; here n_c goes on, so (1)
    holds over all images observed. Up to rounding the result depends on neither class order nor task boundaries.
    Keeps one float64 vector of length D and a count per seen class; one forward pass per image.
    """

    former_parts = {"stats": "classifier"}

    def setup(self) -> None:
        """No class yet."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        self.classifier = Prototypes(dim, device, similarity=self.params.similarity)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        h, labels = yield from gathered(self, task)
        self.classifier.add(F.normalize(h, dim=-1) if self.params.normalise_first else h, labels)

    def internals(self):
        """Images per class."""
        return {"counts": self.classifier.counts}
