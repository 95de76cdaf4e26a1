"""Zero-shot CLIP: a class is its name in a sentence. Nothing is trained, nothing is forgotten."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, final

from jaxtyping import Float, UInt8
from torch import Tensor

from cillab.backbones.text import TEMPLATES, TEMPLATES_7
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.text_head import TextHead


class ZeroShotCLIPParams(HyperParams):
    """Hyper-parameters of zero-shot CLIP."""

    templates: Literal["one", "seven"] = "one"
    """"a photo of a {}.", or the mean over the seven sentences that CLIP's authors picked for ImageNet."""


@learners.register("zeroshot-clip")
@final
class ZeroShotCLIP(Learner[ZeroShotCLIPParams]):
    """The class whose name is nearest to the image.

        u_c = E_t("a photo of a c.") / ||.||,    logit_c(x) = s cos(E_v(x), u_c)                            (1)

    Source: CLIP, Radford et al., ICML 2021, arXiv:2103.00020, section 3.1. No training image is looked at. Keeps one
    vector per class; one forward pass per image.
    """

    name: ClassVar[str] = "zeroshot-clip"
    Params: ClassVar[type[HyperParams]] = ZeroShotCLIPParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="class names in a sentence on frozen CLIP: no training at all",
        paper="CLIP, Radford et al., ICML 2021, arXiv:2103.00020",
        evidence="reproduction",
        needs=frozenset({"clip", "class-names"}),
        shows=frozenset({"text"}),
        learns_names=True,
    )

    def __init__(self, backbone: Backbone, params: ZeroShotCLIPParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or ZeroShotCLIPParams(), seed
        self.text = TextHead(backbone, TEMPLATES if self.params.templates == "one" else TEMPLATES_7)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.text.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Read the names."""
        with undone_on_failure(self.parts()):
            self.text.grow(task)
            yield Progress("names", len(task), len(task))

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """E_v(x), frozen."""
        return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Equation (1)."""
        if not self.seen:
            raise NotObservedError("Zero-shot CLIP knows no class yet: exhaust observe(task) first.")
        return self.text(self.features(images))

    def head(self) -> Head:
        """The vectors of the names."""
        return self.text.head()

    def internals(self) -> Mapping[str, Tensor]:
        """The vectors of the names, under both names that prompted learners have."""
        return {"text/prototypes": self.text.prototypes, "text/frozen": self.text.frozen} if self.seen else {}

    def parts(self) -> Mapping[str, Part]:
        """The vectors of the names."""
        return {"text": self.text}
