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
        """Equations (1) to (4)."""
        h, labels = yield from gathered(self, task, stage="means")
        self.means.add(h, labels)
        h, labels = self.with_pseudo(h, labels)
        h, columns = self.shape(h), columns_of(labels, self.seen)
        self.classifier.load(Linear(h.shape[1], device=h.device).state())
        self.classifier.grow(self.seen)

        def loss(x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(self.classifier(x), y)

        trained, how = self.classifier.parameters(), self.params.fit
        yield from fit_features(self, task, (h, columns), trained, loss, how, stage="head", order="head")

    def with_pseudo(self, h: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Equations (2) and (3): the task's features and labels, followed by those of every class that is not in it."""
        new = tuple(dict.fromkeys(labels.tolist()))
        old = [c for c in self.means.classes if c not in set(new)]
        if not old:
            return h, labels
        mu = dict(zip(self.means.classes, self.means.means(like=h), strict=True))
        new_means = torch.stack([mu[c] for c in new])
        near = F.cosine_similarity(torch.stack([mu[c] for c in old])[:, None], new_means[None], dim=2).argmax(dim=1)
        moved, owners = [h], [labels]
        for p, n in zip(old, near.tolist(), strict=True):
            mine = h[labels == new[n]]
            moved.append(mine - mu[new[n]] + mu[p])
            owners.append(labels.new_full((len(mine),), p))
        return torch.cat(moved), torch.cat(owners)
