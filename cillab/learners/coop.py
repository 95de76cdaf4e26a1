"""CoOp, one task after the other: a shared soft prompt on frozen CLIP. It forgets, and that is what it is here for."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

from jaxtyping import Float, UInt8
from torch import Tensor

from cillab.backbones.text import TEMPLATES
from cillab.core import rng
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.fitting import attention_for, descend
from cillab.parts.losses import Competitors, cross_entropy
from cillab.parts.prompting import PromptParams, collect, make_prompt, shuffled, text_schedule
from cillab.parts.text_head import TextHead


class CoOpParams(PromptParams):
    """Hyper-parameters of sequential CoOp."""

    competitors: Competitors = "seen"
    """Classes in the softmax: all seen ones ("seen") or those of the current task ("local")."""


@learners.register("coop")
@final
class CoOp(Learner[CoOpParams]):
    """One soft prompt for all classes, trained on the newest task alone.

        prompt_c = [SOS, P, name_c, ".", EOS],    g_c = E_t(prompt_c) / ||.||                               (1)
        P <- descent on CE(s cos(v, g_c), y),     v = E_v(x)                                                (2)

    Source: CoOp, Zhou et al., IJCV 2022, arXiv:2109.01134, on a stream. Both encoders are frozen, so a task's features
    are computed once and (2) trains on them; augmentation is `views`. Keeps P; one forward pass per image.
    """

    name: ClassVar[str] = "coop"
    Params: ClassVar[type[HyperParams]] = CoOpParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="one soft prompt on frozen CLIP, trained on the newest task: it forgets",
        paper="CoOp, Zhou et al., IJCV 2022, arXiv:2109.01134",
        evidence="reproduction, task by task",
        needs=frozenset({"clip", "class-names"}),
        shows=frozenset({"text"}),
        learns_names=True,
    )

    def __init__(self, backbone: Backbone, params: CoOpParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or CoOpParams(), seed
        self.prompt = make_prompt(backbone, self.params, seed)
        self.text = TextHead(backbone, TEMPLATES, self.prompt)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.text.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Equation (2) on the features of `task`."""
        how = self.params
        with undone_on_failure(self.parts()):
            self.text.grow(task)
            if not len(task):
                yield Progress("names", 0, 0)
                return
            _, taken = yield from collect(task, self.backbone, self.backbone.embed, how.views, None, self.seed)

            def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
                return shuffled(taken, how.text_batch, rng.stream(self.seed, "text", task.index, epoch))

            def loss(features: Tensor, labels: Tensor) -> Tensor:
                logits = self.text(features, self.text.encode())
                return cross_entropy(logits, labels, self.seen, task.classes, how.competitors)

            count = len(taken[1])
            yield from descend(
                batches, -(-count // how.text_batch), self.prompt.parameters(), loss, text_schedule(how),
                stage="text", total=how.text_epochs * count, epochs=how.text_epochs,
                under=lambda: attention_for(self.backbone),
            )  # fmt: skip
            self.text.refresh()

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """v, frozen."""
        return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Scaled cosines, s cos(v, g_c)."""
        if not self.seen:
            raise NotObservedError("CoOp has seen no class yet: exhaust observe(task) first.")
        return self.text(self.features(images))

    def head(self) -> Head:
        """The prototypes g_c."""
        return self.text.head()

    def internals(self) -> Mapping[str, Tensor]:
        """Prototypes now, and those of the hand template."""
        return {"text/prototypes": self.text.prototypes, "text/frozen": self.text.frozen} if self.seen else {}

    def parts(self) -> Mapping[str, Part]:
        """The prompt and the prototypes that it gives."""
        return {"prompt": self.prompt, "text": self.text}
