"""NCPTM-CIL: features are aligned with a simplex that grows with the classes and turns as little as it can."""

from collections.abc import Generator, Iterator, Mapping
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from cillab.backbones.slots import AdapterSlot, Slots
from cillab.core import rng
from cillab.core.contract import Backbone, Capabilities, Head, Learner, Part, Progress, Task
from cillab.core.errors import InvalidRequestError, NotObservedError
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import undone_on_failure
from cillab.geometry.etf import basis_of, etf_from_basis, extend_basis, growth_angle, nearest_etf, simplex_etf
from cillab.parts.alignment import Alignment
from cillab.parts.fitting import FitParams, augmentation, augmented, descend, fit, sweep
from cillab.parts.gaussian_memory import GaussianMemory
from cillab.parts.heads import Table, columns_of
from cillab.parts.losses import pull_push
from cillab.parts.watching import EpochWatch


class NCPTMParams(FitParams):
    """Hyper-parameters of NCPTM-CIL. The paper's text could not be read: every choice here is a reconstruction."""

    adapt: bool = True
    """Train adapters beside every MLP in the first session, then freeze them."""
    bottleneck: PositiveInt = 64
    """Width of an adapter."""
    adapter_scale: PositiveFloat = 0.1
    """Factor on an adapter's output."""
    epochs: PositiveInt = 20
    """Epochs of the first session, in which adapters and alignment layer train on images."""
    batch_size: PositiveInt = 48
    """Images per step of the first session."""
    lr: PositiveFloat = 0.01
    """Learning rate of the first session."""
    centring: Literal["first", "running", "none"] = "running"
    """mu_G, taken off every feature: mean of the class means of the first session, of all classes seen, or 0."""
    align: bool = True
    """Train the alignment layer g; without it z = h - mu_G."""
    activation: Literal["leaky_relu", "gelu"] = "leaky_relu"
    """phi of the alignment layer."""
    width: PositiveInt = 4
    """Hidden units of the alignment layer, in multiples of the feature dimension (held-out training images of all ten
    tasks of shields, three orders, A_last: 82.6 % with 1, 83.9 with 4, 83.8 with 8)."""
    align_epochs: NonNegativeInt = 10
    """Epochs of the alignment layer on remembered features, in every session."""
    align_batch: PositiveInt = 128
    """Features per step of the alignment layer."""
    align_optimiser: Literal["sgd", "adamw"] = "adamw"
    """Optimiser of the alignment layer on features, whose spread differs by orders of magnitude between directions: one
    rate for all (SGD, at its best rate 1.0) ended at 80.0 % where AdamW has 82.7 (`width` 1, one of those orders)."""
    align_lr: PositiveFloat = 3e-3
    """Learning rate of the alignment layer on features (the same images; two orders without adapters: 82.4 % with
    1e-3, 83.7 with 3e-3; three orders with adapters: 83.9 with 3e-3, 83.7 with 1e-2)."""
    views: NonNegativeInt = 0
    """Augmented passes over a task's images whose features train the alignment layer beside the clean ones. Three of
    them change nothing here (83.1 % against 83.7 without) and cost three passes."""
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
    """Covariance of the Gaussians that stand for old classes (same validation at align_lr 1.0: diagonal 92.0 %, full
    94.8 %)."""
    pseudo: NonNegativeInt = 32
    """Least number of pseudo-features per old class and epoch; as many as the task has images per class, if more."""


@learners.register("ncptm")
@final
class NCPTM(Learner[NCPTMParams]):
    """One unit vertex m_k per class; the vertices of all seen classes form a simplex equiangular tight frame (ETF).

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

    name: ClassVar[str] = "ncptm"
    Params: ClassVar[type[HyperParams]] = NCPTMParams
    capabilities: ClassVar[Capabilities] = Capabilities(
        summary="features aligned with a simplex ETF that grows with the classes",
        paper="He et al., NCPTM-CIL, arXiv:2504.18437",
        evidence="reconstruction after the abstract",
        needs=frozenset({"vit"}),
        shows=frozenset({"etf"}),
        simplex=True,
    )

    def __init__(self, backbone: Backbone, params: NCPTMParams | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.params, self.seed = backbone, params or NCPTMParams(), seed
        how, device, dim = self.params, backbone.device, backbone.feature_dim
        self.adapters = Slots.everywhere(backbone, "mlp", self._adapter, blocks=None if how.adapt else 0)
        self.align = Alignment(dim, how.width * dim, how.activation, rng.stream(seed, "alignment")).to(device)
        self.memory = GaussianMemory(dim, how.memory, device)
        self.frame = Table(device)  # mu_G, vertices, the basis of the prefix, what was measured

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return tuple(self.frame.meta.get("classes", ()))

    def _adapter(self, layer: int) -> AdapterSlot:
        how, draws = self.params, rng.stream(self.seed, "adapter", layer)
        return AdapterSlot(self.backbone.token_dim, how.bottleneck, how.adapter_scale, generator=draws)

    @property
    def vertices(self) -> Float[Tensor, "cls feature"]:
        """M, one unit row per seen class."""
        return self.frame.tensors["vertices"]

    def observe(self, task: Task) -> Iterator[Progress]:
        """First session: adapt. Every session: remember, place the simplex, align."""
        how, old = self.params, len(self.seen)
        classes = tuple(dict.fromkeys((*self.seen, *task.classes)))
        self._refuse(len(classes))
        watch = EpochWatch(classes)
        with undone_on_failure(self.parts()):
            if not old and how.adapt:
                yield from self._adapt(task, classes, watch)
            clean = yield from self._remember(task, self.memory)
            self._place(classes, self.memory, old)
            if how.align and how.align_epochs:
                yield from self._align(task, clean, watch)
            self.frame.tensors["epochs"] = watch.table().to(self.backbone.device)

    def _refuse(self, classes: int) -> None:
        how, dim = self.params, self.backbone.feature_dim
        most = {"nearest": dim + 1, "prefix": dim, "fixed": min(how.capacity, dim + 1)}[how.etf]
        if classes > most:
            raise InvalidRequestError(f"ncptm with etf={how.etf} has room for {most} classes on {dim} features.")
        if classes < 2:
            raise InvalidRequestError("ncptm needs two classes in its first task: one vertex is no simplex.")

    def _adapt(self, task: Task, classes: tuple[int, ...], watch: EpochWatch) -> Iterator[Progress]:
        """(3) over adapters and g on augmented images; M is placed before the first epoch and once more after it."""
        trained = [*self.adapters.parameters(), *(self.align.parameters() if self.params.align else ())]

        def loss(pixels: Tensor, labels: Tensor) -> Tensor:
            with self.backbone.wearing(self.adapters):
                return self._loss(self.backbone.embed(pixels), labels, watch)

        def place() -> Iterator[Progress]:
            as_it_is = GaussianMemory(self.backbone.feature_dim, self.params.memory, self.backbone.device)
            yield from self._remember(task, as_it_is)
            self._place(classes, as_it_is, old=0)

        yield from place()
        for progress in fit(task, self.backbone, trained, loss, self.params, seed=self.seed, stage="adapt"):
            yield progress
            if progress.done % len(task) == 0:
                watch.close(self.vertices)
                if progress.epoch == 0 and progress.done < progress.total:
                    yield from place()

    def _remember(self, task: Task, memory: GaussianMemory) -> Generator[Progress, None, list[tuple[Tensor, Tensor]]]:
        """Raw features of the task's images go into `memory`; they are returned as well."""
        seen: list[tuple[Tensor, Tensor]] = []

        def visit(images: Tensor, labels: Tensor) -> None:
            seen.append((self._raw(images), labels))

        yield from sweep(task.batches(self.params.align_batch), visit, len(task), "statistics")
        memory.add(torch.cat([h for h, _ in seen]), torch.cat([y for _, y in seen]))
        return seen

    def _place(self, classes: tuple[int, ...], memory: GaussianMemory, old: int) -> None:
        """mu_G and M for `classes`, and the angle by which the vertex of each of the `old` first ones has turned."""
        how, frame, raw = self.params, self.frame.tensors, memory.only(classes).means
        before = frame.get("vertices")
        if how.centring == "running" or not old:
            frame["centre"] = raw.mean(dim=0) if how.centring != "none" else torch.zeros_like(raw[0])
        frame["simplex"] = self._simplex(self._z(raw).detach(), old).float()
        frame["vertices"] = frame["simplex"][: len(classes)]
        if before is not None and old:
            cosines = (before[:old].double() * frame["vertices"][:old].double()).sum(dim=1)
            frame["turned"] = cosines.clamp(-1, 1).acos().float()
            frame["expected"] = torch.tensor([growth_angle(old, len(classes))], device=raw.device)
        self.frame.meta["classes"] = list(classes)

    def _simplex(self, means: Float[Tensor, "cls feature"], old: int) -> Float[Tensor, "vertex feature"]:
        """Equation (2), or one of the alternatives that `params.etf` names."""
        how, frame = self.params, self.frame.tensors
        draws = rng.stream(self.seed, "simplex", len(means))
        if how.etf == "fixed":
            return frame["simplex"] if old else simplex_etf(how.capacity, means.shape[1], draws).to(means.device)
        if how.etf == "prefix" and old and old < len(means):
            frame["basis"] = extend_basis(frame["basis"].cpu(), len(means) - old, draws).to(means.device)
            return etf_from_basis(frame["basis"])
        weights = torch.ones(len(means), device=means.device)
        weights[:old] = how.hold
        nearest = nearest_etf(means, weights)
        if how.etf == "prefix":
            frame["basis"] = basis_of(nearest, draws)
        return nearest

    def _align(self, task: Task, clean: list[tuple[Tensor, Tensor]], watch: EpochWatch) -> Iterator[Progress]:
        """(3) over g, on features of the new classes and as many pseudo-features of every old one."""
        how = self.params
        real = clean + (yield from self._views(task))
        x, labels = torch.cat([h for h, _ in real]), torch.cat([y for _, y in real])
        old = tuple(c for c in self.seen if c not in task.classes)
        each = max(how.pseudo, len(labels) // len(task.classes))
        total = len(labels) + each * len(old)

        def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            draws = rng.stream(self.seed, "pseudo", task.index, epoch)
            pool, truth = x, labels
            if old:
                pseudo, theirs = self.memory.sample(each, draws, old)
                pool, truth = torch.cat([x, pseudo]), torch.cat([labels, theirs])
            for chosen in torch.randperm(total, generator=draws).to(pool.device).split(how.align_batch):
                yield pool[chosen], truth[chosen]

        schedule = how.model_copy(update={"optimiser": how.align_optimiser, "lr": how.align_lr})
        steps, epochs = -(-total // how.align_batch), how.align_epochs
        for progress in descend(
            batches, steps, self.align.parameters(), lambda h, y: self._loss(h, y, watch), schedule,
            stage="align", total=epochs * total, epochs=epochs,
        ):  # fmt: skip
            yield progress
            if progress.done % total == 0:
                watch.close(self.vertices)

    def _views(self, task: Task) -> Generator[Progress, None, list[tuple[Tensor, Tensor]]]:
        """Raw features of augmented images, if `params.views` asks for any."""
        how, found = self.params, list[tuple[Tensor, Tensor]]()

        def visit(pixels: Tensor, labels: Tensor) -> None:
            with self.backbone.wearing(self.adapters):
                found.append((self.backbone.embed(pixels), labels))

        for number in range(how.views):
            batches = augmented(task, self.backbone, augmentation(how), how.align_batch, self.seed, "views", number)
            yield from sweep(batches, visit, len(task), f"views {number + 1}")
        return found

    def _loss(self, h: Tensor, labels: Tensor, watch: EpochWatch) -> Float[Tensor, ""]:
        """Equation (3)."""
        z = self._z(h)
        pull, push = pull_push(z, self.frame.tensors["simplex"], columns_of(labels, self.seen))
        watch.add(z, labels, pull, push)
        return self.params.pull * pull + self.params.push * push

    def _raw(self, images: Tensor) -> Float[Tensor, "image feature"]:
        """h, the feature of the backbone with its adapters."""
        with self.backbone.wearing(self.adapters):
            return self.backbone(images)

    def _z(self, h: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """Equation (1)."""
        return F.normalize(self.align(h - self.frame.tensors["centre"]), dim=-1)

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """z, of length 1; before any task the raw feature h."""
        h = self._raw(images)
        return self._z(h) if self.seen else h

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """Cosines with the vertices, in [-1, 1]: similarities, not calibrated log-probabilities."""
        if not self.seen:
            raise NotObservedError("NCPTM has seen no class yet: exhaust observe(task) first.")
        return self.features(images) @ self.vertices.T

    def head(self) -> Head:
        """The vertices."""
        empty = torch.zeros(0, self.backbone.feature_dim, device=self.backbone.device)
        return Head(self.frame.tensors.get("vertices", empty), None)

    def internals(self) -> Mapping[str, Tensor]:
        """Vertices, how far the old ones turned and what the closed form says, collapse and loss terms per epoch."""
        names = ("vertices", "turned", "expected", "epochs")
        return {f"etf/{name}": self.frame.tensors[name] for name in names if name in self.frame.tensors}

    def parts(self) -> Mapping[str, Part]:
        """Adapters, alignment layer, memory, frame."""
        return {"adapters": self.adapters, "align": self.align, "memory": self.memory, "frame": self.frame}
