"""DER++: a reservoir of images with the logits that they had, both rehearsed in every step."""

from cillab.kit import (
    F, Fit, HyperParams, Internal, Iterator, Linear, Method, NonNegativeFloat, Overlay, PositiveFloat, PositiveInt,
    Progress, Reservoir, Task, Tensor, columns_of, final, fit, method, torch, views,
)  # fmt: skip


class DERParams(HyperParams):
    """Hyper-parameters of DER++."""

    memory: PositiveInt = 2000
    """Images in the reservoir."""
    drawn: PositiveInt = 32
    """Images of the reservoir in each of the two draws of a step."""
    alpha: NonNegativeFloat = 0.1
    """Weight of the logits that were stored; the authors have 0.1 to 0.3."""
    beta: NonNegativeFloat = 0.5
    """Weight of the labels of stored images; 0 is DER."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.01)
    """Head and backbone on the task's images."""
    backbone_lr: PositiveFloat = 0.001
    """Learning rate of the backbone."""

    quick = {"memory": 24, "drawn": 8}


class Watched(Task):
    """A task that remembers the images, as stored, of the batch it gave last."""

    def __init__(self, task: Task) -> None:
        self.task, self.index, self.classes, self.class_names = task, task.index, task.classes, task.class_names
        self.last = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.task)

    def batches(self, batch_size, shuffle=None):
        """Those of the task."""
        for images, labels in self.task.batches(batch_size, shuffle):
            self.last = images
            yield images, labels


@method(
    "der",
    paper="Buzzega et al., DER++, NeurIPS 2020, arXiv:2004.07211",
    evidence="reproduction",
    family="rehearsal",
    when="Some images may be kept and tasks have no clear border: the reservoir never asks for one.",
    known="CIFAR-100, 10 tasks, ResNet-18 from scratch, 500 images: A_last 38.25 (Mammoth).",
    ours="two learning rates, 10 epochs of batches of 48; logits of classes that came after an image was stored have "
    "no target, and the mean of (1) is over all that have one, so that late images count for more",
    exemplars=True,
    internals=(Internal("stored", "i64 [K]", "stored training images of each class", "images"),),
)
@final
class DER(Method[DERParams]):
    """Rehearsal of what the network once said, beside what is true.

        min  CE(z(x), y) + alpha * mean over c of (z_c(x') - z'_c)^2 + beta * CE(z(x''), y''),    z = W f + b      (1)

    x from the task; x' and x'' two independent draws from a reservoir over all images ever shown; z' the logits that x'
    had when it was stored, over the classes known then. Source: DER++, Buzzega et al., NeurIPS 2020, arXiv:2004.07211,
    and Mammoth's code: every batch of every epoch is offered to the reservoir. Keeps all weights, `memory` images and K
    logits for each; one pass per image.
    """

    def setup(self) -> None:
        """The pre-trained weights, a head without rows, an empty reservoir."""
        self.worn = Overlay(self.backbone, "*")
        self.classifier = Linear(self.backbone.feature_dim, device=self.backbone.device)
        self.images = Reservoir(self.params.memory, self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        p, watched, store, draws = self.params, Watched(task), self.images, self.draws("reservoir", task.index)
        store.open(len(self.seen))

        def replayed() -> tuple[Tensor, Tensor]:
            chosen = store.draw(p.drawn, draws)
            h = self.embed(self.on_pixels(views(store.images[chosen], self.backbone, p.fit, draws)))
            return chosen, self.classifier(h)

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            logits, value = self.classifier(self.embed(self.on_pixels(pixels))), torch.zeros((), device=pixels.device)
            if len(store) and p.alpha:
                chosen, again = replayed()
                known = torch.arange(again.shape[1], device=again.device) < store.widths[chosen, None]
                gaps = (again - store.logits[chosen]).square().masked_fill(~known, 0)
                value = value + p.alpha * gaps.sum() / known.sum()
            if len(store) and p.beta:
                chosen, again = replayed()
                value = value + p.beta * F.cross_entropy(again, columns_of(store.labels[chosen], self.seen))
            store.show(watched.last, labels, logits.detach(), draws)
            return F.cross_entropy(logits, columns_of(labels, self.seen)) + value

        groups = [{"params": self.classifier.parameters()}, {"params": self.worn.parameters(), "lr": p.backbone_lr}]
        yield from fit(self, watched, groups, loss, p.fit, stage="rehearse", on_pixels=True, divided=False)

    def internals(self):
        """Number of stored images of each class."""
        return {"stored": self.images.counts(self.seen)} if self.seen else {}
