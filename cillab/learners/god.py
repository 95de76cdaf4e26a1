"""GOD: the same few anchors for every task; a head per task turns features onto them."""

from cillab.kit import (
    F, Fit, HyperParams, Iterator, LoRA, Method, NonNegativeFloat, PositiveFloat, PositiveInt, Progress, Task, Tensor,
    Turned, columns_of, drawn_simplex, each_epoch, final, fit, method, nn, rng, torch, with_margin,
)  # fmt: skip


class GODParams(HyperParams):
    """Hyper-parameters of GOD."""

    rank: PositiveInt = 16
    """Rank of the low-rank change of q, k and v."""
    expansion: PositiveInt = 3000
    """Width of the fixed random projection that all heads read."""
    later_blocks: PositiveInt = 3
    """Last blocks whose low-rank change still learns after the first task."""
    scale: PositiveFloat = 30.0
    """s of the angular loss on the backbone's own feature."""
    margin: NonNegativeFloat = 0.4
    """m of the angular loss, radians."""
    average: float = 0.1
    """Share of the newest change in the running average that answers, once an epoch; 1 answers with the newest. The
    average lags behind a head that learnt on the newest: few epochs want a larger share."""
    fit: Fit = Fit(epochs=10, batch_size=48, lr=0.01)
    """Low-rank change and the head of the task."""

    quick = {"rank": 2, "expansion": 64, "later_blocks": 1, "average": 1.0, "fit.epochs": 10, "fit.lr": 0.03}


@method(
    "god",
    paper="GOD, CVPR 2026",
    evidence="reproduction of the released code, coarse answer",
    family="neural collapse",
    when="Anchors that every task shares: one well-spread target per class of a task, at the price of a head per task.",
    known="CIFAR-100, 10 tasks: A_avg 92.87 (paper, refined answer).",
    ours="the coarse answer alone (one pass); the released code reruns the last blocks for the three best classes, and "
    "has a smaller weight decay after the first task",
    needs={"vit"},
    internals=("anchors/rows",),
)
@final
class GOD(Method[GODParams]):
    """The same anchors in every task; a head per task turns features onto them.

        e_1..e_n = a simplex ETF, the same for every task with n classes                                         (1)
        z_t = (A_t relu(R h) + b_t) / ||.||,  h = f(x) under one low-rank change L, R fixed and random           (2)
        min  CE(<z_t, e> / 0.1, y within the task)  +  CE of an angular margin on h over all classes             (3)
        test: h under the running average of L;  logit_c = <z_t, e_c> / 0.1 for c of task t                      (4)

    (3) trains A_t, b_t and L, of which only the last blocks move after the first task. The angular head has fresh rows
    in every task: old classes have no images, their rows are directions to keep away from. Source: GOD, CVPR 2026, and
    its code. Keeps L twice, R, and (expansion + 1) D numbers per task; one pass per image.
    """

    def setup(self) -> None:
        """A change that changes nothing, its average, R."""
        p, dim, backbone = self.params, self.backbone.feature_dim, self.backbone
        maps = ("q", "k", "v")
        self.worn = LoRA(backbone, p.rank, 1.0, maps, generator=self.draws("lora"))
        self.newest = LoRA(backbone, p.rank, 1.0, maps, generator=self.draws("lora"))
        self.classifier = Turned(dim, p.expansion, self.draws("projection"), backbone.device)

    def arrive(self, task: Task) -> None:
        """Anchors for the new classes: the first of a simplex with as many vertices."""
        self.classifier.grow(task.classes, self._simplex())

    def _simplex(self) -> Tensor:
        """(1) for the new classes of this task; beside a single one stands a vertex that no class has."""
        fresh, draws = len(self.seen) - len(self.old), rng.numpy_stream(self.seed, "anchors")
        return drawn_simplex(max(fresh, 2), self.backbone.feature_dim, draws, self.backbone.device)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(3), and the average of (4) after every epoch."""
        p, own, first = self.params, tuple(c for c in task.classes if c not in self.old), not self.old
        weight, bias, rows = self._drawn(task)
        anchors = self._simplex()

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            cosines, columns = F.normalize(h, dim=-1) @ F.normalize(rows, dim=-1).T, columns_of(labels, self.seen)
            value = F.cross_entropy(p.scale * with_margin(cosines, columns, p.margin), columns)
            if not own:
                return value
            place = columns - (len(self.seen) - len(own))  # new classes are the last ones; below 0: one that came back
            logits = self.classifier.products(h, weight, bias, anchors)
            each = F.cross_entropy(logits, place.clamp(min=0), reduction="none")
            return value + (each * (place >= 0)).sum() / (place >= 0).sum().clamp(min=1)

        def average(_: Progress) -> None:
            with torch.no_grad():
                for kept, new in zip(self.worn.parameters(), self.newest.parameters(), strict=True):
                    kept.lerp_(new, 1.0 if first else p.average)

        from_block = 0 if first else max(0, len(self.newest.down) - p.later_blocks)
        trained = [weight, bias, rows, *self.newest.down[from_block:], *self.newest.up[from_block:]]
        yield from each_epoch(fit(self, task, trained, loss, p.fit, stage="turn", under=self.newest), average)
        if own:
            self.classifier.take(weight, bias)

    def _drawn(self, task: Task) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
        """A head for this task, and rows of the angular loss for all classes."""
        draws, dim, wide = self.draws("head", task.index), self.backbone.feature_dim, self.params.expansion
        weight = torch.empty(dim, wide).normal_(std=(2 / wide) ** 0.5, generator=draws)
        rows = torch.empty(len(self.seen), dim).normal_(std=dim**-0.5, generator=draws)
        w, b, r = (nn.Parameter(x.to(self.backbone.device)) for x in (weight, torch.zeros(dim), rows))
        return w, b, r

    def internals(self):
        """The anchor of each class."""
        return {"anchors/rows": self.classifier.anchors} if self.seen else {}
