"""DMC-OT: DMC whose remembered Gaussians follow the encoder, with tokens of the prompt for each task."""

from cillab.kit import (
    F, Field, GaussianMemory, Generator, Mapping, NonNegativeFloat, PositiveFloat, PositiveInt, Progress, Task, Tensor,
    final, gathered, method, nn, sent, torch,
)  # fmt: skip
from cillab.parts.calibration import CALIBRATIONS, Calibration, Pairs, gaussian_transport
from cillab.parts.decoupled import SHOWN, Decoupled, DecoupledParams
from cillab.parts.fitting import Labelled


class DMCOTParams(DecoupledParams):
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

    def tokens(self) -> int:
        """Q_t."""
        return self.params.task_tokens

    def arrive(self, task: Task) -> None:
        """Tokens of the task, if it brings a class to write them for, and prototypes of its names."""
        if self.seen != self.old:
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
        """Q_t of new classes, and P unless it is kept from the first task."""
        shared = self.params.shared_after_first or not len(self.memory_before)
        own = self.prompt.tasks[-1:] if self.seen != self.old else []
        return [*(super().trained() if shared else []), *own]

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
