"""ProNC: the simplex that the first task grew, extended by new orthonormal directions when classes arrive."""

from cillab.geometry.etf import growth_angle
from cillab.kit import (
    Exemplars, F, Fit, HyperParams, Internal, Iterator, Linear, Method, NonNegativeFloat, NonNegativeInt, Overlay,
    PositiveFloat, Progress, Prototypes, Simplex, Task, Tensor, columns_of, cross_entropy, deepcopy, final, fit,
    gathered, method, pull_push, rng, torch,
)  # fmt: skip


class ProNCParams(HyperParams):
    """Hyper-parameters of ProNC."""

    memory: NonNegativeInt = 500
    """Random images kept in all; every class seen gets the same share of them, and one at least unless this is 0."""
    pull: NonNegativeFloat = 18.0
    """Weight of the pull towards the own vertex, from the second task on."""
    distil: NonNegativeFloat = 170.0
    """Weight of staying where the network before this task put the image, from the second task on."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.01)
    """Head and backbone on the task's images and the stored ones."""
    backbone_lr: PositiveFloat = 0.001
    """Learning rate of the backbone."""

    quick = {"memory": 24, "pull": 1.0, "distil": 1.0, "fit.epochs": 4}


@method(
    "pronc",
    paper="ProNC, ICLR 2026, arXiv:2505.24254",
    evidence="reproduction of the released code's losses, on pre-trained features",
    family="neural collapse",
    when="Targets that move by a known angle: whether a simplex that grows beats one that is fixed.",
    known="CIFAR-100, 10 tasks, ResNet-18 from scratch, 200/500 images: A_last 44.32/52.49.",
    ours="vertices answer from the first task on; two learning rates; the direction of the basis that is free is drawn",
    exemplars=True,
    simplex=True,
    internals=(
        "anchors/rows",
        Internal("anchors/turned", "f32 [K old]", "angle by which each old vertex turned in this task", "radians"),
        Internal("stored", "i64 [K]", "stored training images of each class", "images"),
    ),
)
@final
class ProNC(Method[ProNCParams]):
    """A simplex that grows with the classes, and a network that follows it slowly.

        first task    min CE(W f(x), y); then M = the simplex nearest to the means of f/|f|, M = etf(U)           (1)
        n new classes U <- [U, n orthonormal columns],   M <- etf(U): old vertices turn by one known angle        (2)
        later tasks   min CE(W f, y) + pull 1/2 (<m_y, z> - 1)^2 + distil 1/2 (<z, z'> - 1)^2,   z = f/|f|        (3)
                      on new images and stored ones, z' by the network before this task
        logit_c = <m_c, z>

    Source: ProNC, ICLR 2026, arXiv:2505.24254, and its code. Keeps all weights, 3 D K numbers for U, M and W and
    `memory` images; one pass per image.
    """

    def setup(self) -> None:
        """The pre-trained weights, a head without rows, no vertex, no image."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        self.worn = Overlay(self.backbone, "*")
        self.linear, self.classifier = Linear(dim, device=device), Simplex(dim, device, "prefix")
        self.images = Exemplars(device)

    def arrive(self, task: Task) -> None:
        """Rows, and from the second task on (2)."""
        self.linear.grow(task.classes)
        self.classifier.grow(task.classes)
        old, count = len(self.old), len(self.seen)
        if old and old < count:
            self.classifier.place(draws=rng.numpy_stream(self.seed, "basis", count), old=old)
        if old:
            self.classifier.kept["turned"] = torch.full((old,), growth_angle(old, count), device=self.backbone.device)

    def shape(self, h: Tensor) -> Tensor:
        """The z of (3)."""
        return F.normalize(h, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1) or (3), then a share of the images."""
        yield from self._train(task)
        if not self.old:
            h, labels = yield from gathered(self, task)
            means = Prototypes(self.backbone.feature_dim, self.backbone.device)
            means.add(self.shape(h), labels)
            mu = means.means()[columns_of(torch.tensor(self.seen), means.classes)]
            self.classifier.place(mu - mu.mean(dim=0), rng.numpy_stream(self.seed, "basis"))
            self.classifier.rebuild()
        self._store(task)

    def _train(self, task: Task) -> Iterator[Progress]:
        """Equation (3); the first task has cross-entropy alone."""
        p, before = self.params, deepcopy(self.worn)

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            h = self.embed(self.on_pixels(pixels))
            value = cross_entropy(self.linear(h), labels, self.seen, self.seen)
            if not self.old:
                return value
            z, columns = self.shape(h), columns_of(labels, self.seen)
            with torch.no_grad():
                stayed = self.shape(self.on_pixels(pixels)(before))
            value = value + p.pull * pull_push(z, self.classifier.vertices, columns)[0]
            return value + p.distil * 0.5 * ((z * stayed).sum(dim=1) - 1).square().mean()

        groups = [{"params": self.linear.parameters()}, {"params": self.worn.parameters(), "lr": p.backbone_lr}]
        yield from fit(self, self.images.beside(task), groups, loss, p.fit, stage="train", on_pixels=True)

    def _store(self, task: Task) -> None:
        """Images in random order, the same share for every class."""
        images, labels = next(iter(self.images.beside(task).batches(10**9)))
        order = torch.randperm(len(labels), generator=self.draws("stored", task.index)).to(labels.device)
        old = torch.isin(labels[order], torch.tensor(task.classes, device=labels.device)).logical_not()
        order = torch.cat([order[old].sort().values, order[~old]])  # older choices stay what they were
        self.images.images, self.images.labels = images[order], labels[order]
        memory = self.params.memory
        self.images.cut(max(1, memory // len(self.seen)) if memory else 0)

    def internals(self):
        """The vertices, by what angle the old ones turned, how many images of each class are stored."""
        if not self.seen:
            return {}
        kept = self.classifier.kept
        turned = {"anchors/turned": kept["turned"]} if "turned" in kept else {}
        return {"anchors/rows": kept["vertices"], "stored": self.images.counts(self.seen), **turned}
