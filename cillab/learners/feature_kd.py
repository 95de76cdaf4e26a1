"""Feature distillation: fine-tuning whose features stay near those of the network before the task."""

from cillab.kit import Held, HeldParams, Overlay, Tensor, deepcopy, final, method, torch


@method(
    "feature-kd",
    paper="Smith et al., A Closer Look at Rehearsal-Free Continual Learning, CVPR-W 2023, arXiv:2203.17269",
    evidence="reproduction",
    family="regularisation",
    when="Features themselves must stay, whatever the weights do: the old network is asked about today's images.",
    ours="lambda, and SGD at two rates for 10 epochs of batches of 48, which nobody has searched for yet",
)
@final
class FeatureKD(Held[HeldParams]):
    """Fine-tuning whose features of today's images stay near those of the network before the task.

        theta, W  <-  SGD on CE(W f_theta(x) + b, y) + lambda mean over images of ||f_theta(x) - f_theta'(x)||^2 / d (1)

    Source: Smith et al., CVPR-W 2023, arXiv:2203.17269. Keeps all weights, twice while it learns; two forward passes
    per image and step, one per image at test.
    """

    stage = "finetune"

    def before(self) -> Overlay:
        """The weights of the backbone, to be worn."""
        return deepcopy(self.worn)

    def hold(self, before: Overlay, pixels: Tensor, h: Tensor) -> Tensor:
        """The distance of (1)."""
        with torch.no_grad():
            theirs = self.on_pixels(pixels)(before)
        return (h - theirs).square().mean()
