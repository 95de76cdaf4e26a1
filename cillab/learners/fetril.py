"""FeTrIL: features of new classes, moved to where old classes were, stand for the old ones."""

from cillab.kit import (
    F, Fit, HyperParams, Iterator, Linear, Method, Progress, Prototypes, Task, Tensor, columns_of, final, fit_features,
    gathered, method, torch,
)  # fmt: skip


class FeTrILParams(HyperParams):
    """Hyper-parameters of FeTrIL."""

    fit: Fit = Fit(epochs=20, lr=3.0, batch_size=128, weight_decay=1e-5)
    """The linear head, from zero in every task. Features have length 1, so rates are large."""

    quick = {"fit.epochs": 4}


@method(
    "fetril",
    paper="Petit et al., FeTrIL, WACV 2023, arXiv:2211.13131",
    evidence="reproduction",
    family="closed form",
    when="A trained linear head on frozen features with nothing kept but class means.",
    known="CIFAR-100 B50, ResNet-18, A_avg with 5, 10, 20 tasks: 66.3, 65.2, 61.5 (authors' README).",
    ours="a pre-trained backbone in place of one trained on the first task; a linear layer for the SVM",
)
@final
class FeTrIL(Method[FeTrILParams]):
    """Old classes are the nearest new class, translated; a linear head learns from both.

        h      = f(x),    mu_c = mean of h over class c                                                      (1)
        n(p)   = argmax over new classes n of cos(mu_p, mu_n)                     for every old class p      (2)
        pseudo = { h - mu_n(p) + mu_p : h of class n(p) }                                                    (3)
        W, b  <- from zero, CE on h/||h|| of new classes and of (3)                                          (4)

    Source: FeTrIL, Petit et al., WACV 2023, arXiv:2211.13131. Deviation: the released code normalises all batches but
    the first; here all. A class that returns is a new one. Keeps d numbers per class, K d of the head; one forward pass
    per image.
    """

    def setup(self) -> None:
        """No mean, no row."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        self.means = Prototypes(dim, device)
        self.classifier = Linear(dim, device=device)

    def shape(self, h: Tensor) -> Tensor:
        """Length 1."""
        return F.normalize(h, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (4). A pseudo-feature is a row of h and a class, moved in the step that asks for it."""
        h, labels = yield from gathered(self, task, stage="means")
        self.means.add(h, labels)
        own, mu = columns_of(labels, self.seen), self.mu(h)
        self.classifier.load(Linear(h.shape[1], device=h.device).state())
        self.classifier.grow(self.seen)

        def loss(rows: Tensor, y: Tensor) -> Tensor:
            x = translated(h[rows], mu[own[rows]], mu[y], y != own[rows])
            return F.cross_entropy(self.classifier(self.shape(x)), y)

        trained, how = self.classifier.parameters(), self.params.fit
        yield from fit_features(self, task, self.pairs(own, mu), trained, loss, how, stage="head", order="head")

    def mu(self, like: Tensor) -> Tensor:
        """Class means (1) in the order of the columns."""
        found = dict(zip(self.means.classes, self.means.means(like=like), strict=True))
        return torch.stack([found[c] for c in self.seen])

    def pairs(self, own: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Row of the task and column that it stands for: its own, then by (2) that of every class not in the task."""
        new = list(dict.fromkeys(own.tolist()))
        old = [p for p in range(len(mu)) if p not in set(new)]
        near = F.cosine_similarity(mu[old][:, None], mu[new][None], dim=2).argmax(dim=1).tolist()
        rows = [(own == new[n]).nonzero()[:, 0] for n in near]
        owners = [own.new_full((len(some),), p) for p, some in zip(old, rows, strict=True)]
        return torch.cat([torch.arange(len(own), device=own.device), *rows]), torch.cat([own, *owners])


def translated(h: Tensor, source: Tensor, target: Tensor, pseudo: Tensor) -> Tensor:
    """Equation (3) where `pseudo`; elsewhere h."""
    return torch.where(pseudo[:, None], h - source + target, h)
