"""DMC-OT: as DMC, with stored Gaussians that follow the encoder by optimal transport, and tokens for each task."""

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from cillab.backbones.text import TEMPLATES
from cillab.core import rng
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.parts.calibration import CALIBRATIONS, Calibration, Pairs, gaussian_transport
from cillab.parts.decoupled import (
    DecoupledParams,
    gaussians,
    logit_bias,
    shown,
    text_stage,
    vision_delta,
    vision_stage,
)
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Table
from cillab.parts.prompting import Taken, collect, make_prompt
from cillab.parts.text_head import TextHead


class DMCOTParams(DecoupledParams):
    """Hyper-parameters of DMC-OT. The paper's text could not be read: every choice here is a reconstruction."""

    calibration: Calibration = "gaussian"
    """How old Gaussians follow the encoder: the optimal map between the task's features before and after (5); a map per
    new class, weighted by a plan between classes; means alone; the least-squares map of paired features (a control that
    sees rotations); not at all."""
    shrinkage: float = Field(default=0.05, ge=0, le=1)
    """a, how far covariances are pulled towards a multiple of the identity before the map is made."""
    epsilon: PositiveFloat = 0.05
    """Regularisation of the plan between classes, for "plan" and "shift"."""
    task_tokens: PositiveInt = 4
    """Tokens Q_t of every task, behind the shared ones."""
    shared_after_first: bool = True
    """Train the shared tokens P in every task; otherwise in the first alone, and then only Q_t."""
    separation: NonNegativeFloat = 0.0
    """Weight of the mean of max(0, cos(g_c, g_c') - margin) over old and new classes."""
    margin: float = Field(default=0.5, ge=-1, le=1)
    """Cosine from which on old and new prototypes push each other away, if `separation` is not 0."""


@learners.register("dmc-ot")
@final
class DMCOT(Learner[DMCOTParams]):
    """DMC with calibrated memory and task tokens; stages (1) to (4) are those of DMC.

        v_o, v_n   features of the task's images before and after stage (1)
        A          = S_o^{-1/2} (S_o^{1/2} S_n S_o^{1/2})^{1/2} S_o^{-1/2},  S of v_o, v_n, shrunk              (5)
        old c      mu_c <- m_n + A (mu_c - m_o),   S_c <- A S_c A                                               (6)
        prompt     [SOS, P, Q_t(c), name_c, ".", EOS]; task t trains P and Q_t, older Q are frozen              (7)

    Source: DMC-OT, Chen et al., arXiv:2511.10974: the abstract names calibration of class statistics by
    optimal transport and task-specific prompts; that the transport is the closed form between Gaussians, and
    all numbers, are our choices. (5) ignores which image went where, so it is blind to rotations that leave
    the task's law unchanged: "paired" is the control. Prototypes of all tasks compete: no task is asked
    for at test. Keeps d + d^2 numbers per class for learning, d for classifying; one forward pass per image.
    """

    name: ClassVar[str] = "dmc-ot"
    Params: ClassVar[type[HyperParams]] = DMCOTParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="DMC whose stored Gaussians follow the encoder by optimal transport, with prompt tokens per task",
        paper="DMC-OT, Chen et al., arXiv:2511.10974",
        evidence="reconstruction after the abstract",
        needs=frozenset({"clip", "class-names", "vit"}),
        shows=frozenset({"text", "transport"}),
    )

    def __init__(self, backbone: Backbone, params: DMCOTParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or DMCOTParams(), seed
        how, dim = self.params, backbone.feature_dim
        self.delta = vision_delta(backbone, how, seed)
        self.prompt = make_prompt(backbone, how, seed, how.task_tokens)
        self.text = TextHead(backbone, TEMPLATES, self.prompt)
        self.memory = GaussianMemory(dim, how.covariance, backbone.device)
        self.memory_before = GaussianMemory(dim, how.covariance, backbone.device)  # old classes, not yet calibrated
        self.record = Table(backbone.device)

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.text.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """(1), then (5) and (6) on what is stored, then (2) and (3) with the task's own tokens (7)."""
        how, seed = self.params, self.seed
        with undone_on_failure(self.parts()):
            self.prompt.grow(rng.stream(seed, "task tokens", task.index))
            self.text.grow(task, row=len(self.prompt.tasks) - 1)
            before: Taken | None = None
            if len(self.memory):
                before, _ = yield from collect(task, self.backbone, self._embed, 0, how, seed)
            yield from vision_stage(task, self.backbone, self.delta, self.text, how, seed)
            clean, taken = yield from collect(task, self.backbone, self._embed, how.views, how, seed)
            self.memory_before.load(self.memory.state())
            if before is not None:
                self._calibrate(Pairs(before[0], *clean))
            self.memory.add(*clean)
            trained = self.trained(first=before is None)
            extra = self._separation(task) if how.separation and before is not None else None
            yield from text_stage(
                task, taken, self.text, self.memory, how, seed, trained=trained, extra=extra
            )  # fmt: skip
            if len(self.memory) > len(task.classes):
                draws = rng.stream(seed, "bias", task.index)
                self.record.tensors["bias"] = logit_bias(task, self.text, self.memory, draws)

    def _calibrate(self, pairs: Pairs) -> None:
        """Equations (5) and (6), or the alternative that `params` name; the spectrum of A is recorded in any case."""
        how = self.params
        calibrated = CALIBRATIONS[how.calibration](self.memory, pairs, how.shrinkage, how.epsilon)
        self.memory.load(calibrated.state())
        spectrum = torch.linalg.eigvalsh(gaussian_transport(pairs, how.shrinkage).a)
        self.record.tensors["eigenvalues"] = spectrum.float()

    def trained(self, first: bool) -> list[nn.Parameter]:
        """P, unless it is kept from the first task, and Q_t."""
        shared = [self.prompt.context, *self.prompt.deep] if first or self.params.shared_after_first else []
        return [*shared, self.prompt.tasks[-1]]

    def _separation(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Mean over pairs of an old and a new class of max(0, cos(g_c, g_c') - margin), times its weight."""
        new = self.text.columns([c for c in self.seen if c in task.classes])
        old = self.text.columns([c for c in self.seen if c not in task.classes])

        def hinge(rows: Float[Tensor, "cls feature"]) -> Float[Tensor, ""]:
            return self.params.separation * F.relu(rows[old] @ rows[new].T - self.params.margin).mean()

        return hinge

    def _embed(self, pixels: Tensor) -> Tensor:
        with self.backbone.wearing(self.delta):
            return self.backbone.embed(pixels)

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """v, in the joint space, not normalised."""
        with self.backbone.wearing(self.delta):
            return self.backbone(images)

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Scaled cosines, s cos(v, g_c)."""
        if not self.seen:
            raise NotObservedError("DMC-OT has seen no class yet: exhaust observe(task) first.")
        return self.text(self.features(images))

    def head(self) -> Head:
        """The prototypes g_c."""
        return self.text.head()

    def internals(self) -> Mapping[str, Tensor]:
        """Prototypes, Gaussians before and after calibration (rows of new classes before it are NaN), spectrum of A."""
        with torch.no_grad():
            found = dict(shown(self.text, self.memory))
            if len(self.memory_before) and "gaussian/mean" in found:
                columns = self.text.columns(self.memory_before.classes)
                for name, value in gaussians(self.memory_before, "_before").items():
                    rows = value.new_full((len(self.seen), *value.shape[1:]), torch.nan)
                    found[name] = rows.index_copy(0, columns, value)
        for name, key in (("text/logit_bias", "bias"), ("transport/eigenvalues", "eigenvalues")):
            if key in self.record.tensors:
                found[name] = self.record.tensors[key]
        return found

    def parts(self) -> Mapping[str, Part]:
        """The images' side, the prompt and its prototypes, Gaussians now and before calibration, records."""
        return {
            "vision": self.delta,
            "prompt": self.prompt,
            "text": self.text,
            "memory": self.memory,
            "memory_before": self.memory_before,
            "record": self.record,
        }
