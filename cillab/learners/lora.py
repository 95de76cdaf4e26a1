"""LoRA, task after task: the low-rank baseline that forgets, because nothing keeps later tasks out of earlier ones."""

from cillab.kit import (
    Fit, HyperParams, Iterator, Linear, Method, PositiveInt, Progress, Task, Tensor, cross_entropy, final, fit,
    low_rank, method, undecayed,
)  # fmt: skip


class LoRAParams(HyperParams):
    """Hyper-parameters of sequential LoRA."""

    rank: PositiveInt = 10
    """r, on the maps q and v of every block."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=5e-4, optimiser="adam", weight_decay=0.0)
    """Factors and head on a task's images."""

    quick = {"rank": 2, "fit.lr": 0.01}


@method(
    "lora",
    paper="Hu et al., ICLR 2022, arXiv:2106.09685",
    evidence="reproduction",
    family="low rank and subspaces",
    when="The baseline of InfLoRA, SD-LoRA and CoSO: the same branch goes on learning from task to task.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k: A_last 83.70 (log of EWC-LoRA's authors: on k and v, head at "
    "0.005, batches of 128, classes in their natural order).",
    ours="batch size 48; new rows of the head start at zero",
    needs={"vit"},
)
@final
class SequentialLoRA(Method[LoRAParams]):
    """One low-rank change of q and v in every block learns every task in turn.

        h = f(x) with W + U D in place of W,   logits = V h + b                                        (1)
        U, D, V, b  <-  Adam on CE over the classes of the task                                        (2)

    D uniform in +-1/sqrt(d), U zero at the start. Source: LoRA, Hu et al., ICLR 2022, arXiv:2106.09685, trained in
    sequence as in the tables of InfLoRA and EWC-LoRA. Keeps 4 r d numbers per block and the head; one pass per
    image.
    """

    def setup(self) -> None:
        """A silent branch, a head without rows."""
        self.worn = low_rank(self, self.params.rank, ("q", "v"), 0)
        self.classifier = Linear(self.backbone.feature_dim, device=self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (2)."""

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")

        trained = [{"params": self.worn.parameters()}, undecayed(self.classifier)]
        yield from fit(self, task, trained, loss, self.params.fit, stage="low rank")
