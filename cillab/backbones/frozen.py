"""What every backbone does, whatever library the model comes from: dress, tap, embed, remember."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from cillab.backbones import abreast
from cillab.backbones.cache import FeatureKey, FeatureMemory, TensorDigests, image_digests
from cillab.backbones.compiled import compile_blocks
from cillab.backbones.computing import Precision, resolve_device, resolve_precision
from cillab.backbones.first_token import first_token_alone
from cillab.core import processes
from cillab.core.contract import Backbone, Conditional, Delta
from cillab.core.errors import InvalidRequestError, nearest
from cillab.core.pixels import Preprocessing, evaluation_crop, normalise

CHUNK = 64  # images per forward pass of `__call__`: 32-128 is fastest on CPUs, in fp32 and in bf16
SMALLEST_BF16_BATCH = 8  # below it, CPU matrix products take another path and round differently


@dataclass(frozen=True)
class Anatomy:
    """Where things are inside a vision model: what slots, Grad-CAM and notes on size need to know."""

    kind: Literal["vit", "convnet"]
    block_names: tuple[str, ...]  # transformer blocks (stages of a convnet), first to last
    token_dim: int
    feature_dim: int
    patch_size: int | None = None
    prefix_tokens: int = 0  # class and register tokens before the patch tokens

    def tokens(self, pixels: Float[Tensor, "image 3 size size"]) -> int:
        """Tokens of an image in the blocks of a ViT, as long as nobody adds any."""
        return self.prefix_tokens + (pixels.shape[-1] // (self.patch_size or 1)) ** 2


class FrozenBackbone(Backbone):
    """A model in eval mode without `requires_grad`, used by one thread at a time."""

    def __init__(
        self,
        module: nn.Module,
        *,
        tag: str,
        anatomy: Anatomy,
        preprocessing: Preprocessing,
        clip: bool = False,
        precision: Precision = "auto",
        device: str | torch.device = "auto",
        memory: FeatureMemory | None = None,
    ) -> None:
        self._device = resolve_device(device)
        self.module = module.eval().requires_grad_(False).to(self._device)
        self.tag, self.clip, self.preprocessing = tag, clip, preprocessing
        self.anatomy = anatomy
        self.kind, self.feature_dim = anatomy.kind, anatomy.feature_dim
        self.precision = resolve_precision(precision, self._device)
        self.memory = memory if memory is not None else FeatureMemory()
        self.compiled = False
        self._digest: str | None = None
        self._tensor_digests = TensorDigests()
        self._worn: list[Delta] = []
        self._taps: list[_Tap] = []
        self._scratch: Tensor | None = None  # pixels of one chunk, while no gradient can look back at them

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._device

    @property
    def block_names(self) -> tuple[str, ...]:
        """Dotted names of the transformer blocks (stages, for a convnet), first to last."""
        return self.anatomy.block_names

    @property
    def depth(self) -> int:
        """Number of transformer blocks (stages, for a convnet)."""
        return len(self.anatomy.block_names)

    @property
    def token_dim(self) -> int:
        """Width of the residual stream (channels of the last stage, for a convnet)."""
        return self.anatomy.token_dim

    @abstractmethod
    def _forward(self, pixels: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "row feature"]:
        """The features that the library's own model returns for normalised pixels.

        A row for every image; one for every image and token under slots whose tokens are read alone.
        """

    @abstractmethod
    def _weights(self) -> nn.Module:
        """The module whose tensors `digest` covers."""

    def compile(self) -> None:
        """Have the blocks compiled when they are first used, as `compile_blocks` does it."""
        if not self.compiled:
            compile_blocks(self.module, self.block_names, self._device)
            self.compiled = True

    @contextmanager
    def wearing(self, *deltas: Delta) -> Iterator[None]:
        """Inside this context every forward pass goes through `deltas`, in order, after those already worn."""
        self.digest()  # of the naked model: a worn overlay would show through
        with ExitStack() as stack:
            for delta in deltas:
                if any(delta is other for other in self._worn):
                    raise RuntimeError(f"{type(delta).__name__} is worn already: it would be applied twice.")
                if not isinstance(delta, Conditional):  # those are put on for each forward pass, once they have seen
                    stack.enter_context(delta.worn_by(self.module))
                self._worn.append(delta)
                stack.callback(self._worn.remove, delta)
            yield

    @contextmanager
    def tap(self, *names: str, cut: bool = False) -> Iterator[dict[str, Tensor]]:
        """Read activations of modules by dotted name during the forward passes inside the context.

        They are what the next module receives: slots worn at the same place have been applied. With `cut`, each is
        detached there and requires grad. While a tap is active, `__call__` forwards all its images in one batch.

        Raises:
            InvalidRequestError: no module has that name.
        """
        known = dict(self.module.named_modules())
        for name in names:
            if name not in known:
                raise InvalidRequestError(
                    f"{self.tag} has no module {name!r}. Nearest: {nearest(name, known)!r}; blocks: "
                    f"{self.block_names[0]} ... {self.block_names[-1]}."
                )
        own = _Tap(names, cut, {})
        self._taps.append(own)
        try:
            yield own.activations
        finally:
            self._taps.remove(own)

    def embed(self, pixels: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "image feature"]:
        """Features of normalised pixels, with gradient, in float32; never remembered."""
        if not self._conditional():
            return self._embed(pixels)
        with torch.no_grad(), self.autocast():
            query = self._forward(pixels).float()
        return self._embed_conditional(pixels, query)

    def _conditional(self) -> list[Conditional]:
        """What is worn and depends on the image."""
        return [delta for delta in self._worn if isinstance(delta, Conditional)]

    def _embed_conditional(
        self, pixels: Float[Tensor, "image 3 size size"], query: Float[Tensor, "image feature"]
    ) -> Float[Tensor, "image read"]:
        """One forward pass under deltas that have seen the naked features of these very images."""
        worn = self._conditional()
        with ExitStack() as stack:
            for delta in worn:
                delta.see(query)
                stack.enter_context(delta.worn_by(self.module))
            features = self._embed(pixels)
            for delta in worn:
                features = delta.read(features)
        return features

    def _embed(self, pixels: Float[Tensor, "image 3 size size"]) -> Float[Tensor, "row feature"]:
        """One forward pass under what is on the module now."""
        with ExitStack() as stack:
            for tap in self._taps:  # hooked now, not earlier, so that they run after the hooks of what is worn
                for name in tap.names:
                    stack.enter_context(self.module.get_submodule(name).register_forward_hook(tap.hook(name)))
            last = self.block_names[-1:] if torch.is_grad_enabled() and not (self._taps or self.compiled) else ()
            for block in last:  # none where a model has no blocks
                stack.enter_context(first_token_alone(self.module, block, self.anatomy.tokens(pixels)))
            stack.enter_context(self.autocast())
            features = self._forward(pixels)
        return features.float()

    def autocast(self) -> torch.autocast:
        """The context under which this backbone computes."""
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def pixels(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image 3 size size"]:
        """Stored images under the evaluation transform, ready for `embed`."""
        cropped = evaluation_crop(images.to(self._device, non_blocking=True), self.preprocessing)
        return normalise(cropped, self.preprocessing.mean, self.preprocessing.std)

    def __call__(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image feature"]:
        """Features of stored images under the evaluation transform.

        Without grad they are remembered by content (image, weights, deltas worn, transform, precision). With grad
        enabled, or under a tap, nothing is remembered or looked up.
        """
        if torch.is_grad_enabled() or self._taps:
            return self._by_chunks(images, self.embed)

        conditional = self._conditional()
        queries = self._remembered(images, without=conditional) if conditional else None
        return self._remembered(images, queries=queries)

    def _remembered(
        self,
        images: UInt8[Tensor, "image 3 height width"],
        *,
        without: Sequence[Conditional] = (),
        queries: Float[Tensor, "image feature"] | None = None,
    ) -> Float[Tensor, "image read"]:
        """Features from memory, or computed: those `without` some deltas, or those of deltas that get `queries`."""

        def compute(missing: Int64[Tensor, " missing"]) -> Float[Tensor, "missing feature"]:
            own = processes.mine(len(missing))
            whole = len(missing) == len(images)  # then the images themselves, without gathering them
            some = images[own] if whole else images[missing[own].to(images.device)]
            if queries is None:
                found = self._by_chunks(some, self._embed if without else self.embed)
            else:
                theirs = queries[own] if whole else queries[missing[own].to(queries.device)]
                found = self._by_chunks(some, self._embed_conditional, theirs)
            return processes.gathered(found, len(missing))

        return self.memory.recall(self.feature_key(without), image_digests(images), compute).to(self._device)

    def each(
        self, images: UInt8[Tensor, "image 3 height width"], deltas: Sequence[Delta]
    ) -> Float[Tensor, "delta image feature"]:
        """Features of the same images under each of `deltas` alone; what is not remembered, in joint passes."""
        if torch.is_grad_enabled() or self._taps or self._worn or not abreast.possible(deltas):
            return super().each(images, deltas)
        digests, keys = image_digests(images), list[FeatureKey]()
        for delta in deltas:
            with self.wearing(delta):
                keys.append(self.feature_key())
        missing = [self.memory.missing(key, digests) for key in keys]
        fresh: dict[int, Tensor] = {}
        for positions in set(missing):
            which = [i for i, own in enumerate(missing) if own == positions]
            if positions and len(which) > 1:
                some = images[torch.tensor(positions, device=images.device)]
                fresh |= dict(zip(which, self._abreast(some, [deltas[i] for i in which]), strict=True))

        def computed(i: int) -> Callable[[Int64[Tensor, " missing"]], Tensor]:
            def compute(asked: Int64[Tensor, " missing"]) -> Tensor:
                if i in fresh and tuple(asked.tolist()) == missing[i]:
                    return fresh[i]
                with self.wearing(deltas[i]):
                    return self._by_chunks(images[asked.to(images.device)], self.embed)

            return compute

        return torch.stack(
            [self.memory.recall(keys[i], digests, computed(i)).to(self._device) for i in range(len(keys))]
        )

    def _abreast(
        self, images: UInt8[Tensor, "image 3 height width"], deltas: Sequence[Any]
    ) -> Float[Tensor, "delta image feature"]:
        """Batches of few images and up to `SIDE` deltas, a row for each pair."""
        found: list[Tensor] = []
        for start in range(0, len(deltas), abreast.SIDE):
            side = deltas[start : start + abreast.SIDE]
            again = torch.arange(max(len(images), SMALLEST_BF16_BATCH), device=images.device) % len(images)
            parts = -(-len(again) // max(SMALLEST_BF16_BATCH, CHUNK // len(side)))
            with abreast.abreast(self, side).worn_by(self.module):
                rows = [self._embed(self._pixels_of(images[own])) for own in torch.tensor_split(again, parts)]
            found.append(torch.cat([own.unflatten(0, (len(side), -1)) for own in rows], dim=1)[:, : len(images)])
        return torch.cat(found)

    def _by_chunks(
        self,
        images: UInt8[Tensor, "image 3 height width"],
        forward: Callable[..., Float[Tensor, "image feature"]],
        *beside: Float[Tensor, "image feature"],
    ) -> Float[Tensor, "image read"]:
        """Batches of at most CHUNK images and of nearly equal size; one batch under a tap."""
        count = len(images)
        if count == 0:
            return torch.zeros(0, self.feature_dim, device=self._device)
        if self._taps:
            return forward(self.pixels(images), *beside)
        if self.precision == "bf16" and count < SMALLEST_BF16_BATCH:
            # Padded, so that the features of an image are the same bits alone and in company.
            again = torch.arange(SMALLEST_BF16_BATCH, device=images.device) % count
            return forward(self.pixels(images[again]), *(x[again.to(x.device)] for x in beside))[:count]
        parts = -(-count // CHUNK)
        chunks = zip(*(torch.tensor_split(x, parts) for x in (images, *beside)), strict=True)
        return torch.cat([forward(self._pixels_of(chunk), *own) for chunk, *own in chunks])

    def _pixels_of(self, images: UInt8[Tensor, "image 3 height width"]) -> Float[Tensor, "image 3 size size"]:
        """As `pixels`, but in the same memory every time: fresh pages made the forward pass 5 % slower on a CPU."""
        if torch.is_grad_enabled() or torch.is_inference_mode_enabled() or self._device.type != "cpu":
            return self.pixels(images)
        size = self.preprocessing.size
        if self._scratch is None or self._scratch.shape[-1] != size:
            self._scratch = torch.empty(CHUNK, 3, size, size)
        cropped = evaluation_crop(images.to(self._device), self.preprocessing)
        return normalise(cropped, self.preprocessing.mean, self.preprocessing.std, out=self._scratch[: len(images)])

    def feature_key(self, without: Sequence[Delta] = ()) -> FeatureKey:
        """All that features depend on, except the image; `without` are worn now and do not count."""
        counted = [delta for delta in self._worn if not any(delta is other for other in without)]
        worn = tuple(self._tensor_digests.of_mapping(t) for delta in counted if (t := delta.tensors()))
        return FeatureKey(
            self.digest(), worn, _named(self.preprocessing), f"{self.precision}{', compiled' * self.compiled}"
        )

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and bytes of all weights of the naked model; computed once."""
        if self._digest is None:
            if self._worn:
                raise RuntimeError("The digest must be taken before anything is worn.")
            self._digest = digest_of_weights(self._weights())
        return self._digest

    def as_json(self) -> dict[str, Any]:
        """What a run records about its backbone."""
        return {
            "tag": self.tag,
            "kind": self.kind,
            "clip": self.clip,
            "digest": self.digest(),
            "feature_dim": self.feature_dim,
            "precision": self.precision,
            "preprocessing": self.preprocessing.as_json(),
            "parameters": sum(p.numel() for p in self.module.parameters()),
        }


@dataclass(eq=False)
class _Tap:
    """A request to read activations; the hooks themselves live only as long as one forward pass."""

    names: Sequence[str]
    cut: bool
    activations: dict[str, Tensor]

    def hook(self, name: str) -> Callable[..., Tensor | None]:
        def read(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            if not isinstance(output, Tensor):
                raise InvalidRequestError(f"{name!r} returns a {type(output).__name__}, not one tensor: tap inside it.")
            if self.cut:
                output = output.detach().requires_grad_(True)
            self.activations[name] = output
            return output if self.cut else None

        return read


def digest_of_weights(module: nn.Module) -> str:
    """SHA-256 of a state dict, independent of the order of its entries and of the device."""
    hasher = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        hasher.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        hasher.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


@cache
def _named(transform: Preprocessing) -> str:
    """A transform in the key of features, which every batch asks for."""
    return json.dumps(transform.as_json(), sort_keys=True)
