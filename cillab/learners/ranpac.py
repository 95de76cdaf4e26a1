"""RanPAC: a ridge on many random features, of a backbone that was adapted to the first task alone."""

from cillab.kit import (
    Affine, Field, Fit, HyperParams, Iterator, Literal, Method, NonNegativeInt, PositiveFloat, PositiveInt, Progress,
    RandomFeatures, Ridge, Task, adapters, final, first_session, gathered, method, torch,
)  # fmt: skip


class RanPACParams(HyperParams):
    """Hyper-parameters of RanPAC."""

    adapt: Literal["ssf", "adapter", "none"] = "ssf"
    """What the first session trains: a scale and a shift per channel, on any backbone; adapters beside the MLPs of a
    ViT, as the paper does on CIFAR-100 and CUB; nothing."""
    bottleneck: PositiveInt = 64
    """Width of an adapter."""
    first: Fit = Fit(epochs=20, lr=0.01, batch_size=48)
    """The first session."""
    expansion: NonNegativeInt = 2048
    """M, the number of random features; 0 reads the features themselves. The paper has 10,000 (800 MB, and minutes per
    task for the choice of the ridge on two CPU cores)."""
    gamma: PositiveFloat | None = None
    """Ridge; chosen anew in every task where it is not given."""
    held: float = Field(default=0.2, gt=0, lt=1)
    """Share of a task's images on which the ridge is chosen."""

    quick = {"bottleneck": 4, "expansion": 128, "first.epochs": 2}


@method(
    "ranpac",
    paper="McDonnell et al., RanPAC, NeurIPS 2023, arXiv:2307.02251",
    evidence="reproduction",
    family="closed form",
    when="The strongest closed form: one pass over the images, no forgetting, nothing to choose.",
    known="ViT-B/16, A_last: CIFAR-100 92.2 (without adaptation 89.0, without random features 90.6), ImageNet-R 77.9, "
    "CUB 90.3; the authors choose weights and adaptation per data set.",
    ours="2,048 random features for 10,000; SSF in the first session on every data set; gamma is chosen with the sums "
    "of all tasks, where the code has those of the newest alone",
    internals=("ridge/gamma",),
)
@final
class RanPAC(Method[RanPACParams]):
    """One ridge over all images ever seen, on random features of a backbone that was adapted once.

        theta  <-  CE of a cosine head over the classes of the first task, then frozen          [first_session] (1)
        phi    =   relu(f_theta(x) R),   R ~ N(0, 1)                                            [RandomFeatures](2)
        W      =   (sum phi^T phi + gamma I)^-1 sum phi^T y,    logits = phi W                  [Ridge]         (3)
        gamma  =   the power of ten, 1e-8 to 1e8, with the least squared error on a fifth of the newest task    (4)

    Source: RanPAC, McDonnell et al., NeurIPS 2023, arXiv:2307.02251. Given gamma, the result does not depend on the
    order of what comes after the first session. Keeps theta, M^2 + 2 M K + d M numbers; one forward pass per image.
    """

    def setup(self) -> None:
        """What adapts, R, and sums over no image."""
        p, backbone, dim = self.params, self.backbone, self.backbone.feature_dim
        match p.adapt:
            case "adapter":
                self.worn = adapters(self, p.bottleneck)
            case "ssf":
                self.worn = Affine(backbone, generator=self.draws("affine"))
        draw = self.draws("random features")
        self.expand = RandomFeatures(dim, p.expansion or 1, "normal", draw, backbone.device)
        reads = self.expand if p.expansion else None
        self.classifier = Ridge(p.expansion or dim, device=backbone.device, reads=reads)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1) in the first session; (4) and (3) in every one."""
        p = self.params
        if not self.old and self.worn is not None:
            yield from first_session(self, task, self.worn.parameters(), p.first)
        h, labels = yield from gathered(self, task, stage="ridge")
        shuffled = torch.randperm(len(h), generator=self.draws("held", task.index)).to(h.device)
        h, labels = h[shuffled], labels[shuffled]
        gamma = p.gamma or self.classifier.best_gamma(h, labels, p.held)
        self.classifier.add(h, labels)
        self.classifier.solve(gamma)

    def internals(self):
        """The ridge in force."""
        return {"ridge/gamma": torch.tensor(self.classifier.gamma)}
