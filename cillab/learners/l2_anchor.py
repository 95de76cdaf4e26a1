"""L2: fine-tuning on a spring to the weights before the task."""

from cillab.kit import Held, HeldParams, Tensor, final, method, spring


@method(
    "l2-anchor",
    paper="Smith et al., A Closer Look at Rehearsal-Free Continual Learning, CVPR-W 2023, arXiv:2203.17269",
    evidence="reproduction",
    family="regularisation",
    when="The plainest way to hold a fine-tuned backbone back, and on pre-trained ViTs often the best of the four.",
    ours="lambda, and SGD at two rates for 10 epochs of batches of 48, which nobody has searched for yet",
)
@final
class L2Anchor(Held[HeldParams]):
    """Fine-tuning on a spring to the weights before the task.

        theta, W  <-  SGD on CE(W f_theta(x) + b, y) + lambda ||theta - theta'||^2,   theta' = theta before the task (1)

    Source: Smith et al., CVPR-W 2023, arXiv:2203.17269. Keeps all weights; one forward pass per image.
    """

    stage = "finetune"

    def hold(self, before: dict[str, Tensor], pixels: Tensor, h: Tensor) -> Tensor:
        """The spring of (1)."""
        return spring(self.worn.named_parameters(), before)
