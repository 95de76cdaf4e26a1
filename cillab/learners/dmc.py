"""DMC and DMC-OT: the images' side adapts to frozen text, then a soft prompt adapts to remembered images.

The two are one method: DMC-OT moves the remembered Gaussians along with the encoder and gives each task tokens.
"""

from typing import TypeVar

from cillab.backbones.text import TEMPLATES
from cillab.kit import (
    Competitors, F, Field, Fit, GaussianMemory, Generator, Iterator, Literal, LoRA, Mapping, Method, NonNegativeFloat,
    NonNegativeInt, Overlay, PositiveFloat, PositiveInt, Progress, PromptParams, Table, Task, Tensor, TextHead,
    attention_for, balanced_cross_entropy, cross_entropy, deepcopy, descend, final, fit, gathered, make_prompt, method,
    nn, sent, shuffled, torch, viewed,
)  # fmt: skip
from cillab.parts.calibration import CALIBRATIONS, Calibration, Pairs, gaussian_transport
from cillab.parts.fitting import Labelled
from cillab.parts.watching import logit_bias


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

SHOWN = ("text/prototypes", "text/frozen", "text/logit_bias", "gaussian/mean", "gaussian/factor")


class Decoupled(Method[D]):
    """The two stages that both have."""

    former_parts = {"vision": "worn", "text": "classifier"}

    def setup(self) -> None:
        """An untouched images' side, the prompt, no name, no Gaussian."""
        p, backbone = self.params, self.backbone
        last = [f"{name}.*" for name in backbone.block_names[-p.last_blocks :]]
        self.worn: LoRA | Overlay = (
            LoRA(backbone, p.rank, p.alpha, generator=self.draws("low-rank"))
            if p.vision == "lora"
            else Overlay(backbone, *{"last": last, "full": ["*"], "none": []}[p.vision])
        )
        self.prompt = make_prompt(backbone, p, self.seed, p.task_tokens if isinstance(p, DMCOTParams) else 0)
        self.classifier = TextHead(backbone, TEMPLATES, self.prompt)
        self.memory = GaussianMemory(backbone.feature_dim, p.covariance, backbone.device)
        self.record = Table(backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(1), (2), (3)."""
        clean = yield from self.adapt(task)
        self.memory.add(*clean)
        taken = yield from viewed(self, task, clean, self.params.views, self.params.fit)
        yield from self._text(task, taken)
        if len(self.memory) > len(task.classes):
            draws = self.draws("bias", task.index)
            self.record.tensors["bias"] = logit_bias(self.classifier, self.memory, task.classes, draws)

    def adapt(self, task: Task) -> Generator[Progress, None, Labelled]:
        """Equation (1), with the distillation that `distil` weighs; then the features of the task."""
        p, text = self.params, self.classifier
        before = deepcopy(self.worn) if self.params.distil else None

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            features = self.embed(self.on_pixels(pixels))
            logits = text(features, text.encode() if p.joint else text.frozen)
            value = cross_entropy(logits, labels, self.seen, task.classes, p.competitors)
            if before is None:
                return value
            with torch.no_grad():
                held = F.normalize(self.on_pixels(pixels)(before), dim=-1)
            return value + p.distil * (F.normalize(features, dim=-1) - held).square().sum(dim=1).mean()

        if p.vision != "none":
            groups = [{"params": self.worn.parameters()}]
            groups += [{"params": self.prompt.parameters(), "lr": p.text.lr}] if p.joint else []
            yield from fit(self, task, groups, loss, p.fit, stage="images", on_pixels=True)
        return (yield from gathered(self, task))

    def _text(self, task: Task, taken: Labelled) -> Iterator[Progress]:
        """Equation (3): all classes weigh the same, whether their features are real or drawn."""
        p, how, text, memory = self.params, self.params.text, self.classifier, self.memory
        old = tuple(c for c in memory.classes if c not in task.classes) if p.replay else ()
        count, steps = len(taken[1]), -(-len(taken[1]) // how.batch_size)

        def batches(epoch: int) -> Iterator[Labelled]:
            draws = self.draws("text", task.index, epoch)
            sides = [shuffled(taken, how.batch_size, draws)]
            if p.current == "gaussian":
                sides = [memory.batches(steps, -(-how.batch_size // len(task.classes)), draws, task.classes, p.floor)]
            if old:
                sides.append(memory.batches(steps, p.replay, draws, old, p.floor))
            for parts in zip(*sides, strict=True):
                yield torch.cat([v for v, _ in parts]), torch.cat([y for _, y in parts])

        def loss(features: Tensor, labels: Tensor) -> Tensor:
            rows = text.encode()
            return balanced_cross_entropy(text(features, rows), labels, self.seen) + self.separation(rows, task)

        yield from descend(
            batches, steps, self.trained(), loss, how, stage="text", under=lambda: attention_for(self.backbone),
            total=how.epochs * (count + steps * p.replay * len(old)),
        )  # fmt: skip
        text.refresh()

    def trained(self) -> list[nn.Parameter]:
        """P."""
        return [self.prompt.context, *self.prompt.deep]

    def separation(self, rows: Tensor, task: Task) -> Tensor | float:
        """What holds the prototypes of old and new classes apart: nothing."""
        return 0.0

    def internals(self) -> Mapping[str, Tensor]:
        """Prototypes beside frozen anchors, Gaussians, and which side the logits favour."""
        text, memory, kept = self.classifier, self.memory, self.record.tensors
        if not self.seen:
            return {}
        found = {"text/prototypes": text.prototypes, "text/frozen": text.frozen}
        if set(memory.classes) >= set(self.seen):
            found |= memory.only(self.seen).shown()
        return found | ({"text/logit_bias": kept["bias"]} if "bias" in kept else {})


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
    the frozen side of each and the memory. Old Gaussians stay where they were while theta moves: what `dmc-ot` repairs.
    Keeps d + d^2 numbers per class for learning, 2 d for classifying; one forward pass per image.
    """


@method(
    "dmc-ot",
    paper="DMC-OT, Chen et al., arXiv:2511.10974",
    evidence="reconstruction after the abstract",
    family="images and text",
    when="As dmc, where the encoder moves so far that stored statistics go stale.",
    ours="that the transport is the closed form between Gaussians, and every number",
    needs={"clip", "class-names", "vit"},
    internals=(*SHOWN, "gaussian/mean_before", "gaussian/factor_before", "transport/eigenvalues"),
)
@final
class DMCOT(Decoupled[DMCOTParams]):
    """DMC whose stored Gaussians follow the encoder by optimal transport, with prompt tokens per task.

        v_o, v_n   features of the task's images before and after stage (1)
        A          = S_o^{-1/2} (S_o^{1/2} S_n S_o^{1/2})^{1/2} S_o^{-1/2},  S of v_o, v_n, shrunk              (5)
        old c      mu_c <- m_n + A (mu_c - m_o),   S_c <- A S_c A                                               (6)
        prompt     [SOS, P, Q_t(c), name_c, ".", EOS]; task t trains P and Q_t, older Q are frozen              (7)

    Source: DMC-OT, Chen et al., arXiv:2511.10974, whose abstract names calibration of class statistics by optimal
    transport and task-specific prompts. (5) ignores which image went where, so it is blind to rotations that leave the
    task's law unchanged: "paired" is the control. Prototypes of all tasks compete: no task is asked for at test. Keeps
    2 (d + d^2) numbers per class for learning, 2 d for classifying; one forward pass per image.
    """

    def setup(self) -> None:
        """As DMC, and the Gaussians of old classes as they were before they followed the encoder."""
        super().setup()
        self.memory_before = GaussianMemory(self.backbone.feature_dim, self.params.covariance, self.backbone.device)

    def arrive(self, task: Task) -> None:
        """Tokens of the task, and prototypes of its names."""
        self.prompt.grow(self.draws("task tokens", task.index))
        self.classifier.grow(task.classes, task.class_names, row=len(self.prompt.tasks) - 1)

    def adapt(self, task: Task) -> Generator[Progress, None, Labelled]:
        """(1), then (5) and (6), or the alternative that `params` name, on what is stored."""
        p, before = self.params, None
        if len(self.memory):
            before, _ = yield from gathered(self, task, stage="features before")
        h, labels = yield from super().adapt(task)
        self.memory_before.load(self.memory.state())
        if before is not None:
            pairs = Pairs(before, h, labels)
            self.memory.load(CALIBRATIONS[p.calibration](self.memory, pairs, p.shrinkage, p.epsilon).state())
            spectrum = torch.linalg.eigvalsh(gaussian_transport(pairs, p.shrinkage).a)
            self.record.tensors["eigenvalues"] = spectrum.float().to(self.backbone.device)
        return h, labels

    def trained(self) -> list[nn.Parameter]:
        """Q_t, and P unless it is kept from the first task."""
        shared = self.params.shared_after_first or not len(self.memory_before)
        return [*(super().trained() if shared else []), self.prompt.tasks[-1]]

    def separation(self, rows: Tensor, task: Task) -> Tensor | float:
        """Mean over pairs of an old and a new class of max(0, cos(g_c, g_c') - margin), times its weight."""
        p = self.params
        old, new = ([i for i, c in enumerate(self.seen) if (c in task.classes) == side] for side in (False, True))
        if not p.separation or not old or not new:
            return 0.0
        cosines = rows[sent(old, rows.device)] @ rows[sent(new, rows.device)].T
        return p.separation * F.relu(cosines - p.margin).mean()

    def internals(self) -> Mapping[str, Tensor]:
        """As DMC; Gaussians before calibration, NaN for new classes, and the spectrum of A."""
        found, kept, before = dict(super().internals()), self.record.tensors, self.memory_before
        if "gaussian/mean" in found and len(before):
            columns = self.classifier.columns(before.classes)
            for name, value in before.shown("_before").items():
                rows = value.new_full((len(self.seen), *value.shape[1:]), torch.nan)
                found[name] = rows.index_copy(0, columns, value)
        return found | ({"transport/eigenvalues": kept["eigenvalues"]} if "eigenvalues" in kept else {})
