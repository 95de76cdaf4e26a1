"""`Method`: the base under the nine members. A method gives its parts, how it embeds, and how it learns a task."""

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, TypeVar, final, get_args

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from cillab.core import rng
from cillab.core.contract import (
    Backbone,
    Capabilities,
    Delta,
    Family,
    Head,
    Learner,
    Need,
    Part,
    Progress,
    Task,
)
from cillab.core.errors import NotObservedError
from cillab.core.internals import Internal, declared
from cillab.core.params import HyperParams
from cillab.core.registry import learners
from cillab.core.state import exploded, not_finite, undone_on_failure
from cillab.parts import fitting
from cillab.parts.fitting import Fit
from cillab.parts.module import Roster

P = TypeVar("P", bound=HyperParams)
BATCH = 128  # images per forward pass where nothing is trained: changes speed, never the result


@final
class Run:
    """The images at hand: `run(delta, ...)` forwards them under these deltas, `run.each(deltas)` under each alone."""

    def __init__(self, backbone: Backbone, images: Tensor, *, stored: bool) -> None:
        self._backbone, self._images, self._stored = backbone, images, stored

    def __call__(self, *worn: Delta) -> Float[Tensor, "image feature"]:
        """Features under `worn`."""
        forward = self._backbone if self._stored else self._backbone.embed
        with self._backbone.wearing(*worn):
            return forward(self._images)

    def each(self, deltas: Iterable[Delta]) -> Float[Tensor, "delta image feature"]:
        """Features under each of `deltas`, for less than a pass for each."""
        if self._stored:
            return self._backbone.each(self._images, [*deltas])
        return torch.stack([self(delta) for delta in deltas])


class Method(Learner[P]):
    """A learner as its equations: parts made by `setup`, images taken in by `learn`, everything else written once.

        h = embed(x)          the backbone under what the method wears                              [embed]
        z = shape(h)          what the classifier reads, which is what `features` returns          [shape]
        logits = classifier(z)

    A leaf defines `setup` and `learn`, and overrides `embed` or `shape` where the method does something else there.
    Every `Part` among the attributes is saved under its attribute's name.
    """

    worn: Any = None
    """What the backbone wears, if anything: a `Delta`."""
    classifier: Any
    """The `Classifier` that reads `shape(h)`."""

    def __init__(self, backbone: Backbone, params: P | None = None, *, seed: int = 1993) -> None:
        self.backbone, self.seed = backbone, seed
        self.params: P = params if params is not None else self.Params()  # type: ignore[assignment]
        self.roster = Roster()
        self.setup()

    @abstractmethod
    def setup(self) -> None:
        """Make the parts, from `self.backbone`, `self.params` and draws of `self.draws(...)`."""

    @abstractmethod
    def learn(self, task: Task) -> Iterator[Progress]:
        """The method itself. The classes of `task` have arrived already; closed early, everything is undone."""

    def arrive(self, task: Task) -> None:
        """Make room for the classes of `task`, before it is learnt."""
        self.classifier.arrive(task)

    def embed(self, run: Run) -> Float[Tensor, "image feature"]:
        """h: `run(delta, ...)` forwards the images at hand once, under whatever is put on."""
        return run(*self.dress)

    def shape(self, h: Float[Tensor, "image feature"]) -> Float[Tensor, "image feature"]:
        """What the classifier reads, from the feature that the backbone gave."""
        return h

    def internals(self) -> Mapping[str, Tensor]:
        """The method's own quantities by name; each is declared in `@method(internals=...)`."""
        return {}

    @property
    def dress(self) -> tuple[Delta, ...]:
        """What is worn, as the arguments of `run`."""
        return () if self.worn is None else (self.worn,)

    @property
    def old(self) -> tuple[int, ...]:
        """The classes that were seen before the newest task; empty in the first session."""
        return self.roster.old

    @property
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance."""
        return self.roster.classes

    def observe(self, task: Task) -> Iterator[Progress]:
        """Enter the classes of `task`, then `learn` it. Whatever ends it early, the learner is as it was before.

        Where classes come by name alone and the method learns names, there is nothing more to learn.

        Raises:
            InvalidRequestError: the task left numbers that are not finite.
        """
        with undone_on_failure(self.parts()):
            self.roster.enter(task)
            self.arrive(task)
            try:
                alone = not len(task) and self.capabilities.learns_names
                yield from iter([Progress("names", 0, 0)]) if alone else self.learn(task)
            except (RuntimeError, ValueError) as error:  # a factorisation of what is no number any more, for one
                where = not_finite(self.parts()) or ("its features" if "finite" in str(error) else None)
                if where is None:
                    raise
                raise exploded(where, task.index) from error
            if (where := not_finite(self.parts())) is not None:
                raise exploded(where, task.index)

    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """What the classifier looks at, under the evaluation transform. Follows the caller's grad mode."""
        return self.shape(self.embed(self.on(images)))

    def scores(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """The classifier on what `features` returned."""
        if not self.seen:
            raise NotObservedError(f"{type(self).__name__} has seen no class yet: exhaust observe(task) first.")
        return self.classifier(features)

    def head(self) -> Head:
        """What features are compared with."""
        return self.classifier.rows()

    def parts(self) -> Mapping[str, Part]:
        """Every part among the attributes, once, under the name of the attribute."""
        found: dict[int, tuple[str, Part]] = {}
        for name, value in vars(self).items():
            if isinstance(value, Part):
                found.setdefault(id(value), (name, value))
        return dict(found.values())

    def draws(self, *names: str | int) -> torch.Generator:
        """The stream of random numbers for one named purpose."""
        return rng.stream(self.seed, *names)

    def on(self, images: UInt8[Tensor, "image 3 height width"]) -> Run:
        """Forward stored images under the evaluation transform."""
        return Run(self.backbone, images, stored=True)

    def on_pixels(self, pixels: Float[Tensor, "image 3 size size"]) -> Run:
        """Forward normalised pixels."""
        return Run(self.backbone, pixels, stored=False)


def method(
    name: str,
    *,
    paper: str,
    evidence: str,
    family: Family,
    when: str,
    needs: Iterable[Need] = (),
    internals: Iterable[Internal | str] = (),
    learns_names: bool = False,
    exemplars: bool = False,
    simplex: bool = False,
    known: str = "",
    ours: str = "",
) -> Callable[[type], type]:
    """Decorator: enter a learner under `name`, with what it needs, its internals and what its card says.

    The summary is the first line of the class's docstring; the record of hyper-parameters is the argument of `Method`.
    """

    def enter(cls: type) -> type:
        summary = (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        word = summary.partition(" ")[0]  # an abbreviation stays as it is
        cls.name = name  # type: ignore[attr-defined]
        cls.Params = _record_of(cls)  # type: ignore[attr-defined]
        cls.capabilities = Capabilities(  # type: ignore[attr-defined]
            summary=summary if word[1:].upper() == word[1:] and len(word) > 1 else summary[:1].lower() + summary[1:],
            paper=paper,
            evidence=evidence,
            needs=frozenset(needs),
            internals=declared(internals),
            learns_names=learns_names,
            exemplars=exemplars,
            simplex=simplex,
            family=family,
            when=when,
            known=known,
            ours=ours,
        )
        return learners.register(name)(cls)

    return enter


def _record_of(cls: type) -> type[HyperParams]:
    """The record that stands in `class X(Method[Record])`."""
    for base in getattr(cls, "__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type) and issubclass(argument, HyperParams):
                return argument
    return HyperParams


Loss = Callable[[Float[Tensor, "image feature"], Int64[Tensor, " image"]], Float[Tensor, ""]]


def fit(
    learner: Method[Any],
    task: Task,
    trained: Iterable[nn.Parameter] | Iterable[dict],
    loss: Loss,
    how: Fit,
    *,
    stage: str,
    under: Delta | None = None,
    on_pixels: bool = False,
    before_step: Callable[[], None] = fitting.no_step,
    divided: bool = True,
) -> Iterator[Progress]:
    """Minimise `loss(h, labels)` over augmented batches of `task`, h embedded by the method with gradient.

    `under` is worn in place of what `embed` puts on, where a stage trains something else than what will be worn. With
    `on_pixels` the loss gets the pixels themselves, to forward them as often as it likes (distillation). `divided` as
    for `fitting.descend`.
    """

    def embedded(pixels: Tensor, labels: Tensor) -> Tensor:
        run = learner.on_pixels(pixels)
        return loss(learner.embed(run) if under is None else run(under), labels)

    seen = loss if on_pixels else embedded
    yield from fitting.fit(
        task, learner.backbone, trained, seen, how,
        seed=learner.seed, stage=stage, before_step=before_step, divided=divided,
    )  # fmt: skip


def each_epoch(steps: Iterable[Progress], then: Callable[[Progress], Iterable[Progress] | None]) -> Iterator[Progress]:
    """The steps of `fit`; after those of an epoch `then` is called, whose own steps follow if it has any."""
    for progress in steps:
        yield progress
        if progress.done % (progress.total // progress.epochs) == 0:
            yield from then(progress) or ()


def gathered(
    learner: Method[Any],
    task: Task,
    *,
    stage: str = "features",
    under: tuple[Delta, ...] | None = None,
) -> Generator[Progress, None, tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]]]:
    """H and labels of all images of `task`, each forwarded once (or looked up), in the stored order."""
    found: list[tuple[Tensor, Tensor]] = []
    device = learner.backbone.device

    def visit(images: Tensor, labels: Tensor) -> None:
        run = learner.on(images)
        found.append((learner.embed(run) if under is None else run(*under), labels.to(device)))

    yield from fitting.sweep(task.batches(BATCH), visit, len(task), stage)
    return torch.cat([h for h, _ in found]), torch.cat([y for _, y in found])


def revisit(
    learner: Method[Any],
    task: Task,
    visit: Callable[[Float[Tensor, "image feature"], Int64[Tensor, " image"]], None],
    passes: int,
    how: Fit,
    *,
    batch_size: int = BATCH,
    stage: str = "views",
    draws: str = "views",
) -> Iterator[Progress]:
    """Hand h and labels of `passes` augmented passes over `task` to `visit`, batch by batch and without gradient.

    `draws` names their random numbers. Where every view of an image is the same, it is forwarded once, or looked up.
    """
    augment = fitting.augmentation(how)

    def each(views: Tensor, labels: Tensor) -> None:
        run = learner.on(views) if augment.constant else learner.on_pixels(views)
        visit(learner.embed(run), labels)

    for number in range(passes):
        if augment.constant:
            views = task.batches(batch_size, shuffle=learner.draws("shuffle", task.index, draws, number))
        else:
            views = fitting.augmented(task, learner.backbone, augment, batch_size, learner.seed, draws, number)
        yield from fitting.sweep(views, each, len(task), f"{stage} {number + 1}")


def viewed(
    learner: Method[Any],
    task: Task,
    clean: tuple[Float[Tensor, "image feature"], Int64[Tensor, " image"]],
    passes: int,
    how: Fit,
) -> Generator[Progress, None, tuple[Float[Tensor, "row feature"], Int64[Tensor, " row"]]]:
    """H and labels of the clean images, as `gathered` gave them, then of `passes` augmented passes over `task`."""
    found = [clean]
    yield from revisit(learner, task, lambda h, y: found.append((h, y.to(h.device))), passes, how)
    return torch.cat([h for h, _ in found]), torch.cat([y for _, y in found])


__all__ = ["BATCH", "Fit", "Loss", "Method", "Run", "each_epoch", "fit", "gathered", "method", "revisit", "viewed"]
