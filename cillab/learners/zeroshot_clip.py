"""Zero-shot CLIP: class names alone. No training image is looked at."""

from cillab.backbones.text import TEMPLATES, TEMPLATES_7
from cillab.kit import HyperParams, Iterator, Literal, Method, Progress, Task, TextHead, final, method


class ZeroShotCLIPParams(HyperParams):
    """Hyper-parameters of zero-shot CLIP."""

    templates: Literal["one", "seven"] = "one"
    """"a photo of a {}.", or the mean over the seven sentences that CLIP's authors picked for ImageNet."""


@method(
    "zeroshot-clip",
    paper="CLIP, Radford et al., ICML 2021, arXiv:2103.00020",
    evidence="reproduction",
    family="images and text",
    when="The number that every method on CLIP must beat: names alone.",
    needs={"clip", "class-names"},
    internals=("text/prototypes", "text/frozen"),
    learns_names=True,
)
@final
class ZeroShotCLIP(Method[ZeroShotCLIPParams]):
    """Class names in a sentence on frozen CLIP: no training at all.

        u_c = E_t("a photo of a c.") / ||.||,    logit_c(x) = s cos(E_v(x), u_c)                            (1)

    Source: CLIP, Radford et al., ICML 2021, arXiv:2103.00020, section 3.1. No training image is looked at. Keeps two
    vectors per class, the learnt one and the frozen one; one forward pass per image.
    """

    former_parts = {"text": "classifier"}

    def setup(self) -> None:
        """No name yet."""
        self.classifier = TextHead(self.backbone, TEMPLATES if self.params.templates == "one" else TEMPLATES_7)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Nothing is learnt."""
        yield Progress("names", len(task), len(task))

    def internals(self):
        """The vectors of the names, under both names that prompted learners have."""
        text = self.classifier
        return {"text/prototypes": text.prototypes, "text/frozen": text.frozen} if self.seen else {}
