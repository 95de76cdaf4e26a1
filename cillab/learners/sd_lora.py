"""SD-LoRA: directions of old tasks are kept, how far to go in each of them is learnt anew."""

from cillab.kit import (
    Branches, Fit, HyperParams, Iterator, Linear, Method, ModulePart, PositiveFloat, PositiveInt, Progress, Task,
    Tensor, Wardrobe, cross_entropy, empty, final, fit, low_rank, measured, method, nn, torch, undecayed,
)  # fmt: skip


class SDLoRAParams(HyperParams):
    """Hyper-parameters of SD-LoRA."""

    rank: PositiveInt = 10
    """r of each task's branch, on the maps q and v of every block."""
    start: PositiveFloat = 0.8
    """Magnitude of every branch, old and new, when a task begins."""
    learn_magnitudes: bool = True
    """Train the magnitudes of all branches with the newest direction."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=0.008, weight_decay=0.0, schedule="constant")
    """The newest direction, all magnitudes and the head on a task's images."""

    quick = {"rank": 2, "fit.lr": 0.05}


@method(
    "sd-lora",
    paper="Wu et al., SD-LoRA, ICLR 2025, arXiv:2501.13198",
    evidence="reproduction",
    family="low rank and subspaces",
    when="Low rank without a subspace to compute: what an old task found stays within reach of the new one.",
    known="CIFAR-100 Inc10, ViT-B/16 in1k: A_avg 92.54, A_last 88.01 (paper's table).",
    ours="batch size 48 for 128; new rows of the head start at zero",
    needs={"vit"},
    internals=("lowrank/magnitude", "lowrank/rank"),
)
@final
class SDLoRA(Method[SDLoRAParams]):
    """A direction per task, frozen when the task is over, and one magnitude per direction that every task learns again.

        W  <-  W + sum_{i<t} a_i U_i D_i / (||U_i||_F ||D_i||_F) + a_t U_t D_t                         (1)
        U_t, D_t, a_1, ..., a_t, head  <-  SGD on CE over the classes of the task                      (2)

    a_i is one number for all blocks and both maps, and begins every task at `start`. A direction is divided by its
    norms when the next task begins, so that the function makes a jump there, as in the released code. Source: Wu et
    al., ICLR 2025, arXiv:2501.13198. Keeps 4 r d numbers per block and task, and one more, and the head; one
    pass per image.
    """

    def setup(self) -> None:
        """No branch, a head without rows."""
        p = self.params
        self.branches = Wardrobe(lambda task: low_rank(self, p.rank, ("q", "v"), task))
        self.magnitudes = Magnitudes(self.backbone.device)
        self.worn = Branches(self.branches, lambda: self.magnitudes.a)
        self.classifier = Linear(self.backbone.feature_dim, device=self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (2)."""
        p = self.params
        if len(self.branches):
            self._normalise()
        newest = self.branches.grow()
        self.magnitudes.put("a", torch.full((len(self.branches),), p.start, device=self.backbone.device))

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")

        scales = self.magnitudes.parameters() if p.learn_magnitudes else ()
        trained = [{"params": [*newest.parameters(), *scales]}, undecayed(self.classifier)]
        yield from fit(self, task, trained, loss, p.fit, stage="low rank")

    def _normalise(self) -> None:
        """The last direction, map by map and block by block, at length 1."""
        last = self.branches[len(self.branches) - 1]
        with torch.no_grad():
            for factor in last.parameters():
                factor.div_(torch.linalg.matrix_norm(factor, keepdim=True).clamp(min=1e-12))

    def internals(self):
        """Rank and norm of every direction, times its magnitude."""
        found = measured(self.branches)
        if found:
            found["lowrank/magnitude"] = found["lowrank/magnitude"] * self.magnitudes.a.detach().abs()
        return found


class Magnitudes(ModulePart):
    """a, one number per task."""

    a: nn.Parameter

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.a = nn.Parameter(empty(0, device=device), requires_grad=False)
