"""InfLoRA: every task learns in a subspace in which old tasks have nothing to lose."""

from cillab.kit import (
    Branches, Directions, Field, Fit, Generator, HyperParams, Iterator, Linear, Method, PositiveInt, Progress, Task,
    Tensor, Wardrobe, cross_entropy, final, fit, leading_left, low_rank, measured, method, sweep, torch, undecayed,
)  # fmt: skip

BATCH = 64


class InfLoRAParams(HyperParams):
    """Hyper-parameters of InfLoRA."""

    rank: PositiveInt = 10
    """r of each task's branch, on the maps k and v of every block."""
    share: float = Field(default=0.95, gt=0, le=1)
    """eps, share of the squared second moments that the directions kept after a task must hold; 0.98 for ImageNet-R."""
    half: PositiveInt = 10
    """Tasks after which the share has come half the way to 1. The authors go there linearly in the number of tasks."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=5e-4, optimiser="adam", weight_decay=0.0)
    """The newest branch and the head on a task's images."""

    quick = {"rank": 2, "fit.lr": 0.01}


@method(
    "inflora",
    paper="Liang and Li, InfLoRA, CVPR 2024, arXiv:2404.00228",
    evidence="reproduction",
    family="low rank and subspaces",
    when="Low rank with a guarantee: to first order, a new branch leaves what old tasks put in unchanged.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k, seed 1993: A_avg 92.07, A_last 86.95 (authors' log).",
    ours="the rule by which the share grows; clean images for second moments; batch size 48 for 128; M takes the "
    "direction that reaches the share, in the first task too; new rows of the head start at zero",
    needs={"vit"},
    internals=("lowrank/magnitude", "lowrank/rank"),
)
@final
class InfLoRA(Method[InfLoRAParams]):
    """Low-rank branches whose inputs are confined to what old tasks do not use.

        C   = mean of x x^T over the tokens that enter the attention, on the images of the task                   (1)
        D_t = the r leading left singular vectors of (I - M M^T) C, transposed, over sqrt(3); fixed   [Directions] (2)
        W  <- W + sum_i U_i D_i for k and v;   U_t, head  <-  Adam on CE over the classes of the task             (3)
        M  <- M and the leading directions of (I - M M^T) C, C measured again, until a share eps_t is held        (4)
        eps_t = eps + (1 - eps) t / (t + half)                                                                    (5)

    U_t is zero at the start and only U_t is trained. Source: Liang and Li, CVPR 2024, arXiv:2404.00228; M by DualGPM
    (CVPR 2023). (5) is ours: the published rule, eps + (1 - eps) t / T, needs the number of tasks. Keeps 4 r d numbers
    per block and task, up to d^2 per block for learning, and the head; one pass per image.
    """

    def setup(self) -> None:
        """No branch, no direction, a head without rows."""
        p, backbone = self.params, self.backbone
        self.branches = Wardrobe(lambda task: low_rank(self, p.rank, ("k", "v"), task))
        self.worn = Branches(self.branches)
        self.kept = Directions(backbone.token_dim, backbone.depth, backbone.device)
        self.classifier = Linear(backbone.feature_dim, device=backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (4)."""
        p = self.params
        moments = yield from self._moments(task, "inputs")
        newest = self.branches.grow()
        free = leading_left([self.kept.without(layer, c) for layer, c in enumerate(moments)], p.rank)
        with torch.no_grad():
            for layer, (down, directions) in enumerate(zip(newest.down, free, strict=True)):
                outside = self.kept.without(layer, directions)  # vectors of no weight are any, and may lie in M
                down.copy_(outside.T.expand(2, -1, -1) / 3**0.5)

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")

        trained = [{"params": newest.up.parameters()}, undecayed(self.classifier)]
        yield from fit(self, task, trained, loss, p.fit, stage="low rank")
        t = len(self.branches) - 1
        for layer, c in enumerate((yield from self._moments(task, "inputs again"))):
            self.kept.extend(layer, c, p.share + (1 - p.share) * t / (t + p.half))

    def _moments(self, task: Task, stage: str) -> Generator[Progress, None, list[Tensor]]:
        """Equation (1) for every block."""
        known = dict(self.backbone.module.named_modules())
        pairs = ([f"{block}.norm1", f"{block}.ln_1"] for block in self.backbone.block_names)
        names = [next(name for name in pair if name in known) for pair in pairs]
        sums = [torch.zeros(self.backbone.token_dim, self.backbone.token_dim, device=self.backbone.device)] * len(names)
        tokens = 0

        def visit(images: Tensor, _labels: Tensor) -> None:
            nonlocal tokens
            with self.backbone.tap(*names) as seen:
                self.embed(self.on(images))
            for layer, name in enumerate(names):
                x = seen[name].flatten(0, -2).float()
                sums[layer] = sums[layer] + x.T @ x
            tokens += seen[names[0]].shape[:-1].numel()

        yield from sweep(task.batches(BATCH), visit, len(task), stage)
        return [total / tokens for total in sums]

    def internals(self):
        """Rank and norm of every branch."""
        return measured(self.branches)
