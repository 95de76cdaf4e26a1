"""L2P: a pool of prompts; each image asks for those whose keys are like its frozen feature."""

from cillab.kit import (
    Fit, HyperParams, Iterator, Linear, Literal, Method, NonNegativeFloat, PositiveInt, Progress, PromptPool, Task,
    Tensor, cross_entropy, final, fit, gathered, method, torch,
)  # fmt: skip


class L2PParams(HyperParams):
    """Hyper-parameters of L2P."""

    pool: PositiveInt = 10
    """M, prompts in the pool."""
    length: PositiveInt = 5
    """Tokens of a prompt."""
    top: PositiveInt = 5
    """N, prompts that an image gets; at most `pool`."""
    kind: Literal["tokens", "prefix"] = "tokens"
    """Prompts stand beside the image's tokens, or before keys and values."""
    blocks: PositiveInt = 1
    """First blocks that have prompts of their own."""
    reads: Literal["prompts", "image"] = "prompts"
    """The feature: the mean of what the prompts became, or the backbone's own (always with a prefix, which becomes
    nothing)."""
    pull: NonNegativeFloat = 0.1
    """Weight of the cosines of an image's feature and the keys that it chose."""
    vote: bool = False
    """Let a batch vote for its prompts, as the released code does, also in tests: a leak, here to be shown."""
    fit: Fit = Fit(
        epochs=5, batch_size=16, lr=0.001875, optimiser="adam", weight_decay=0.0, schedule="constant", clip=1.0
    )
    """Prompts, keys and head on a task's images."""

    quick = {"length": 2, "top": 2, "fit.lr": 0.02, "fit.epochs": 3}


@method(
    "l2p",
    paper="Wang et al., L2P, CVPR 2022, arXiv:2112.08654",
    evidence="reproduction",
    family="prompts and adapters",
    when="The first prompt pool, in every table since; mind whether a number was made with a vote over the test batch.",
    known="CIFAR-100 Inc10, ViT-B/16 in21k: A_last 83.83 (paper). Inc5: A_avg 85.94, A_last 79.93 (MOS' table).",
    ours="every image chooses for itself (`vote`), prompts carry no position, new rows of the head start at zero",
    needs={"vit"},
    internals=("prompts/keys", "prompts/chosen"),
)
@final
class L2P(Method[L2PParams]):
    """Which prompts an image wears depends on the image.

        q(x) = f(x) without prompts,   K_x = the N keys with the largest cos(q(x), k_m)          [PromptPool]   (1)
        h    = mean of what the prompts P_m, m in K_x, became beside the tokens of x,   logits = W h + b        (2)
        min    CE over the classes of the task - pull * sum over K_x of cos(q(x), k_m)                          (3)

    Source: Wang et al., CVPR 2022, arXiv:2112.08654. Deviation: the released code lets a batch vote for its prompts, so
    that its answers depend on batch mates, whose classes are the same in a test set sorted by class; `vote` does that.
    Keeps M (d + L D) numbers and the head; two passes per image.
    """

    def setup(self) -> None:
        """A pool of random prompts, a head without rows."""
        p, backbone = self.params, self.backbone
        reads = p.reads == "prompts" and p.kind == "tokens"
        self.worn = PromptPool(backbone, p.length, p.top, kind=p.kind, blocks=range(p.blocks), reads=reads, vote=p.vote)
        self.worn.grow(p.pool, self.draws("pool"))
        self.classifier = Linear(backbone.feature_dim, device=backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """Equation (3)."""

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            likeness = self.worn.likeness.sum(dim=1).mean()
            value = cross_entropy(self.classifier(h), labels, self.seen, task.classes, "local")
            return value - self.params.pull * likeness

        trained = [*self.worn.newest(), *self.classifier.parameters()]
        yield from fit(self, task, trained, loss, self.params.fit, stage="prompts")
        naked, _ = yield from gathered(self, task, stage="choices", under=())
        self.worn.count(naked)

    def internals(self):
        """The keys, and how many training images have chosen each."""
        keys = torch.cat([*self.worn.keys]).detach()
        return {"prompts/keys": keys, "prompts/chosen": torch.tensor(self.worn.chosen, dtype=torch.float32)}
