"""CODA-Prompt: a prefix mixed for each image from components, of which every task adds some."""

from cillab.kit import (
    ComponentPool, Fit, HyperParams, Iterator, Linear, Method, NonNegativeFloat, PositiveInt, Progress, Task, Tensor,
    cross_entropy, final, fit, method, torch,
)  # fmt: skip


class CODAParams(HyperParams):
    """Hyper-parameters of CODA-Prompt."""

    components: PositiveInt = 10
    """Components that every task adds, in each block."""
    length: PositiveInt = 4
    """Keys, and as many values, of a component in each block."""
    blocks: PositiveInt = 5
    """First blocks, those that have a prefix."""
    orthogonality: NonNegativeFloat = 0.0
    """Weight of what components, keys and attention vectors overlap; 0.1 in the paper, 0 in today's code, which makes
    new ones orthogonal when they are drawn."""
    fit: Fit = Fit(epochs=20, batch_size=128, lr=0.001, optimiser="adam", weight_decay=0.0)
    """The newest components and the head on a task's images."""

    quick = {"components": 2, "length": 2, "fit.lr": 0.02, "fit.epochs": 3, "fit.batch_size": 8}


@method(
    "coda-prompt",
    paper="Smith et al., CODA-Prompt, CVPR 2023, arXiv:2211.13218",
    evidence="reproduction",
    family="prompts and adapters",
    when="A pool without a hard choice: the weights of all prompts are trained end to end.",
    known="CIFAR-100 Inc10, ViT-B/16 in1k: A_last 86.25 (paper). Inc5, in21k: A_avg 89.11, A_last 81.96 (MOS' table).",
    ours="the pool grows by `components` a task, where the code shares out 100 over the known number of tasks; a "
    "plain cosine; the last, smaller batch counts",
    needs={"vit"},
    internals=("prompts/keys",),
)
@final
class CODAPrompt(Method[CODAParams]):
    """A prefix that is a weighted sum of components, with weights that each image gets from its own feature.

        alpha_m = cos(q(x) * A_m, K_m),   P(x) = sum_m alpha_m P_m,   in each of the first blocks  [ComponentPool] (1)
        h       = f(x) with the halves of P(x) in front of keys and values,   logits = W h + b                     (2)
        min       CE over the classes of the task (+ overlap of A, K, P)  over the newest A_m, K_m, P_m and W, b   (3)

    q(x) = f(x) without prompts. A task adds components that begin orthogonal to all older ones, which stay in use and
    are not trained again. Source: Smith et al., CVPR 2023, arXiv:2211.13218. Keeps M * blocks * (2 d + 2 L D) numbers
    for M components so far; two passes per image.
    """

    def setup(self) -> None:
        """No component, a head without rows."""
        p, backbone = self.params, self.backbone
        self.worn = ComponentPool(backbone, p.length, blocks=range(p.blocks))
        self.classifier = Linear(backbone.feature_dim, device=backbone.device)

    @property
    def dress(self):
        """The pool, once it has components."""
        return (self.worn,) if self.worn.total else ()

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (3)."""
        p = self.params
        self.worn.grow(p.components, self.draws("components", task.index))

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            value = cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")
            return value + p.orthogonality * self.worn.overlap() if p.orthogonality else value

        trained = [*self.worn.newest(), *self.classifier.parameters()]
        yield from fit(self, task, trained, loss, p.fit, stage="components")

    def internals(self):
        """The keys of the first block."""
        return {"prompts/keys": torch.cat([*self.worn.keys], dim=1)[0].detach()} if self.worn.total else {}
