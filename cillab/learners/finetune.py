"""Finetune: every weight trains on the newest task. It forgets, and that is what it is here to show."""

from cillab.kit import (
    Competitors, Fit, HyperParams, Iterator, Linear, Method, Overlay, PositiveFloat, Progress, Task, Tensor,
    cross_entropy, final, fit, method, undecayed,
)  # fmt: skip


class FinetuneParams(HyperParams):
    """Hyper-parameters of sequential fine-tuning."""

    fit: Fit = Fit(lr=0.01)
    """Head and backbone on the task's images."""
    backbone_lr: PositiveFloat = 0.001
    """Learning rate of the backbone. The ratio of the two rates decides how much is forgotten."""
    competitors: Competitors = "local"
    """Classes in the softmax: those of the current task ("local", as in PILOT) or all seen ones ("seen")."""


@method(
    "finetune",
    paper="Sun et al., PILOT, arXiv:2309.07117",
    evidence="reproduction",
    family="bounds",
    when="The lower bound: what happens when nothing is done against forgetting.",
    ours="two rates, 0.01 and 0.001, along a cosine for 10 epochs of batches of 48; PILOT has 0.001 for all, "
    "constant, 20 epochs of 128; rows of the head start at zero and do not decay",
)
@final
class Finetune(Method[FinetuneParams]):
    """All weights train on the newest task: the lower bound that forgets.

        logits = f_theta(x) W^T + b;    theta, W, b  <-  SGD on CE(logits, y) over the task's classes     (1)

    Source: the sequential baseline of PILOT (Sun et al., arXiv:2309.07117). Deviation: normalisation layers of
    convnets stay in evaluation mode, so that a prediction never depends on batch mates. Keeps one full copy of the
    backbone's weights; one forward pass per image.
    """

    former_parts = {"theta": "worn", "head": "classifier"}

    def setup(self) -> None:
        """The pre-trained weights and a head without rows."""
        self.worn = Overlay(self.backbone, "*")
        self.classifier = Linear(self.backbone.feature_dim, device=self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (1)."""
        p = self.params

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, task.classes, p.competitors)

        groups = [undecayed(self.classifier), {"params": self.worn.parameters(), "lr": p.backbone_lr}]
        yield from fit(self, task, groups, loss, p.fit, stage="finetune")
