"""NCPTM-CIL: features are aligned with a simplex that grows with the classes and turns as little as it can."""

from cillab.geometry.etf import growth_angle
from cillab.kit import (
    F, Fit, Float, GaussianMemory, Generator, HyperParams, Internal, Iterator, Literal, Method, NonNegativeFloat,
    NonNegativeInt, PositiveFloat, PositiveInt, Progress, Simplex, Task, Tensor, adapters, columns_of, double,
    each_epoch, final, fit, fit_features, gathered, method, pull_push, rng, torch, viewed,
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
    ours="equations (1) to (3) and every number",
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
        M = argmax over ETFs of sum_k w_k <m_k, z of the mean h of class k>,   logit_k = <m_k, z>  [Simplex]     (2)
        min  pull * 1/2 (<m_y, z> - 1)^2  +  push * 1/(K-1) sum_{k != y} 1/2 max(0, <m_k, z> + 1/(K-1))^2        (3)

    First session: adapters and g learn (3) on images and are frozen, g is not. Every session: store a Gaussian of the
    features h of each new class, place M by (2), train g by (3) on new features and on h ~ N(mu_c, S_c) of old classes.
    Source: NCPTM-CIL, He et al., arXiv:2504.18437, whose components are known to us by name only. Keeps adapters,
    2 width d^2 numbers for g, K d for M, 2 d or d + d^2 per class for learning; one pass per image.
    """

    former_parts = {"adapters": "worn", "frame": "classifier"}

    def setup(self) -> None:
        """Adapters and g that change nothing yet, no vertex."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.worn = adapters(self, p.bottleneck, scale=p.adapter_scale, blocks=None if p.adapt else 0)
        self.align = Alignment(dim, p.width * dim, p.activation, self.draws("alignment")).to(device)
        self.memory = GaussianMemory(dim, p.memory, device)
        self.classifier = Simplex(dim, device, p.etf, p.capacity)

    def shape(self, h: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """Equation (1); before any task the raw feature h."""
        centre = self.classifier.kept.get("centre")
        return h if centre is None else F.normalize(self.align(h - centre), dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """First session: adapt. Every session: remember, place the simplex, align."""
        self.watch = EpochWatch(self.seen)
        if not self.old and self.params.adapt:
            yield from self._adapt(task)
        clean = yield from self._place(task, self.memory)
        yield from self._align(task, clean) if self.params.align else ()
        self.classifier.kept["epochs"] = self.watch.table().to(self.backbone.device)

    def _adapt(self, task: Task) -> Iterator[Progress]:
        """(3) over adapters and g on augmented images; M is placed before the first epoch and once more after it."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device

        def after(progress: Progress) -> Iterator[Progress]:
            self.watch.close(self.classifier.vertices)
            if progress.epoch == 0 and progress.done < progress.total:
                yield from self._place(task, GaussianMemory(dim, p.memory, device))

        yield from self._place(task, GaussianMemory(dim, p.memory, device))
        trained = [*self.worn.parameters(), *(self.align.parameters() if p.align else ())]
        yield from each_epoch(fit(self, task, trained, self._loss, p.fit, stage="adapt", divided=False), after)

    def _place(self, task: Task, memory: GaussianMemory) -> Generator[Progress, None, tuple[Tensor, Tensor]]:
        """Gaussians of the task, mu_G, M by (2), and the angle by which the vertex of each old class has turned."""
        p, kept, old = self.params, self.classifier.kept, len(self.old)
        h, labels = yield from gathered(self, task, stage="statistics")
        memory.add(h, labels)
        means, before = memory.only(self.seen).means, double(self.classifier.vertices[:old])
        if p.centring == "running" or not old:
            kept["centre"] = means.mean(dim=0) if p.centring != "none" else torch.zeros_like(means[0])
        draws = rng.numpy_stream(self.seed, "simplex", len(means))
        self.classifier.place(self.shape(means).detach(), draws, old, p.hold)
        if old > 1:
            cosines = (before * double(kept["vertices"][:old])).sum(dim=1)
            kept["turned"] = cosines.clamp(-1, 1).acos().to(h)
            kept["expected"] = torch.tensor([growth_angle(old, len(means))], device=h.device)
        return h, labels

    def _align(self, task: Task, clean: tuple[Tensor, Tensor]) -> Iterator[Progress]:
        """(3) over g, on features of the new classes and as many pseudo-features of every old one."""
        p = self.params
        taken = yield from viewed(self, task, clean, p.views, p.fit)
        each = max(p.pseudo, len(taken[1]) // len(task.classes))
        replay = self.memory, each, tuple(c for c in self.seen if c not in task.classes)
        steps = fit_features(
            self, task, taken, self.align.parameters(), self._loss, p.aligning,
            stage="align", order="pseudo", replay=replay, divided=False,
        )  # fmt: skip
        yield from each_epoch(steps, lambda _: self.watch.close(self.classifier.vertices))

    def _loss(self, h: Tensor, labels: Tensor) -> Float[Tensor, ""]:
        """Equation (3); the watch counts every image, hence `divided=False` above."""
        z = self.shape(h)
        pull, push = pull_push(z, self.classifier.whole, columns_of(labels, self.seen))
        self.watch.add(z, labels, pull, push)
        return self.params.pull * pull + self.params.push * push

    def internals(self):
        """Vertices, how far the old ones turned and what the closed form says, collapse and loss terms per epoch."""
        kept = self.classifier.kept
        return {f"etf/{n}": kept[n] for n in ("vertices", "turned", "expected", "epochs") if n in kept}
