"""ZSCL: CLIP is fine-tuned, and asked about things that are not in the task so that it goes on knowing them."""

from cillab.backbones.text import encode_classes
from cillab.kit import (
    Competitors, F, Field, Fit, Float, HyperParams, Iterator, Method, MovingAverage, NonNegativeFloat, NonNegativeInt,
    Overlay, PositiveFloat, Progress, Task, Tensor, TextHead, columns_of, distillation, final, fit, frozen_copy, method,
    spring, torch,
)  # fmt: skip

# What CLIP is asked about beside the task: things of every kind, in place of captions from the web.
_NOUNS = """
airplane apple backpack ball banana basket bear bed bee bicycle bird boat book bottle bowl bread bridge bus
butterfly cake camera candle car castle cat chair church clock cloud coat coin computer couch cow crab crown cup
deer desert dog dolphin door dress drum duck eagle elephant envelope eye face fence field fire fish flag flower
forest fork fox frog glass glove goat guitar hammer hand hat helicopter horse hospital house ice insect island
jacket kettle key kitchen kite knife ladder lake lamp leaf letter lighthouse lion lizard map mask mirror money
monkey moon motorcycle mountain mouse mushroom ocean orange owl painting pan pen person piano picture pig pillow
pizza plate pumpkin rabbit radio rain ring river road robot rocket rose sandwich scissors shark sheep shell ship
shirt shoe sky snail snake snow sofa spider spoon stairs star statue street strawberry sun sword table telephone
tent tiger tomato tower toy tractor train tree truck turtle umbrella vase violin wall watch wheel window wolf
"""
REFERENCE = tuple(_NOUNS.split())


class ZSCLParams(HyperParams):
    """Hyper-parameters of ZSCL."""

    tie: NonNegativeFloat = 1.0
    """Weight of answering as zero-shot CLIP does, about images and about texts."""
    temperature: PositiveFloat = 2.0
    """T of (2)."""
    spring: NonNegativeFloat = 1.0
    """Weight of the squared distance to the weights before the task."""
    smoothing: float = Field(default=0.2, ge=0, lt=1)
    """Share of the label that all classes split evenly."""
    every: NonNegativeInt = 10
    """Steps between two weights that enter the mean of the task; 0 keeps the last weights instead."""
    template: str = "a photo of a {}."
    """The sentence around a name."""
    competitors: Competitors = "local"
    """Classes in the softmax: those of the current task ("local") or all seen ones ("seen")."""
    fit: Fit = Fit(epochs=10, batch_size=64, lr=1e-5, optimiser="adamw", weight_decay=0.0)
    """The images' side."""

    quick = {"every": 2, "fit.lr": 0.001}


@method(
    "zscl",
    paper="Zheng et al., ZSCL, ICCV 2023, arXiv:2303.06628",
    evidence="reproduction, images' side",
    family="images and text",
    when="All of CLIP's image side may move and should still know what no task teaches: zero-shot CLIP is its teacher.",
    known="MTIL, order I, OpenAI ViT-B/16: transfer 68.1, average 75.4, last 83.6, where zero-shot CLIP has 65.3.",
    ours="the text's side stays frozen; the task's images and a fixed list of nouns in place of ImageNet and captions",
    needs={"clip", "class-names"},
    internals=("text/prototypes",),
)
@final
class ZSCL(Method[ZSCLParams]):
    """Fine-tuned CLIP that answers other questions as zero-shot CLIP does, averaged over its steps.

        z_ij = s cos(f_theta(x_i), t_j),  z'_ij the same by zero-shot CLIP,   t_j names that are in no task        (1)
        L    = CE(s cos(f_theta(x), t_c), y) + tie T^2 (KD_T(z, z') + KD_T(z^T, z'^T)) + spring |theta - theta_0|^2  (2)
        theta <- mean of theta_0 and theta after every 10th step on L,   theta_0 = theta before the task           (3)

    KD over rows compares texts for an image, KD over columns compares the images of a batch for a text. Source: Zheng
    et al., ICCV 2023, arXiv:2303.06628, which trains both sides. The reference images are the task's own, so what is
    kept is what CLIP says about them: no other image is needed. Keeps theta and 2 K D numbers; two forward passes per
    image and step, one at test.
    """

    def setup(self) -> None:
        """CLIP as it is, and no name."""
        self.worn = Overlay(self.backbone, "*")
        self.classifier = TextHead(self.backbone, [self.params.template])

    def shape(self, h: Tensor) -> Tensor:
        """Unit length."""
        return F.normalize(h, dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (2), then (3)."""
        p, text = self.params, self.classifier
        columns = text.columns(task.classes if p.competitors == "local" else text.classes)
        classes = tuple(text.classes[c] for c in columns.tolist())
        reference = encode_classes(self.backbone, REFERENCE, [p.template])
        start = frozen_copy(self.worn.named_parameters())

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            run = self.on_pixels(pixels)
            v = self.shape(self.embed(run))
            logits, target = text(v)[:, columns], columns_of(labels, classes)
            value = F.cross_entropy(logits, target, label_smoothing=p.smoothing)
            if p.tie:
                with torch.no_grad():
                    zero_shot = self.shape(run())
                value = value + p.tie * agreement(v, zero_shot, reference, text.scale, p.temperature)
            return value + p.spring * spring(self.worn.named_parameters(), start)

        average = MovingAverage(self.worn.parameters(), 0.0)
        steps = fit(self, task, self.worn.parameters(), loss, p.fit, stage="images", on_pixels=True)
        taken = 0
        for taken, progress in enumerate(steps, start=1):
            if p.every and taken % p.every == 0:
                average.momentum = 1 - 1 / (taken // p.every + 1)  # makes it the plain mean
                average.update()
            yield progress
        if p.every and taken >= p.every:  # fewer steps leave nothing but the start to average
            average.settle()

    def internals(self):
        """The names."""
        return {"text/prototypes": self.classifier.prototypes} if self.seen else {}


def agreement(
    v: Float[Tensor, "image feature"],
    teacher: Float[Tensor, "image feature"],
    texts: Float[Tensor, "text feature"],
    scale: float,
    temperature: float,
) -> Float[Tensor, ""]:
    """T^2 (KD_T(z, z') + KD_T(z^T, z'^T)) of (2), for unit vectors."""
    z, theirs = scale * v @ texts.T, scale * teacher @ texts.T
    return temperature**2 * (distillation(z, theirs, temperature) + distillation(z.T, theirs.T, temperature))
