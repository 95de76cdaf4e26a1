"""iCaRL: a few herded images per class, mixed into every later task; the nearest mean of those images answers."""

from cillab.kit import (
    Exemplars, F, Fit, HyperParams, Internal, Iterator, Linear, Literal, Method, NonNegativeFloat, NonNegativeInt,
    Overlay, PositiveFloat, PositiveInt, Progress, Prototypes, Task, Tensor, cross_entropy, deepcopy, distillation,
    final, fit, gathered, keep_exemplars, method, torch,
)  # fmt: skip


class ICaRLParams(HyperParams):
    """Hyper-parameters of iCaRL."""

    memory: PositiveInt = 2000
    """Images kept in all; every class seen gets the same share of them, and at least one."""
    each: NonNegativeInt = 0
    """Images kept per class, however many classes there are; 0 shares `memory`."""
    predicts: Literal["means", "head"] = "means"
    """The answer: the nearest mean of exemplars (as in the paper), or the head that the loss trains."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.01)
    """Head and backbone on the task's images and all exemplars."""
    backbone_lr: PositiveFloat = 0.001
    """Learning rate of the backbone."""
    distil: NonNegativeFloat = 1.0
    """Weight of the distillation of the logits of old classes."""
    temperature: PositiveFloat = 2.0
    """T of the distillation."""

    quick = {"memory": 24}


@method(
    "icarl",
    paper="Rebuffi et al., iCaRL, CVPR 2017, arXiv:1611.07725",
    evidence="reproduction",
    family="rehearsal",
    when="Some images may be kept: the classical answer, and the one that rehearsal is measured against.",
    known="CIFAR-100, 10 tasks, from scratch, 2,000 images: A_last 49.7 (Mammoth); with a pre-trained ViT no number "
    "was found that states its protocol.",
    ours="softmax cross-entropy and distillation, as PILOT has them, in place of the paper's sigmoids; two rates, "
    "0.01 and 0.001, along a cosine for 10 epochs of batches of 48, where PILOT has 20 of 128 at 0.001",
    exemplars=True,
    internals=(Internal("stored", "i64 [K]", "stored training images of each class", "images"),),
)
@final
class ICaRL(Method[ICaRLParams]):
    """Old images beside new ones, chosen so that their mean is the class mean, which then is the classifier.

        min  CE(W f(x), y) over all classes seen + distil * KD_T(W f(x), W' f'(x)) over old classes              (1)
             x from the task and from the exemplars, W' f' the network before the task
        P_c  =  the first m images of class c by herding on unit features,   m = max(1, memory // classes seen)  (2)
        logit_c = -|| f(x)/|f(x)| - mu_c ||^2,   mu_c = unit mean of f(p)/|f(p)| over p in P_c                   (3)

    Source: iCaRL, Rebuffi et al., CVPR 2017, arXiv:1611.07725; (1) as in PILOT. Keeps all weights, `memory` images,
    head and means; one pass per image.
    """

    def setup(self) -> None:
        """The pre-trained weights, a head without rows, no image."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        self.worn = Overlay(self.backbone, "*")
        self.linear = Linear(dim, device=device)
        self.means = Prototypes(dim, device, similarity="euclidean")
        self.classifier = self.means if self.params.predicts == "means" else self.linear
        self.images = Exemplars(device)

    def shape(self, h: Tensor) -> Tensor:
        """Unit length for (3)."""
        return F.normalize(h, dim=-1) if self.params.predicts == "means" else h

    def arrive(self, task: Task) -> None:
        """A row for every class that is new."""
        self.linear.grow(task.classes)
        self.means.grow(task.classes)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1), then (2), then (3)."""
        yield from self._train(task)
        share = self.params.each or max(1, self.params.memory // len(self.seen))
        yield from keep_exemplars(self, self.images, task, share)
        unit = Prototypes(self.backbone.feature_dim, self.backbone.device)
        h, labels = yield from gathered(self, self.images.task(task.index, task.class_names), stage="means")
        unit.add(F.normalize(h, dim=-1), labels)
        self.means.load(Prototypes(self.backbone.feature_dim, self.backbone.device).state())
        self.means.grow(self.seen)
        self.means.add(F.normalize(unit.means(), dim=-1), torch.tensor(unit.classes, device=h.device))

    def _train(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        p, old, before, head = self.params, len(self.old), deepcopy(self.worn), deepcopy(self.linear)

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            logits = self.linear(self.embed(self.on_pixels(pixels)))
            value = cross_entropy(logits, labels, self.seen, self.seen)
            if not old or not p.distil:
                return value
            with torch.no_grad():
                teacher = head(self.on_pixels(pixels)(before))
            return value + p.distil * distillation(logits[:, :old], teacher[:, :old], p.temperature)

        groups = [{"params": self.linear.parameters()}, {"params": self.worn.parameters(), "lr": p.backbone_lr}]
        yield from fit(self, self.images.beside(task), groups, loss, p.fit, stage="rehearse", on_pixels=True)

    def internals(self):
        """Number of stored images of each class."""
        return {"stored": self.images.counts(self.seen)} if self.seen else {}
