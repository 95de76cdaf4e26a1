"""SLCA: all weights learn slowly, then the head is aligned with features drawn from remembered Gaussians."""

from cillab.kit import (
    Covariance, F, Fit, GaussianMemory, HyperParams, Iterator, Linear, Method, Overlay, PositiveFloat, PositiveInt,
    Progress, Task, Tensor, align, cross_entropy, final, fit, gathered, method, sent, torch, undecayed,
)  # fmt: skip


class SLCAParams(HyperParams):
    """Hyper-parameters of SLCA."""

    fit: Fit = Fit(epochs=20, lr=0.01, batch_size=64, schedule="multistep", milestones=(0.9,))
    """Head and backbone on a task's images."""
    slow: PositiveFloat = 0.01
    """Rate of the backbone over the rate of the head."""
    align: Fit = Fit(epochs=5, lr=0.01, batch_size=256)
    """The head on drawn features."""
    each: PositiveInt = 256
    """Features drawn per class and epoch."""
    tau: PositiveFloat = 0.1
    """Temperature under which logits of length 1 compete in alignment."""
    covariance: Covariance = "full"
    """What is remembered of a class's spread; at 1,000 classes of 768 features full covariances take 2.4 GB."""

    quick = {"each": 16, "fit.epochs": 6, "align.epochs": 4}


@method(
    "slca",
    paper="Zhang et al., SLCA, ICCV 2023, arXiv:2303.05118",
    evidence="reproduction",
    family="classifier alignment",
    when="All weights may move and the data differ from those of pre-training; a Gaussian per class fits into memory.",
    known="Three orders of ten tasks, ViT-B/16 in21k: CIFAR-100 A_avg 94.09, A_last 91.53; ImageNet-R 81.17, 77.00.",
    ours="batches of 64 for two of 64; crops and flips, without the code's changes of brightness",
    internals=("align/before", "align/after"),
)
@final
class SLCA(Method[SLCAParams]):
    """A slow learner whose classifier is aligned after every task.

        theta, W  <-  SGD on CE over the classes of task t, theta at `slow` times the rate of W                  (1)
        mu_c, S_c  =  moments of f(x) over the images of each new class, by today's encoder, never again         (2)
        h          ~  N(s_c mu_c, S_c),    s_c = 0.9 + 0.1 (t_c + 1) / (t + 1),  t_c = the task that brought c   (3)
        W'        <-  SGD from W on CE(z / (tau * mean over tasks of the length of their part of z)),  z = W' h  (4)

    W' classifies; the next task goes on from W, so that alignment leaves no trace in what is learnt. Source: Zhang et
    al., ICCV 2023, arXiv:2303.05118; (3) and (4) as in the released code. Deviation: draws come with 1e-4 of the mean
    variance added, the code adds 1e-4. Keeps all weights, 2 K d numbers of heads, and d + d^2 per class for learning;
    one pass per image.
    """

    def setup(self) -> None:
        """The pre-trained weights, two heads without rows, no Gaussian."""
        dim, device = self.backbone.feature_dim, self.backbone.device
        self.worn = Overlay(self.backbone, "*")
        self.plain = Linear(dim, device=device)  # W
        self.classifier = Linear(dim, device=device)  # W'
        self.memory = GaussianMemory(dim, self.params.covariance, device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equations (1) to (4)."""
        p = self.params
        self.plain.grow(task.classes, self.draws("rows", task.index))
        self.memory.grow(task.classes)
        groups = [undecayed(self.plain), {"params": self.worn.parameters(), "lr": p.slow * p.fit.lr}]

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(self.plain(h), labels, self.seen, task.classes, "local")

        yield from fit(self, task, groups, loss, p.fit, stage="slow")
        self.memory.add(*(yield from gathered(self, task, stage="statistics")))
        self.classifier.load(self.plain.state())
        if self.old:
            when = torch.tensor(self.roster.tasks, device=self.backbone.device)
            drawn = self.memory.scaled(0.9 + 0.1 * (when + 1) / (task.index + 1))
            draws, head = self.draws("align", task.index), self.classifier.parameters()
            yield from align(head, self.seen, drawn, self._aligned, p.align, p.each, draws)

    def _aligned(self, h: Tensor, columns: Tensor) -> Tensor:
        """Equation (4)."""
        z = self.classifier(h)
        _, block = torch.tensor(self.roster.tasks).unique(return_inverse=True)  # of tasks that brought a new class
        blocks = sent(F.one_hot(block).to(z.dtype), z.device)
        lengths = (z.square() @ blocks + 1e-14).sqrt().mean(dim=1, keepdim=True)
        return F.cross_entropy(z / (lengths * self.params.tau), columns)

    def internals(self):
        """Rows before and after alignment."""
        return {"align/before": self.plain.rows().weight, "align/after": self.classifier.rows().weight}
