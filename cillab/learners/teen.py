"""TEEN: the mean of a few images leans on the classes of the base session that it is like."""

from cillab.kit import (
    Affine, F, Field, Fit, HyperParams, Iterator, Literal, Method, PositiveFloat, Progress, Prototypes, Task, Tensor,
    final, first_session, gathered, method, torch,
)  # fmt: skip


class TEENParams(HyperParams):
    """Hyper-parameters of TEEN."""

    alpha: float = Field(default=0.1, ge=0, le=1)
    """How far a new prototype moves towards the base classes: 0 is the mean itself. The paper has 0.5 on miniImageNet
    and CUB, 0.1 on CIFAR-100."""
    tau: PositiveFloat = 16.0
    """Factor on cosines in the softmax over base classes."""
    adapt: Literal["none", "ssf"] = "none"
    """What the base session trains: nothing, or a scale and a shift per channel."""
    first: Fit = Fit(epochs=20, lr=0.01, batch_size=48)
    """The base session, if anything is trained in it."""

    quick = {"first.epochs": 2}


@method(
    "teen",
    paper="Wang et al., TEEN, NeurIPS 2023, arXiv:2312.05229",
    evidence="reproduction",
    family="closed form",
    when="A large base session, then classes with a handful of images each.",
    known="miniImageNet, ResNet-18, 5 images a class: 73.53 after the base session, 52.08 after the last.",
    ours="a pre-trained backbone in place of one trained in the base session",
)
@final
class TEEN(Method[TEENParams]):
    """Prototypes of later classes, calibrated without any training.

        mu_c = mean of f(x) over class c, length 1                                                           (1)
        w_n  = (1 - alpha) mu_n + alpha v / ||v||,   v = sum_b softmax_b(tau cos(mu_n, mu_b)) mu_b           (2)
        logit_c = cos(f(x), w_c)                                                                             (3)

    b are the classes of the first session, w_b = mu_b. Source: TEEN, Wang et al., NeurIPS 2023, arXiv:2312.05229, whose
    code keeps the base model with the best test accuracy; here the last. Keeps a mean and a count per class; one
    forward pass per image.
    """

    def setup(self) -> None:
        """No class yet."""
        p, backbone = self.params, self.backbone
        if p.adapt == "ssf":
            self.worn = Affine(backbone, generator=self.draws("affine"))
        self.classifier = Calibrated(p.alpha, p.tau, backbone.feature_dim, backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Adapt in the base session, if at all; (1) in every session."""
        if not self.old:
            self.classifier.base = len(self.seen)
            if self.worn is not None:
                yield from first_session(self, task, self.worn.parameters(), self.params.first)
        self.classifier.add(*(yield from gathered(self, task, stage="prototypes")))


class Calibrated(Prototypes):
    """Prototypes of which all but the first `base` lean on those."""

    plain = ("classes", "base")

    def __init__(self, alpha: float, tau: float, dim: int, device: torch.device) -> None:
        super().__init__(dim, device)
        self.alpha, self.tau, self.base = alpha, tau, 0

    def means(self, like: Tensor | None = None) -> Tensor:
        """Equation (2), rows in the order of `classes`."""
        mu = F.normalize(super().means(like), dim=1)
        base, new = mu[: self.base], mu[self.base :]
        if not len(new):
            return mu
        v = F.normalize((self.tau * new @ base.T).softmax(dim=1) @ base, dim=1)
        return torch.cat([base, (1 - self.alpha) * new + self.alpha * v])
