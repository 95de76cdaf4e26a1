"""NCPTM-CIL: features are aligned with a simplex that grows with the classes and turns as little as it can."""

from cillab.core.arrays import double, through_numpy
from cillab.geometry.etf import basis_of, etf_from_basis, extend_basis, growth_angle, nearest_etf, simplex_etf
from cillab.kit import (
    AdapterSlot, F, Fit, Float, Frame, GaussianMemory, HyperParams, Internal, InvalidRequestError, Iterator, Literal,
    Method, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Progress, Slots, Task, Tensor, columns_of,
    descend, final, fit, gathered, method, pull_push, rng, torch, viewed,
)  # fmt: skip
from cillab.parts.alignment import Alignment
from cillab.parts.watching import EpochWatch


class NCPTMParams(HyperParams):
    """Hyper-parameters of NCPTM-CIL. The paper's text could not be read: every choice here is a reconstruction."""

    adapt: bool = True
    """Train adapters beside every MLP in the first session, then freeze them."""
    bottleneck: PositiveInt = 64
    """Width of an adapter."""
    adapter_scale: PositiveFloat = 0.1
    """Factor on an adapter's output."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=0.01)
    """The first session, in which adapters and alignment layer train on images."""
    centring: Literal["first", "running", "none"] = "running"
    """mu_G, taken off every feature: mean of the class means of the first session, of all classes seen, or 0."""
    align: bool = True
    """Train the alignment layer g; without it z = h - mu_G."""
    activation: Literal["leaky_relu", "gelu"] = "leaky_relu"
    """phi of the alignment layer."""
    width: PositiveInt = 4
    """Hidden units of the alignment layer, in multiples of the feature dimension."""
    aligning: Fit = Fit(epochs=10, batch_size=128, optimiser="adamw", lr=3e-3)
    """The alignment layer on remembered features, in every session."""
    views: NonNegativeInt = 0
    """Augmented passes over a task's images whose features train the alignment layer beside the clean ones."""
    etf: Literal["nearest", "prefix", "fixed"] = "nearest"
    """The dynamic classifier: the simplex nearest to all class means; the first one grown by orthonormal columns; or
    a random simplex of `capacity` vertices, handed out in order of arrival."""
    capacity: PositiveInt = 100
    """Vertices of the fixed simplex. A learner does not know how many classes will come: the user says it."""
    hold: PositiveFloat = 1.0
    """Weight of an old class against a new one when the nearest simplex is found: large values keep old vertices."""
    pull: NonNegativeFloat = 1.0
    """Weight of the pull towards the own vertex."""
    push: NonNegativeFloat = 1.0
    """Weight of the push from the other vertices."""
    memory: Literal["diagonal", "full"] = "full"
    """Covariance of the Gaussians that stand for old classes."""
    pseudo: NonNegativeInt = 32
    """Least number of pseudo-features per old class and epoch; as many as the task has images per class, if more."""

    former = {
        "align_epochs": "aligning.epochs",
        "align_batch": "aligning.batch_size",
        "align_optimiser": "aligning.optimiser",
        "align_lr": "aligning.lr",
    }


@method(
    "ncptm",
    paper="He et al., NCPTM-CIL, arXiv:2504.18437",
    evidence="reconstruction after the abstract",
    family="neural collapse",
    when="To see collapse itself: old and new classes are drawn to the vertices of one simplex.",
    ours="equations (1) to (4) and every number",
    needs={"vit"},
    internals=(
        Internal("etf/vertices", "f32 [K, d]", "vertices of the simplex, unit rows"),
        Internal("etf/turned", "f32 [K old]", "angle by which each old vertex turned in this task", "radians"),
        Internal("etf/expected", "f32 [1]", "the angle of the closed form, had the basis been kept", "radians"),
        Internal("etf/epochs", "f32 [epochs, 6]", "NC1, NC2, NC3, NC4, pull and push after each epoch of this task"),
    ),
    simplex=True,
)
@final
class NCPTM(Method[NCPTMParams]):
    """Features aligned with a simplex ETF that grows with the classes.

        z = g(h - mu_G) / ||g(h - mu_G)||,    g(x) = x + W2 phi(W1 x + b1) + b2                  [Alignment]     (1)
        M = argmax over ETFs of sum_k w_k <m_k, mean of z in class k>                            [nearest_etf]   (2)
        min  pull * 1/2 (<m_y, z> - 1)^2  +  push * 1/(K-1) sum_{k != y} 1/2 max(0, <m_k, z> + 1/(K-1))^2        (3)
        prediction = argmax_k <m_k, z>                                                                           (4)

    First session: adapters and g learn (3) on images, then the adapters are frozen with the backbone. Every session:
    store a Gaussian of the raw features h of each new class, place M by (2), train g by (3) on the features of the new
    classes and on pseudo-features h ~ N(mu_c, S_c) of the old ones. Source: NCPTM-CIL, He et al., arXiv:2504.18437;
    its three components (dynamic ETF classifier, ETF alignment, pull-and-push loss) are known by name only, (1)-(4) and
    all numbers are our reconstruction. Keeps adapters, 2 d^2 numbers for g, K d for M, 2 d (or d + d^2) per class for
    learning. One forward pass per image.
    """

    former_parts = {"adapters": "worn", "frame": "classifier"}

    def setup(self) -> None:
        """Adapters and g that change nothing yet, no vertex."""
        p, backbone, dim = self.params, self.backbone, self.backbone.feature_dim

        def adapter(layer: int) -> AdapterSlot:
            return AdapterSlot(
                backbone.token_dim, p.bottleneck, p.adapter_scale, generator=self.draws("adapter", layer)
            )

        self.worn = Slots.everywhere(backbone, "mlp", adapter, blocks=None if p.adapt else 0)
        self.align = Alignment(dim, p.width * dim, p.activation, self.draws("alignment")).to(backbone.device)
        self.memory = GaussianMemory(dim, p.memory, backbone.device)
        self.classifier = Frame(dim, backbone.device)  # M, mu_G, the basis of the prefix, what was measured

    def shape(self, h: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """Equation (1); before any task the raw feature h."""
        centre = self.classifier.kept.get("centre")
        return h if centre is None else F.normalize(self.align(h - centre), dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """First session: adapt. Every session: remember, place the simplex, align."""
        p, watch = self.params, EpochWatch(self.seen)
        self._refuse(len(self.seen))
        if not self.old and p.adapt:
            yield from self._adapt(task, watch)
        h, labels = yield from gathered(self, task, stage="statistics")
        self.memory.add(h, labels)
        self._place(self.memory)
        if p.align:
            yield from self._align(task, h, labels, watch)
        self.classifier.kept["epochs"] = watch.table().to(h.device)

    def _refuse(self, classes: int) -> None:
        p, dim = self.params, self.backbone.feature_dim
        most = {"nearest": dim + 1, "prefix": dim, "fixed": min(p.capacity, dim + 1)}[p.etf]
        if classes > most:
            raise InvalidRequestError(f"ncptm with etf={p.etf} has room for {most} classes on {dim} features.")
        if classes < 2:
            raise InvalidRequestError("ncptm needs two classes in its first task: one vertex is no simplex.")

    def _adapt(self, task: Task, watch: EpochWatch) -> Iterator[Progress]:
        """(3) over adapters and g on augmented images; M is placed before the first epoch and once more after it."""
        p, kind = self.params, self.params.memory

        def place() -> Iterator[Progress]:
            as_it_is = GaussianMemory(self.backbone.feature_dim, kind, self.backbone.device)
            as_it_is.add(*(yield from gathered(self, task, stage="statistics")))
            self._place(as_it_is)

        yield from place()
        trained = [*self.worn.parameters(), *(self.align.parameters() if p.align else ())]
        steps = fit(
            self, task, trained, lambda h, y: self._loss(h, y, watch), p.fit, stage="adapt", divided=False
        )  # the watch counts every image
        for progress in steps:
            yield progress
            if progress.done % len(task) == 0:
                watch.close(self.classifier.vertices)
                if progress.epoch == 0 and progress.done < progress.total:
                    yield from place()

    def _place(self, memory: GaussianMemory) -> None:
        """mu_G and M, and the angle by which the vertex of each old class has turned."""
        kept, raw, old = self.classifier.kept, memory.only(self.seen).means, len(self.old)
        before = kept.get("vertices")
        if self.params.centring == "running" or not old:
            kept["centre"] = raw.mean(dim=0) if self.params.centring != "none" else torch.zeros_like(raw[0])
        kept["simplex"] = self._simplex(self.shape(raw).detach(), old).to(raw)
        kept["vertices"] = kept["simplex"][: len(raw)]
        if before is not None and old:
            cosines = (double(before[:old]) * double(kept["vertices"][:old])).sum(dim=1)
            kept["turned"] = cosines.clamp(-1, 1).acos().to(raw)
            kept["expected"] = torch.tensor([growth_angle(old, len(raw))], device=raw.device)

    def _simplex(self, means: Float[Tensor, "cls feature"], old: int) -> Float[Tensor, "vertex feature"]:
        """Equation (2), or one of the alternatives that `params.etf` names."""
        p, kept, count = self.params, self.classifier.kept, len(means)
        draws = rng.numpy_stream(self.seed, "simplex", count)
        if p.etf == "fixed":
            return kept["simplex"] if old else through_numpy(simplex_etf, means, p.capacity, means.shape[1], draws)
        if p.etf == "prefix" and old and old < count:
            kept["basis"] = through_numpy(extend_basis, means, kept["basis"], count - old, draws).contiguous()
            return through_numpy(etf_from_basis, means, kept["basis"])
        weights = torch.ones(count)
        weights[:old] = p.hold
        nearest = through_numpy(nearest_etf, means, means, weights)
        if p.etf == "prefix":
            kept["basis"] = through_numpy(basis_of, means, nearest, draws).contiguous()
        return nearest

    def _align(self, task: Task, h: Tensor, labels: Tensor, watch: EpochWatch) -> Iterator[Progress]:
        """(3) over g, on features of the new classes and as many pseudo-features of every old one."""
        p = self.params
        views, theirs = yield from viewed(self, task, p.views, p.fit)
        x, truth = torch.cat([h, views]), torch.cat([labels, theirs])
        old = tuple(c for c in self.seen if c not in task.classes)
        each = max(p.pseudo, len(truth) // len(task.classes))
        total = len(truth) + each * len(old)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            draws = self.draws("pseudo", task.index, epoch)
            pool, theirs = x, truth
            if old:
                pseudo, owners = self.memory.sample(each, draws, old)
                pool, theirs = torch.cat([x, pseudo]), torch.cat([truth, owners])
            for chosen in (
                torch.randperm(total, generator=draws).to(x.device, non_blocking=True).split(p.aligning.batch_size)
            ):
                yield pool[chosen], theirs[chosen]

        for progress in descend(
            batches, -(-total // p.aligning.batch_size), self.align.parameters(),
            lambda h, y: self._loss(h, y, watch), p.aligning, stage="align", total=p.aligning.epochs * total,
            divided=False,
        ):  # fmt: skip
            yield progress
            if progress.done % total == 0:
                watch.close(self.classifier.vertices)

    def _loss(self, h: Tensor, labels: Tensor, watch: EpochWatch) -> Float[Tensor, ""]:
        """Equation (3)."""
        z = self.shape(h)
        pull, push = pull_push(z, self.classifier.kept["simplex"], columns_of(labels, self.seen))
        watch.add(z, labels, pull, push)
        return self.params.pull * pull + self.params.push * push

    def internals(self):
        """Vertices, how far the old ones turned and what the closed form says, collapse and loss terms per epoch."""
        kept = self.classifier.kept
        return {f"etf/{n}": kept[n] for n in ("vertices", "turned", "expected", "epochs") if n in kept}
