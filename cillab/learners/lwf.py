"""LwF: fine-tuning whose logits of old classes stay what they were."""

from cillab.kit import (
    F, Held, HeldParams, Overlay, PositiveFloat, Tensor, deepcopy, distillation, final, method, torch,
)  # fmt: skip


class LwFParams(HeldParams):
    """Hyper-parameters of LwF."""

    temperature: PositiveFloat = 2.0
    """T of (1)."""


@method(
    "lwf",
    paper="Li & Hoiem, Learning without Forgetting, ECCV 2016, arXiv:1606.09282; compared in arXiv:2203.17269",
    evidence="reproduction",
    family="regularisation",
    when="The classical answer without images: the old classifier's opinion of today's images must not change.",
    ours="lambda, and SGD at two rates for 10 epochs of batches of 48, which nobody has searched for yet",
)
@final
class LwF(Held[LwFParams]):
    """Fine-tuning whose logits of old classes stay what they were on today's images.

        z = W f_theta(x) + b,    z' = the same before the task, of old classes                                      (1)
        theta, W  <-  SGD on CE(z, y) + lambda KD_T(z of old classes, z')                                           (2)

    Source: Li & Hoiem, ECCV 2016, arXiv:1606.09282. KD_T is `distillation`, without T^2. Keeps all weights, twice while
    it learns; two forward passes per image and step, one per image at test.
    """

    stage = "finetune"

    def before(self) -> tuple[Overlay, Tensor, Tensor | None]:
        """The weights of the backbone, to be worn, and W and b of old classes."""
        weight, bias = (x if x is None else x[: len(self.old)].clone() for x in self.classifier.rows())
        return deepcopy(self.worn), weight, bias  # type: ignore[return-value]

    def hold(self, before: tuple[Overlay, Tensor, Tensor | None], pixels: Tensor, h: Tensor) -> Tensor:
        """KD of (2)."""
        theta, weight, bias = before
        with torch.no_grad():
            theirs = F.linear(self.on_pixels(pixels)(theta), weight, bias)
        return distillation(self.classifier(h)[:, : len(self.old)], theirs, self.params.temperature)
