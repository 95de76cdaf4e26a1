"""The abstract nouns: Task, Backbone, Part, Learner. Everything else in cillab is written against these."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from cillab.core.errors import NotObservedError
from cillab.core.internals import Internal
from cillab.core.params import HyperParams
from cillab.core.pixels import Preprocessing

Need = Literal["vit", "clip", "class-names"]
Family = Literal[
    "closed form",
    "prompts and adapters",
    "classifier alignment",
    "low rank and subspaces",
    "neural collapse",
    "images and text",
    "regularisation",
    "rehearsal",
    "bounds",
]


@dataclass(frozen=True)
class Progress:
    """Where a learner is inside `observe`: what it does, how far it is, how well and how fast it goes."""

    stage: str
    done: int  # images of this stage handled so far, over all its epochs
    total: int  # images that this stage will handle
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    loss: float | None = None
    images_per_second: float | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a learner needs and what it can show. An impossible combination is refused before anything is loaded."""

    summary: str  # one line for `cillab list learners`
    paper: str  # reference, with arXiv id or DOI
    evidence: str  # "reproduction", "reconstruction after the abstract", ...
    needs: frozenset[Need] = field(default_factory=frozenset)
    internals: tuple[Internal, ...] = ()  # what `internals()` returns, some of it perhaps only after a few tasks
    learns_names: bool = False  # does a class's name suffice, without a training image?
    exemplars: bool = False  # does it store training images?
    simplex: bool = False  # one vertex of a simplex per class: at most feature_dim + 1 classes
    family: Family = "prompts and adapters"
    when: str = ""  # one sentence: when one would choose it
    known: str = ""  # published numbers with their protocol, for the method's card
    ours: str = ""  # which choices are ours, for the method's card

    @property
    def shows(self) -> frozenset[str]:
        """The groups of its internals, e.g. noise, text or prompts."""
        return frozenset(one.group for one in self.internals)


class Head(NamedTuple):
    """A linear read-out of features: one row per seen class, in the order of `seen`."""

    weight: Float[Tensor, "cls feature"]
    bias: Float[Tensor, " cls"] | None


@dataclass(frozen=True)
class State:
    """What a Part holds: tensors by name and plain JSON. On disk it is safetensors; never a pickle."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    learning_only: frozenset[str] = field(default_factory=frozenset)  # tensors that `logits` can do without


class Part(ABC):
    """A piece of a learner that can be saved and loaded. Loading may change shapes: the state decides them."""

    @abstractmethod
    def state(self) -> State:
        """All that is needed to go on exactly as before. The tensors may alias the part's own; callers copy."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Become what `state` describes, on the device where this part is now."""


@runtime_checkable
class Mixed(Protocol):
    """A slot that adds up one term per task, with weights that may be changed: what-ifs look for this."""

    weights: Tensor  # one per term, in the order of the tasks

    def mix(self, weights: Float[Tensor, " term"]) -> None:
        """Take other weights, in place."""


class Task(ABC):
    """The training images of a few classes. It has no path to the stream, the test images or later tasks."""

    index: int
    classes: tuple[int, ...]  # label ids of the source, in the order of the stream
    class_names: Mapping[int, str]

    @abstractmethod
    def __len__(self) -> int:
        """Number of training images; 0 where classes come by name alone (only for learners that learn names)."""

    @abstractmethod
    def batches(
        self, batch_size: int, shuffle: torch.Generator | None = None
    ) -> Iterator[tuple[UInt8[Tensor, "image 3 height width"], Int64[Tensor, " image"]]]:
        """Images as stored and their label ids, each once; in the stored order, or shuffled by `shuffle`."""


class Delta(ABC):
    """Something that a backbone can wear for a while: slots in named places, or own copies of some weights."""

    @abstractmethod
    def worn_by(self, module: nn.Module) -> AbstractContextManager[None]:
        """Put it on `module`; take it off again, whatever happens, when the context ends."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Everything that changes what the backbone computes: the key under which features may be remembered."""


class Conditional(Delta):
    """A delta that depends on the image: it sees the naked feature of the very images that it dresses.

    The backbone forwards a batch once without any conditional delta, gives the features to `see`, puts the delta on for
    this one forward pass, and lets `read` change what comes out. Chunks and the memory of features do not matter,
    because whatever the delta does is a function of one image's feature and of its own tensors.
    """

    @abstractmethod
    def see(self, query: Float[Tensor, "image feature"]) -> None:
        """The naked features of the images of the next forward pass, without gradient."""

    def read(self, features: Float[Tensor, "row feature"]) -> Float[Tensor, "image read"]:
        """What the backbone returns in place of `features`; mostly themselves."""
        return features


class Backbone(ABC):
    """A frozen pre-trained model that turns images into features. Learners never change it: they dress it.

    The module inside is the unmodified timm or open_clip model in eval mode with `requires_grad` off. What a learner
    trains lives in its own `Delta`s, worn inside `with backbone.wearing(slots):`, so any number of learners share one
    backbone and its tensors are bit-identical before and after.
    """

    tag: str  # the name that makes it again: "timm:vit_base_patch16_224.augreg_in21k"
    kind: Literal["vit", "convnet"]
    clip: bool  # does it have a text side?
    feature_dim: int
    preprocessing: Preprocessing
    precision: Literal["fp32", "bf16"]
    module: nn.Module  # the vision model

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are; images and learners' parts follow."""

    @property
    @abstractmethod
    def block_names(self) -> tuple[str, ...]:
        """Dotted names of the transformer blocks (stages, for a convnet), first to last: where slots and taps go."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """Number of transformer blocks (stages, for a convnet)."""

    @property
    @abstractmethod
    def token_dim(self) -> int:
        """Width of the residual stream, the size that slots work in (may differ from `feature_dim`)."""

    @abstractmethod
    def wearing(self, *deltas: Delta) -> AbstractContextManager[None]:
        """Inside this context every forward pass goes through `deltas`, in order."""

    @abstractmethod
    def tap(self, *names: str, cut: bool = False) -> AbstractContextManager[dict[str, Tensor]]:
        """Read activations of modules by dotted name (`blocks.11.norm1`) during the forward passes inside the context.

        With `cut`, each activation is detached there and requires grad: gradients stop at it, at the price of the
        layers behind it alone. The module's output is unchanged, and no hook is left, whatever happens.
        """

    @abstractmethod
    def pixels(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image 3 size size"]:
        """Stored images under the evaluation transform, ready for `embed`."""

    @abstractmethod
    def embed(self, pixels: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "image feature"]:
        """Features of normalised pixels, with gradient, in float32 (computed under `precision`)."""

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """Features of stored images under the evaluation transform.

        Without grad they are remembered by content (image, weights, deltas worn, transform), so that each image is
        forwarded once per changed state. With grad enabled nothing is remembered and gradients flow.
        """

    def each(
        self, images: UInt8[Tensor, "image 3 height width"], deltas: Sequence[Delta]
    ) -> Float[Tensor, "delta image feature"]:
        """Features of the same images under each of `deltas` alone, as if asked one after the other."""
        found: list[Tensor] = []
        for delta in deltas:
            with self.wearing(delta):
                found.append(self(images))
        return torch.stack(found)

    @abstractmethod
    def digest(self) -> str:
        """Hash of the weights: part of every result and of every cache key."""


P = TypeVar("P", bound=HyperParams)


class Learner(ABC, Generic[P]):
    """A method of class-incremental learning. Nine members, no optional ones; leaves are `@final`.

    `logits` is no tenth one: it is `scores` of `features`. A learner never learns the number of tasks or of future
    classes, never reads a test image, never touches a global random generator, never names a device.
    """

    name: ClassVar[str]
    Params: ClassVar[type[HyperParams]]
    capabilities: ClassVar[Capabilities]
    former_parts: ClassVar[Mapping[str, str]] = {}  # names of parts in older checkpoints, and today's
    params: P
    seed: int

    @abstractmethod
    def __init__(self, backbone: Backbone, params: P | None = None, *, seed: int = 1993) -> None:
        """Store the arguments and make empty parts. Nothing is trained and nothing is random outside `seed`."""

    @property
    @abstractmethod
    def seen(self) -> tuple[int, ...]:
        """Class ids in order of first appearance; the columns of `logits` follow this order."""

    @abstractmethod
    def observe(self, task: Task) -> Iterator[Progress]:
        """Learn one task. Takes effect only when exhausted: closed early, the learner is as it was before."""

    @abstractmethod
    def features(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """What the classifier looks at, under the evaluation transform. Follows the caller's grad mode."""

    @abstractmethod
    def scores(self, features: Float[Tensor, "image feature"]) -> Float[Tensor, "image cls"]:
        """The classifier alone, on what `features` returned: one column per class in `seen`."""

    def logits(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image cls"]:
        """One column per class in `seen`. Follows the caller's grad mode, so that Grad-CAM sees the real classifier.

        Raises:
            NotObservedError: no class seen yet.
        """
        if not self.seen:
            raise NotObservedError(f"{type(self).__name__} has seen no class yet: exhaust observe(task) first.")
        return self.scores(self.features(images))

    @abstractmethod
    def head(self) -> Head:
        """The rows that features are compared with, so that geometry can be measured. Empty before any task."""

    @abstractmethod
    def internals(self) -> Mapping[str, Tensor]:
        """The method's own quantities by name, e.g. mixing weights, as `capabilities` declares them. May be empty."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """All that a checkpoint must hold; the backbone is recorded by its tag and digest, not stored."""
