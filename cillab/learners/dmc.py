"""DMC: the images' side adapts to frozen text, then a soft prompt adapts to remembered images. Never both at once."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cillab.backbones.text import TEMPLATES
from cillab.core import rng
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.decoupled import DecoupledParams, logit_bias, shown, text_stage, vision_delta, vision_stage
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Table
from cillab.parts.prompting import collect, make_prompt
from cillab.parts.text_head import TextHead


class DMCParams(DecoupledParams):
    """Hyper-parameters of DMC. The paper's text could not be read: every choice here is a reconstruction."""


@learners.register("dmc")
@final
class DMC(Learner[DMCParams]):
    """Decoupled two-stage adaptation of CLIP with a Gaussian per class in place of old images.

        images   theta <- descent on CE( s cos(v, u_c) over c in C_t, y ),   v = E_theta(x)                 (1)
        memory   mu_c = mean of v,  S_c = cov of v over the images of each new class c                      (2)
        text     P <- descent on CE( s cos(v, g_c) over c in C_1..t, y ),   v real or ~ N(mu_c, S_c)        (3)
        logits   s cos(v, g_c),   g_c = E_t([SOS, P, name_c, ".", EOS]) / ||.||                             (4)

    u_c is the frozen vector of "a photo of a c.", theta one low-rank change of the images' side that goes on from task
    to task, P one prompt for all classes. Source: DMC, Chen et al., arXiv:2511.10974, whose abstract names the stages,
    the frozen side of each and the Gaussian memory; equations, LoRA, prompt layout and all numbers are
    our choices. Old Gaussians stay where they were while theta moves: what `dmc-ot` repairs. Keeps d + d^2
    numbers per class for learning, d for classifying; one forward pass per image.
    """

    name: ClassVar[str] = "dmc"
    Params: ClassVar[type[HyperParams]] = DMCParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="CLIP in two stages: images towards frozen text, then a soft prompt towards remembered Gaussians",
        paper="DMC, Chen et al., arXiv:2511.10974",
        evidence="reconstruction after the abstract",
        needs=frozenset({"clip", "class-names", "vit"}),
        shows=frozenset({"text"}),
        learns_names=True,
    )

    def __init__(self, backbone: Backbone, params: DMCParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or DMCParams(), seed
        self.delta = vision_delta(backbone, self.params, seed)
        self.prompt = make_prompt(backbone, self.params, seed)
        self.text = TextHead(backbone, TEMPLATES, self.prompt)
        self.memory = GaussianMemory(backbone.feature_dim, self.params.covariance, backbone.device)
        self.record = Table(backbone.device)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.text.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Equations (1), (2), (3). A task of names alone only gets its prototypes (4)."""
        how, seed = self.params, self.seed
        with undone_on_failure(self.parts()):
            self.text.grow(task)
            if not len(task):
                yield Progress("names", 0, 0)
                return
            yield from vision_stage(task, self.backbone, self.delta, self.text, how, seed)
            clean, taken = yield from collect(task, self.backbone, self._embed, how.views, how, seed)
            self.memory.add(*clean)
            trained = self.prompt.parameters()
            yield from text_stage(task, taken, self.text, self.memory, how, seed, trained=trained)
            if len(self.memory) > len(task.classes):
                draws = rng.stream(seed, "bias", task.index)
                self.record.tensors["bias"] = logit_bias(task, self.text, self.memory, draws)

    def _embed(self, pixels: Tensor) -> Tensor:
        with self.backbone.wearing(self.delta):
            return self.backbone.embed(pixels)

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """v, in the joint space, not normalised."""
        with self.backbone.wearing(self.delta):
            return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Equation (4)."""
        if not self.seen:
            raise NotObservedError("DMC has seen no class yet: exhaust observe(task) first.")
        return self.text(self.features(images))

    def head(self) -> Head:
        """The prototypes g_c."""
        return self.text.head()

    def internals(self) -> Mapping[str, Tensor]:
        """Prototypes beside frozen anchors, stored Gaussians, and which side of old and new the logits favour."""
        bias = {"text/logit_bias": self.record.tensors["bias"]} if "bias" in self.record.tensors else {}
        with torch.no_grad():
            return {**shown(self.text, self.memory), **bias}

    def parts(self) -> Mapping[str, Part]:
        """The images' side, the prompt and its prototypes, the Gaussians, records."""
        return {
            "vision": self.delta,
            "prompt": self.prompt,
            "text": self.text,
            "memory": self.memory,
            "record": self.record,
        }
