"""EWC: fine-tuning on springs as stiff as the weights mattered to earlier tasks."""

from cillab.kit import (
    Field, Held, HeldParams, Importance, Iterator, NonNegativeFloat, PositiveInt, Progress, Task, Tensor, final, fisher,
    method, spring,
)  # fmt: skip


class EWCParams(HeldParams):
    """Hyper-parameters of EWC."""

    weight: NonNegativeFloat = 100.0
    """lambda of (1)."""
    images: PositiveInt = 200
    """Images of a task whose gradients make its F, one backward pass each."""
    keep: float = Field(default=1.0, ge=0, le=1)
    """Share of the F of earlier tasks that stays when a new one is added; 1 is their sum."""

    quick = {"images": 6}


@method(
    "ewc",
    paper="Kirkpatrick et al., EWC, PNAS 2017, arXiv:1612.00796; compared in arXiv:2203.17269",
    evidence="reproduction",
    family="regularisation",
    when="To see whether it pays to know which weights mattered: the spring of `l2-anchor`, stiffer there.",
    ours="lambda, and SGD at two rates for 10 epochs of batches of 48, which nobody has searched for "
    "yet; F by single images",
)
@final
class EWC(Held[EWCParams]):
    """Fine-tuning on springs as stiff as the weights mattered to earlier tasks.

        theta, W  <-  SGD on CE(W f_theta(x) + b, y) + lambda sum_i F_i (theta_i - theta'_i)^2                      (1)
        F_i       <-  keep F_i + mean over images of the task of (d CE / d theta_i)^2,   after the task             (2)

    Source: Kirkpatrick et al., PNAS 2017, arXiv:1612.00796, with one anchor and summed F as in its online form. Keeps
    all weights, and F, as many again, for learning; one forward pass per image.
    """

    stage = "finetune"

    def setup(self) -> None:
        """Weights and head, and an F of nothing."""
        super().setup()
        self.importance = Importance(self.backbone.device)

    def hold(self, before: dict[str, Tensor], pixels: Tensor, h: Tensor) -> Tensor:
        """The springs of (1)."""
        return spring(self.worn.named_parameters(), before, self.importance.values)

    def end(self, task: Task) -> Iterator[Progress]:
        """Equation (2)."""
        p, named = self.params, dict(self.worn.named_parameters())
        fresh = yield from fisher(self, task, named, lambda h, y: self.likelihood(h, y, task), p.images)
        self.importance.add(fresh, p.keep)
