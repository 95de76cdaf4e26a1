"""NC-FSCIL: a simplex fixed before the first task; a projector brings features to their vertices."""

from cillab.kit import (
    F, Fit, HyperParams, Iterator, Literal, Method, PositiveFloat, PositiveInt, Progress, Prototypes, Simplex, Task,
    Tensor, adapters, columns_of, final, fit, fit_features, gathered, method, pull_push, rng, torch,
)  # fmt: skip
from cillab.parts.alignment import Alignment


class NCFSCILParams(HyperParams):
    """Hyper-parameters of NC-FSCIL."""

    capacity: PositiveInt = 100
    """Vertices of the simplex. The paper knows how many classes will come; here the user says it."""
    adapt: Literal["adapter", "none"] = "adapter"
    """What learns in the first session beside the projector; the paper trains a ResNet from scratch."""
    bottleneck: PositiveInt = 64
    """Width of an adapter."""
    width: PositiveFloat = 2.0
    """Hidden width of the projector, as a multiple of the feature dimension."""
    fit: Fit = Fit(epochs=20, batch_size=48, lr=0.05)
    """The first session, on images."""
    later: Fit = Fit(epochs=40, batch_size=64, lr=0.05, weight_decay=0.0)
    """The projector in every later session, on features."""

    quick = {"capacity": 16, "bottleneck": 4, "later.epochs": 40}


@method(
    "nc-fscil",
    paper="Yang et al., NC-FSCIL, ICLR 2023, arXiv:2302.03004",
    evidence="reproduction of losses and protocol, on pre-trained features",
    family="neural collapse",
    when="Targets that never move: whether a simplex fixed in advance forgets less than one that grows.",
    ours="an adapter in place of a ResNet from scratch; a projector that starts as the identity; every number",
    needs={"vit"},
    simplex=True,
    internals=("anchors/rows",),
)
@final
class NCFSCIL(Method[NCFSCILParams]):
    """Features are drawn to the vertices of a simplex that stood before the first class came.

        M = a simplex ETF of `capacity` vertices in random orientation, handed out in order of arrival            (1)
        z = g(f(x)) / ||.||,   min 1/2 (<m_y, z> - 1)^2     on images in the first session, f adapted             (2)
        later: the same over g alone, on f(x) of the new images and on the mean of f(x) of every old class        (3)
        logit_c = <m_c, z>

    Source: NC-FSCIL, Yang et al., ICLR 2023, arXiv:2302.03004: (1) to (3), dot regression. In (3) an old class weighs
    as much as a new one. Keeps the adapters, 2 width D^2 numbers for g, D for every mean and every vertex; one pass
    per image.
    """

    def setup(self) -> None:
        """Adapters and g that change nothing yet, and the simplex."""
        p, dim, device = self.params, self.backbone.feature_dim, self.backbone.device
        self.worn = adapters(self, p.bottleneck, blocks=None if p.adapt == "adapter" else 0)
        self.project = Alignment(dim, round(p.width * dim), "leaky_relu", self.draws("projector")).to(device)
        self.means, self.classifier = Prototypes(dim, device), Simplex(dim, device, "fixed", p.capacity)

    def arrive(self, task: Task) -> None:
        """The next vertices."""
        self.classifier.grow(task.classes)
        self.means.grow(task.classes)
        self.classifier.place(draws=rng.numpy_stream(self.seed, "simplex"))

    def shape(self, h: Tensor) -> Tensor:
        """The z of (2)."""
        return F.normalize(self.project(h), dim=-1)

    def learn(self, task: Task) -> Iterator[Progress]:
        """(2) in the first session, (3) later; means of the new classes."""

        def loss(h: Tensor, labels: Tensor) -> Tensor:
            return pull_push(self.shape(h), self.classifier.whole, columns_of(labels, self.seen))[0]

        if not self.old:
            trained = [*self.worn.parameters(), *self.project.parameters()]
            yield from fit(self, task, trained, loss, self.params.fit, stage="first session")
        h, labels = yield from gathered(self, task)
        self.means.add(h, labels)
        if self.old:
            yield from self._project(task, h, labels, loss)

    def _project(self, task: Task, h: Tensor, labels: Tensor, loss) -> Iterator[Progress]:
        """Equation (3): old means are repeated until an old class has as many rows as a new one."""
        each = max(1, len(labels) // len(task.classes))
        old = torch.tensor([c for c in self.old if c not in task.classes], dtype=torch.int64, device=h.device)
        means = self.means.means(like=h)[columns_of(old, self.seen)]
        taken = torch.cat([h, means.repeat(each, 1)]), torch.cat([labels, old.repeat(each)])
        how, trained = self.params.later, self.project.parameters()
        yield from fit_features(self, task, taken, trained, loss, how, stage="project", order="project")

    def internals(self):
        """The vertices handed out so far."""
        return {"anchors/rows": self.classifier.vertices} if self.seen else {}
