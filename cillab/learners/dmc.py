"""DMC and DMC-OT: the images' side adapts to frozen text, then a soft prompt adapts to remembered images.

The two are one method: DMC-OT moves the remembered Gaussians along with the encoder and gives each task tokens.
"""

from collections.abc import Callable
from typing import TypeVar

from cillab.backbones.text import TEMPLATES
from cillab.kit import (
    Competitors, F, Field, Fit, Float, GaussianMemory, Internal, Iterator, Literal, LoRA, Mapping, Method,
    NonNegativeFloat, NonNegativeInt, Overlay, PositiveFloat, PositiveInt, Progress, PromptParams, Table, Task, Tensor,
    TextHead, attention_for, balanced_cross_entropy, cross_entropy, descend, final, fit, gathered, make_prompt, method,
    nn, shuffled, torch, viewed,
)  # fmt: skip
from cillab.parts.calibration import CALIBRATIONS, Calibration, Pairs, gaussian_transport
from cillab.parts.prompting import Labelled


class DMCParams(PromptParams):
    """Hyper-parameters of both stages. No number of the paper could be read: all are choices of ours."""

    vision: Literal["lora", "last", "full", "none"] = "lora"
    """What trains on the images' side: low-rank factors on q and v of every block, all weights of the last blocks, all
    weights (then with an lr of about 1e-5), or nothing (ablation)."""
    rank: PositiveInt = 8
    """Rank of the low-rank factors."""
    alpha: PositiveFloat = 8.0
    """Scale of the low-rank factors is alpha / rank."""
    last_blocks: PositiveInt = 2
    """Blocks that train when `vision` is "last"."""
    fit: Fit = Fit(epochs=2, batch_size=64, lr=1e-4, optimiser="adamw", weight_decay=1e-4)
    """The images' side on a task's images. Whatever it moves leaves the stored Gaussians behind."""
    competitors: Competitors = "local"
    """Frozen anchors in the softmax of the images' side: those of the current task, or of all classes seen. Old anchors
    would only ever be negatives, since no old image is there."""
    distil: NonNegativeFloat = 0.0
    """Weight of ||v/|v| - v'/|v'|||^2 with v' of the encoder before the task: holds features where they were."""
    joint: bool = False
    """Ablation: in the images' stage the prompt trains along, in place of frozen anchors."""
    text_layers: PositiveInt = 3
    """Blocks of the text side with context tokens of their own, at most as many as there are."""
    covariance: Literal["full", "diagonal"] = "full"
    """What is remembered of a class's spread."""
    floor: NonNegativeFloat = 0.01
    """Added to every variance when features are drawn, as a share of the class's mean variance."""
    replay: NonNegativeInt = 20
    """Features drawn per old class and step of the prompt; 0 is no replay (ablation)."""
    current: Literal["real", "gaussian"] = "real"
    """The newest classes, too: their real features, or features drawn from their Gaussians (a batch in all)."""


class DMCOTParams(DMCParams):
    """Hyper-parameters of DMC-OT: those of DMC, the calibration, the tokens of a task."""

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


D = TypeVar("D", bound=DMCParams)


class Decoupled(Method[D]):
    """The two stages, with calibration and task tokens where the record has them."""

    former_parts = {"vision": "worn", "text": "classifier"}

    def setup(self) -> None:
        """An untouched images' side, the prompt, no name, no Gaussian."""
        p, backbone = self.params, self.backbone
        self.worn = self.vision()
        self.calibrated = p if isinstance(p, DMCOTParams) else None
        self.prompt = make_prompt(backbone, p, self.seed, self.calibrated.task_tokens if self.calibrated else 0)
        self.classifier = TextHead(backbone, TEMPLATES, self.prompt)
        self.memory = GaussianMemory(backbone.feature_dim, p.covariance, backbone.device)
        if self.calibrated:  # the Gaussians of old classes as they were before they followed the encoder
            self.memory_before = GaussianMemory(backbone.feature_dim, p.covariance, backbone.device)
        self.record = Table(backbone.device)

    def vision(self) -> LoRA | Overlay:
        """What trains on the images' side; a fresh one changes nothing."""
        p, backbone = self.params, self.backbone
        if p.vision == "lora":
            return LoRA(backbone, p.rank, p.alpha, generator=self.draws("low-rank"))
        last = (f"{name}.*" for name in backbone.block_names[-p.last_blocks :])
        return Overlay(backbone, *{"last": last, "full": ("*",), "none": ()}[p.vision])

    def arrive(self, task: Task) -> None:
        """Tokens of the task, if there are any, and prototypes of its names."""
        if self.calibrated:
            self.prompt.grow(self.draws("task tokens", task.index))
        self.classifier.grow(task.classes, task.class_names, row=max(len(self.prompt.tasks) - 1, 0))

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1), then (5) and (6) on what is stored, then (2) and (3). A task of names alone only gets its prototypes."""
        p = self.params
        if not len(task):
            yield Progress("names", 0, 0)
            return
        first, before = not len(self.memory), None
        if self.calibrated and not first:
            before, _ = yield from gathered(self, task, stage="features before")
        yield from self._images(task)
        h, labels = yield from gathered(self, task)
        if self.calibrated:
            self._calibrate(None if before is None else Pairs(before, h, labels), self.calibrated)
        self.memory.add(h, labels)
        more, theirs = yield from viewed(self, task, p.views, p.fit)
        yield from self._text(task, (torch.cat([h, more]), torch.cat([labels, theirs])), first)
        if len(self.memory) > len(task.classes):
            self.record.tensors["bias"] = self._logit_bias(task)

    def _images(self, task: Task) -> Iterator[Progress]:
        """Equation (1), with the distillation that `distil` weighs."""
        p, text = self.params, self.classifier
        if p.vision == "none":
            return
        before = self.vision() if p.distil else None
        if before is not None:
            before.load(self.worn.state())

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            features = self.embed(self.on_pixels(pixels))
            logits = text(features, text.encode() if p.joint else text.frozen)
            value = cross_entropy(logits, labels, self.seen, task.classes, p.competitors)
            if before is None:
                return value
            with torch.no_grad():
                held = F.normalize(self.on_pixels(pixels)(before), dim=-1)
            return value + p.distil * (F.normalize(features, dim=-1) - held).square().sum(dim=1).mean()

        joint = [{"params": self.prompt.parameters(), "lr": p.text.lr}] if p.joint else []
        yield from fit(
            self, task, [{"params": self.worn.parameters()}, *joint], loss, p.fit, stage="images", on_pixels=True
        )

    def _calibrate(self, pairs: Pairs | None, p: DMCOTParams) -> None:
        """Equations (5) and (6), or the alternative that `params` name; the spectrum of A is recorded in any case."""
        self.memory_before.load(self.memory.state())
        if pairs is not None:
            self.memory.load(CALIBRATIONS[p.calibration](self.memory, pairs, p.shrinkage, p.epsilon).state())
            spectrum = torch.linalg.eigvalsh(gaussian_transport(pairs, p.shrinkage).a)
            self.record.tensors["eigenvalues"] = spectrum.float().to(self.backbone.device)

    def _text(self, task: Task, taken: Labelled, first: bool) -> Iterator[Progress]:
        """Equation (3): all classes weigh the same, whether their features are real or drawn."""
        p, how, text = self.params, self.params.text, self.classifier
        old = tuple(c for c in self.memory.classes if c not in task.classes) if p.replay else ()
        count, steps = len(taken[1]), -(-len(taken[1]) // how.batch_size)
        separation = self._separation(task, first)

        def batches(epoch: int) -> Iterator[Labelled]:
            draws = self.draws("text", task.index, epoch)
            sides = [shuffled(taken, how.batch_size, draws)]
            if p.current == "gaussian":
                each = -(-how.batch_size // len(task.classes))
                sides = [self.memory.batches(steps, each, draws, task.classes, p.floor)]
            if old:
                sides.append(self.memory.batches(steps, p.replay, draws, old, p.floor))
            for parts in zip(*sides, strict=True):
                yield torch.cat([v for v, _ in parts]), torch.cat([y for _, y in parts])

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            rows = text.encode()
            return balanced_cross_entropy(text(features, rows), labels, self.seen) + separation(rows)

        total = how.epochs * (count + steps * p.replay * len(old))
        yield from descend(
            batches, steps, self.trained(first), loss, how, stage="text", total=total,
            under=lambda: attention_for(self.backbone),
        )  # fmt: skip
        text.refresh()

    def trained(self, first: bool) -> list[nn.Parameter]:
        """P, unless it is kept from the first task, and Q_t if there is one."""
        keep_shared = self.calibrated is not None and not self.calibrated.shared_after_first and not first
        shared = [] if keep_shared else [self.prompt.context, *self.prompt.deep]
        return [*shared, *([self.prompt.tasks[-1]] if self.calibrated else [])]

    def _separation(self, task: Task, first: bool) -> Callable[[Tensor], Tensor | float]:
        """Mean over pairs of an old and a new class of max(0, cos(g_c, g_c') - margin), times its weight."""
        p = self.calibrated
        if p is None or not p.separation or first:
            return lambda rows: 0.0
        new = self.classifier.columns([c for c in self.seen if c in task.classes])
        old = self.classifier.columns([c for c in self.seen if c not in task.classes])
        return lambda rows: p.separation * F.relu(rows[old] @ rows[new].T - p.margin).mean()

    def _logit_bias(self, task: Task, each: int = 64) -> Float[Tensor, "2 2"]:
        """Mean of the largest logit among old (column 0) and new classes (1), for features of old (row 0) and new (1).

        Features are drawn. Row 0 with its larger number in column 1 is the bias towards new classes.
        """
        text, draws = self.classifier, self.draws("bias", task.index)
        sides = [[c for c in self.memory.classes if (c in task.classes) == new] for new in (False, True)]
        columns = [text.columns([c for c in self.seen if (c in task.classes) == new]) for new in (False, True)]
        rows = []
        for classes in sides:
            logits = text(self.memory.sample(each, draws, tuple(classes))[0])
            rows.append(torch.stack([logits[:, some].amax(dim=1).mean() for some in columns]))
        return torch.stack(rows)

    def internals(self) -> Mapping[str, Tensor]:
        """Prototypes beside frozen anchors, Gaussians, the spectrum of A, and which side the logits favour.

        Rows of new classes before calibration are NaN.
        """
        text, memory, found = self.classifier, self.memory, dict[str, Tensor]()
        if not self.seen:
            return found
        found |= {"text/prototypes": text.prototypes, "text/frozen": text.frozen}
        if set(memory.classes) >= set(self.seen):
            found |= gaussians(memory.only(self.seen))
            if self.calibrated and len(self.memory_before):
                columns = text.columns(self.memory_before.classes)
                for name, value in gaussians(self.memory_before, "_before").items():
                    rows = value.new_full((len(self.seen), *value.shape[1:]), torch.nan)
                    found[name] = rows.index_copy(0, columns, value)
        kept = {"text/logit_bias": "bias", "transport/eigenvalues": "eigenvalues"}
        return found | {name: self.record.tensors[key] for name, key in kept.items() if key in self.record.tensors}


def gaussians(memory: GaussianMemory, suffix: str = "") -> Mapping[str, Tensor]:
    """Means and the eight leading directions of every class."""
    return {f"gaussian/mean{suffix}": memory.means, f"gaussian/factor{suffix}": memory.factor(8).half()}


SHOWN = (
    "text/prototypes",
    "text/frozen",
    Internal(
        "text/logit_bias", "f32 [2, 2]", "mean largest logit among old and new classes (columns), for both (rows)"
    ),
    "gaussian/mean",
    "gaussian/factor",
)
CALIBRATED = (
    "gaussian/mean_before",
    "gaussian/factor_before",
    Internal("transport/eigenvalues", "f32 [d]", "spectrum of the transport map A, ascending; 1 = nothing moved"),
)


@method(
    "dmc",
    paper="DMC, Chen et al., arXiv:2511.10974",
    evidence="reconstruction after the abstract",
    family="images and text",
    when="CLIP whose images' side must adapt, with a Gaussian per class in place of old images.",
    ours="equations, LoRA, prompt layout and every number",
    needs={"clip", "class-names", "vit"},
    internals=SHOWN,
    learns_names=True,
)
@final
class DMC(Decoupled[DMCParams]):
    """CLIP in two stages: images towards frozen text, then a soft prompt towards remembered Gaussians.

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


@method(
    "dmc-ot",
    paper="DMC-OT, Chen et al., arXiv:2511.10974",
    evidence="reconstruction after the abstract",
    family="images and text",
    when="As dmc, where the encoder moves so far that stored statistics go stale.",
    ours="that the transport is the closed form between Gaussians, and every number",
    needs={"clip", "class-names", "vit"},
    internals=(*SHOWN, *CALIBRATED),
)
@final
class DMCOT(Decoupled[DMCOTParams]):
    """DMC whose stored Gaussians follow the encoder by optimal transport, with prompt tokens per task.

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
