"""CoSO: the weights themselves learn, in a subspace that follows the gradient and keeps out of those of old tasks."""

from cillab.kit import (
    Adam, Directions, Field, Fit, HyperParams, Internal, InvalidRequestError, Iterator, Linear, Method, Overlay,
    PositiveFloat, PositiveInt, Progress, SubspaceSteps, Task, Tensor, cross_entropy, final, fit, method, torch,
    undecayed,
)  # fmt: skip

_MATRICES = ("*attn.qkv.weight", "*attn.in_proj_weight")


class CoSOParams(HyperParams):
    """Hyper-parameters of CoSO."""

    rank: PositiveInt = 15
    """r1, directions in which a step moves a matrix; 50 for ImageNet-R, 70 for DomainNet."""
    sketch: PositiveInt = 100
    """r2, rows of the sketch of a task's gradients."""
    every: PositiveInt = 1
    """k, steps after which the directions are looked for again; 20 for the larger data sets."""
    share: float = Field(default=0.98, gt=0, le=1)
    """eps, share of a task's gradients that the directions kept for it must hold."""
    head_lr: PositiveFloat = 0.005
    """Learning rate of the head, by Adam as well."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=5e-4, momentum=0.0, weight_decay=0.0)
    """The matrices; Adam's step is taken inside the directions, so that the optimiser itself is plain SGD."""

    quick = {"rank": 3, "sketch": 6, "fit.lr": 0.002}


@method(
    "coso",
    paper="Cheng et al., CoSO, NeurIPS 2025, arXiv:2505.11816",
    evidence="reconstruction after the published algorithm; no code was found",
    family="low rank and subspaces",
    when="To move whole matrices instead of low-rank branches, and still leave old tasks alone to first order.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k: A_avg 92.99, A_last 88.77 (paper, second hand).",
    ours="which matrices learn (q, k and v of every block), both rates, the randomised search for directions",
    needs={"vit"},
    internals=(Internal("subspaces/kept", "f32 [L]", "directions that old tasks have taken, by layer"),),
)
@final
class CoSO(Method[CoSOParams]):
    """Gradient steps inside a moving subspace, orthogonal to the directions of old tasks.

        G' = G - M M^T G,    P = the r1 leading left singular vectors of G', again every k steps                (1)
        N  = Adam's step for P^T G',    W <- W - lr P N                                                          (2)
        S  = frequent directions of the columns of G' over the task                       [SubspaceSteps]   (3)
        M  <- M and the leading right singular vectors of S, until they hold a share eps of it      [Directions]  (4)

    for every matrix W that makes q, k and v; CE over the classes of the task. A change of W stays in the span of the
    gradients' columns, so that M^T (change of W) = 0. Source: Cheng et al., NeurIPS 2025, arXiv:2505.11816. P and the
    rows for S come from r2 columns of an orthogonal iteration instead of a whole SVD a step. Keeps a copy of the
    matrices, the head, and up to (3 d)^2 numbers per block for learning; one pass per image.
    """

    def setup(self) -> None:
        """Copies of the matrices, no direction, a head without rows."""
        names = [name for name, _ in self.backbone.module.named_parameters()]
        wanted = [pattern for pattern in _MATRICES if any(name.endswith(pattern[1:]) for name in names)]
        if not wanted:
            raise InvalidRequestError(f"{self.backbone.tag} has no matrix that makes q, k and v together.")
        self.worn = Overlay(self.backbone, *wanted)
        matrices = [*self.worn.parameters()]
        self.kept = Directions(len(matrices[0]), len(matrices), self.backbone.device)
        self.classifier = Linear(self.backbone.feature_dim, device=self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (4)."""
        p, matrices, head = self.params, [*self.worn.parameters()], [*self.classifier.parameters()]
        draws = self.draws("directions", task.index)
        steps = [SubspaceSteps(matrix, p.rank, p.sketch, p.every, draws) for matrix in matrices]
        plain = [Adam() for _ in head]

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")

        def project() -> None:
            for layer, (matrix, own) in enumerate(zip(matrices, steps, strict=True)):
                assert matrix.grad is not None
                matrix.grad = own.step(self.kept.without(layer, matrix.grad))
            for parameter, adam in zip(head, plain, strict=True):
                assert parameter.grad is not None
                parameter.grad = adam.step(parameter.grad)

        groups = [{"params": matrices, "weight_decay": 0.0}, {**undecayed(self.classifier), "lr": p.head_lr}]
        yield from fit(self, task, groups, loss, p.fit, stage="matrices", before_step=project)
        for layer, own in enumerate(steps):
            self.kept.extend(layer, own.sketch.sketch.T, p.share)

    def internals(self):
        """How many directions are taken."""
        return {"subspaces/kept": torch.tensor(self.kept.sizes(), dtype=torch.float32)}
