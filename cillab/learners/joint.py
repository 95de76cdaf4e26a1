"""Joint training: every image seen so far, from the pre-trained weights. The upper bound that breaks the rules."""

from cillab.kit import (
    Exemplars, Fit, HyperParams, Internal, Iterator, Linear, Method, Overlay, PositiveFloat, Progress, Task, Tensor,
    cross_entropy, final, fit, method, sweep, torch,
)  # fmt: skip


class JointParams(HyperParams):
    """Hyper-parameters of joint training."""

    fit: Fit = Fit(lr=0.02)
    """Head and backbone on all images."""
    backbone_lr: PositiveFloat = 0.01
    """Learning rate of the backbone; higher than in sequential training, where it decides what is forgotten."""


@method(
    "joint",
    paper="the usual upper bound, e.g. Sun et al., PILOT, arXiv:2309.07117",
    evidence="reproduction",
    family="bounds",
    when="The upper bound of what training all weights can reach, where images may be kept.",
    ours="both rates, 10 epochs of batches of 48; other papers have 30 of 128 at 0.01 and 0.0001",
    exemplars=True,
    internals=(Internal("stored", "i64 [K]", "stored training images of each class", "images"),),
)
@final
class Joint(Method[JointParams]):
    """All weights train on all images seen so far: the upper bound, which breaks the rules.

        theta, W, b  <-  SGD on CE(f_theta(x) W^T + b, y) over all images seen, from the pre-trained weights     (1)

    Not a class-incremental method: it stores all images (in checkpoints too) and its cost grows with every task. For
    the number alone give it one task with all classes, `--split B0-Inc100`: the final test set is the same. One pass
    per image.
    """

    former_parts = {"theta": "worn", "head": "classifier"}

    def setup(self) -> None:
        """The pre-trained weights, a head without rows, no image."""
        self.worn = Overlay(self.backbone, "*")
        self.classifier = Linear(self.backbone.feature_dim, device=self.backbone.device)
        self.images = Exemplars(self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1) on everything seen so far, `task` included."""
        p = self.params
        yield from sweep(task.batches(p.fit.batch_size), self.images.add, len(task), "store")
        self.worn.load(Overlay(self.backbone, "*").state())
        self.classifier.load(Linear(self.backbone.feature_dim, device=self.backbone.device).state())
        self.classifier.grow(self.seen)

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, self.seen)

        groups = [{"params": self.classifier.parameters()}, {"params": self.worn.parameters(), "lr": p.backbone_lr}]
        everything = self.images.task(task.index, task.class_names)
        yield from fit(self, everything, groups, loss, p.fit, stage="joint")

    def internals(self):
        """Number of stored images of each class."""
        return {"stored": torch.stack([(self.images.labels == c).sum() for c in self.seen])} if self.seen else {}
