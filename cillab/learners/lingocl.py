"""LingoCL: class names, encoded once and never moved, are what images are drawn to."""

from cillab.kit import (
    Competitors, F, Fit, HyperParams, Iterator, Literal, LoRA, Method, Overlay, PositiveFloat, PositiveInt, Progress,
    Task, Tensor, TextHead, cross_entropy, final, fit, method,
)  # fmt: skip


class LingoCLParams(HyperParams):
    """Hyper-parameters of LingoCL."""

    trains: Literal["lora", "all"] = "lora"
    """What of the images' side learns: a low-rank change of q and v, or all of its weights."""
    rank: PositiveInt = 8
    """Rank of the low-rank change."""
    scale: PositiveFloat | None = None
    """s of the logits; CLIP's own where it is not given."""
    template: str = "a photo of a {}."
    """The sentence around a name."""
    competitors: Competitors = "local"
    """Classes in the softmax: those of the current task ("local") or all seen ones ("seen")."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.005)
    """The images' side."""

    quick = {"rank": 2}


@method(
    "lingocl",
    paper="Ni et al., LingoCL, CVPR 2024, arXiv:2403.16124",
    evidence="reproduction of the head, on CLIP's own text encoder",
    family="images and text",
    when="To see what fixed targets with meaning do that fixed targets without it (nc-fscil) do not.",
    ours="text and images of one CLIP, where the paper joins any language model to any vision model",
    needs={"clip", "class-names", "vit"},
    internals=("text/prototypes",),
)
@final
class LingoCL(Method[LingoCLParams]):
    """Images are drawn to frozen class names.

        t_c = E_t("a photo of a c.") / ||.||, encoded once,   logit_c = s cos(f_theta(x), t_c)             (1)
        theta <- descent on CE(logits, y) over the classes of the task; rows never move and never forget   (2)

    Source: LingoCL, Ni et al., CVPR 2024, arXiv:2403.16124. What can still be forgotten are features. Keeps theta and
    2 K D numbers; one pass per image.
    """

    def setup(self) -> None:
        """A change that changes nothing, and no name."""
        p, draws = self.params, self.draws("lora")
        lora = p.trains == "lora"
        self.worn = LoRA(self.backbone, p.rank, generator=draws) if lora else Overlay(self.backbone, "*")
        self.classifier = TextHead(self.backbone, [p.template])
        self.classifier.scale = p.scale or self.classifier.scale

    def shape(self, h: Tensor) -> Tensor:
        """Unit length."""
        return F.normalize(h, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (2)."""

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, task.classes, self.params.competitors)

        yield from fit(self, task, self.worn.parameters(), loss, self.params.fit, stage="images")

    def internals(self):
        """The targets."""
        return {"text/prototypes": self.classifier.prototypes} if self.seen else {}
