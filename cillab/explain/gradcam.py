"""Grad-CAM through the learner's own classifier: which patches speak for a class, and how loudly.

    weight_c = mean over patches of  d score / d activation_c          map = relu(sum over c of weight_c * activation_c)

Maps keep their scale: between steps, methods and targets they can be compared, and a dead map looks dead. The score is
what the method classifies with (ridge, cosine, ETF or text head), not a head of the backbone. All layers before the
chosen one run without a graph.

Source: Selvaraju et al., ICCV 2017, arXiv:1610.02391, equations (1) and (2), on the patch tokens of a ViT.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import RLock
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from cillab.core import rng
from cillab.core.contract import Backbone, Learner
from cillab.core.errors import IncompatibleError, InvalidRequestError, NotObservedError, unknown_name
from cillab.explain.layers import as_grid, cam_layer

Target = str | int  # "true", "predicted", "difference", or a class id
Scores = Mapping[str, Float[Tensor, " image"]]

ONE_AT_A_TIME = RLock()  # maps hook a model that several sessions may share


def gradcam(
    learner: Learner[Any],
    images: UInt8[Tensor, "image 3 height width"],
    targets: Sequence[Target] = ("predicted",),
    *,
    labels: Int64[Tensor, " image"] | None = None,
    layer: str | None = None,
    batch_size: int = 64,
) -> dict[str, Float[Tensor, "image row column"]]:
    """Maps in [0, inf) for each target, from one forward pass: "true", "predicted", "difference", or a class id.

    "difference" is logit(true) - logit(predicted), or true minus runner-up where the prediction is right: what speaks
    for the true class and against its rival. A class id is keyed `class/<id>`. Maps of "true" and "difference" are NaN
    for images whose label the learner has not seen (there is no such logit), "difference" also before a second class.

    Raises:
        NotObservedError: no class seen yet.
        InvalidRequestError: labels are missing, a class was not seen, or no gradient reaches the patches at `layer`.
    """
    names = [target_name(target) for target in targets]
    validate_targets(learner, targets, labels, len(images))

    def scores(where: slice) -> Scores:
        logits = learner.logits(images[where])
        own = None if labels is None else labels[where].to(logits.device)
        return {name: target_score(logits, learner.seen, t, own) for name, t in zip(names, targets, strict=True)}

    return maps_of(learner_backbone(learner), scores, len(images), layer=layer, batch_size=batch_size)


def similarity_gradcam(
    learner: Learner[Any],
    images: UInt8[Tensor, "image 3 height width"],
    text: Float[Tensor, "text feature"],
    *,
    layer: str | None = None,
    batch_size: int = 64,
) -> dict[str, Float[Tensor, "image row column"]]:
    """Maps of cos(features, text_k) for each row of `text`, keyed `text/<k>`. Text features are constants."""
    unit = F.normalize(text.detach().float(), dim=-1)

    def scores(where: slice) -> Scores:
        features = F.normalize(learner.features(images[where]).float(), dim=-1)
        cosines = features @ unit.to(features).T
        return {f"text/{k}": cosines[:, k] for k in range(len(unit))}

    return maps_of(learner_backbone(learner), scores, len(images), layer=layer, batch_size=batch_size)


def noise_floor(
    learner: Learner[Any],
    images: UInt8[Tensor, "image 3 height width"],
    target: Target = "predicted",
    *,
    labels: Int64[Tensor, " image"] | None = None,
    draws: int = 8,
    seed: int = 1993,
    quantile: float = 0.95,
    layer: str | None = None,
    batch_size: int = 64,
) -> float:
    """The `quantile` of the maximum of maps that a random head gives: a map below it says nothing.

        quantile over images and random heads of max(map)

    Range [0, inf), in the unit of the score. A random head is a Gaussian direction in feature space, scaled so that its
    scores spread over `images` (standard deviation) as those of the learner's `target` do. So the floor has the unit
    of the learner's maps. Source: defined here.

    Raises:
        InvalidRequestError: fewer than 2 images with a score (no spread to match).
    """
    found = noise_floors(
        learner, images, (target,), labels=labels, draws=draws, seed=seed, quantile=quantile, layer=layer,
        batch_size=batch_size,
    )  # fmt: skip
    if not (floor := found[target_name(target)]) >= 0:
        raise InvalidRequestError("a noise floor needs at least 2 images with a score.")
    return floor


def noise_floors(
    learner: Learner[Any],
    images: UInt8[Tensor, "image 3 height width"],
    targets: Sequence[Target] = ("predicted",),
    *,
    labels: Int64[Tensor, " image"] | None = None,
    draws: int = 8,
    seed: int = 1993,
    quantile: float = 0.95,
    layer: str | None = None,
    batch_size: int = 64,
) -> dict[str, float]:
    """`noise_floor` of several targets from the same maps; NaN where fewer than 2 images have such a score.

    A map is linear in its score before it is cut at zero, so the floors of two targets differ by the spread of their
    scores alone.
    """
    validate_targets(learner, targets, labels, len(images))
    with torch.no_grad():
        logits, features = [], []
        for where in _slices(len(images), batch_size):
            logits.append(learner.logits(images[where]).float())
            features.append(learner.features(images[where]).float())
    logits, features = torch.cat(logits), torch.cat(features)
    own = None if labels is None else labels.to(logits.device)
    spreads = {}
    for target in targets:
        score = target_score(logits, learner.seen, target, own)
        score = score[score.isfinite()]
        spreads[target_name(target)] = float(score.std()) if len(score) > 1 else math.nan
    if all(math.isnan(spread) for spread in spreads.values()):
        return spreads
    generator = rng.stream(seed, "noise-floor")
    directions = torch.randn(draws, features.shape[1], generator=generator).to(features)
    directions /= (features @ directions.T).std(dim=0).unsqueeze(1)

    def scores(where: slice) -> Scores:
        heads = learner.features(images[where]).float() @ directions.T
        return {str(k): heads[:, k] for k in range(draws)}

    maps = maps_of(learner_backbone(learner), scores, len(images), layer=layer, batch_size=batch_size)
    unit = float(torch.cat([m.flatten(1).amax(dim=1) for m in maps.values()]).quantile(quantile))
    return {name: unit * spread for name, spread in spreads.items()}


def maps_of(
    backbone: Backbone,
    scores: Callable[[slice], Scores],
    count: int,
    *,
    layer: str | None = None,
    batch_size: int = 64,
) -> dict[str, Float[Tensor, "image row column"]]:
    """Grad-CAM of any scores: `scores(where)` gives one number an image, by name, from one forward of images[where].

    Images of a batch are independent, so the gradient of the sum is the gradient of each.

    Raises:
        InvalidRequestError: no gradient of any score reaches the patches at `layer`.
    """
    layer = layer or cam_layer(backbone)
    found: dict[str, list[Tensor]] = {}
    alive = not count
    for where in _slices(count, batch_size):
        activation, gradients = patch_gradients(backbone, scores, where, layer)
        for name, gradient in gradients.items():
            alive = alive or bool((gradient != 0).any())  # NaN, for an image without such a score, counts as alive
            weight = gradient.mean(dim=(1, 2))
            found.setdefault(name, []).append(torch.einsum("nrcd,nd->nrc", activation, weight).relu_())
    if not alive:
        raise InvalidRequestError(
            f"no gradient reaches the patches at layer {layer!r} of {backbone.tag}; use {cam_layer(backbone)!r}."
        )
    return {name: torch.cat(parts) for name, parts in found.items()}


def patch_gradients(
    backbone: Backbone, scores: Callable[[slice], Scores], where: slice, layer: str
) -> tuple[Float[Tensor, "image row column channel"], dict[str, Float[Tensor, "image row column channel"]]]:
    """The activation at `layer` and the gradient of each score there, laid out on the image, in float32.

    Raises:
        IncompatibleError: the scores do not depend on the layer, e.g. because the learner cuts the gradient.
    """
    with ONE_AT_A_TIME, torch.enable_grad(), backbone.tap(layer, cut=True) as taps:
        values = scores(where)
        if layer not in taps:
            raise IncompatibleError(f"layer {layer!r} of {backbone.tag} took no part in the forward pass.")
        activation, gradients, images = taps[layer], {}, 0
        for name, value in values.items():
            if not value.requires_grad:
                raise IncompatibleError(f"score {name!r} carries no gradient: `logits` must follow the grad mode.")
            valid, images = value.isfinite(), len(value)
            (gradient,) = torch.autograd.grad(value[valid].sum(), activation, retain_graph=True)
            gradient = as_grid(gradient.float(), backbone, layer, images=images)
            gradients[name] = gradient.masked_fill(~valid.view(-1, 1, 1, 1), torch.nan)
        return as_grid(activation.detach().float(), backbone, layer, images=images), gradients


def target_score(
    logits: Float[Tensor, "image cls"], seen: Sequence[int], target: Target, labels: Int64[Tensor, " image"] | None
) -> Float[Tensor, " image"]:
    """The number whose gradient makes the map; NaN where the image has no such number."""
    if target == "predicted":
        return logits.amax(dim=1)
    if isinstance(target, int):
        return logits[:, list(seen).index(target)]
    assert labels is not None  # checked by the callers
    is_true = labels.unsqueeze(1) == torch.tensor(seen, device=labels.device)
    known = is_true.any(dim=1)
    true = logits.gather(1, is_true.int().argmax(dim=1, keepdim=True)).squeeze(1)
    if target == "difference":
        # The best other class: the prediction where it is wrong, the runner-up where it is right.
        known = known & (len(seen) > 1)
        rival = logits.masked_fill(is_true, -torch.inf).amax(dim=1)
        true = true - torch.where(known, rival, torch.zeros_like(rival))
    return torch.where(known, true, torch.full_like(true, torch.nan))


def target_name(target: Target) -> str:
    """Key of a target in the result: its own name, or `class/<id>`."""
    return f"class/{target}" if isinstance(target, int) else target


def learner_backbone(learner: Learner[Any]) -> Backbone:
    """The backbone that a learner dresses.

    Raises:
        IncompatibleError: the learner does not keep it as `backbone`.
    """
    backbone = getattr(learner, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise IncompatibleError(f"{type(learner).__name__} has no attribute `backbone` to look into.")
    return backbone


def validate_targets(learner: Learner[Any], targets: Sequence[Target], labels: Tensor | None, count: int) -> None:
    """Refuse what `target_score` cannot compute, before anything runs.

    Raises:
        NotObservedError, InvalidRequestError, UnknownNameError: as `gradcam` says.
    """
    if not learner.seen:
        raise NotObservedError(f"{type(learner).__name__} has seen no class yet: there is no logit to explain.")
    for target in targets:
        if isinstance(target, int):
            if target not in learner.seen:
                raise InvalidRequestError(f"class {target} was not seen. Seen: {', '.join(map(str, learner.seen))}.")
        elif target not in ("true", "predicted", "difference"):
            raise unknown_name("target", str(target), ("true", "predicted", "difference"))
        elif target != "predicted" and (labels is None or len(labels) != count):
            given = "none" if labels is None else str(len(labels))
            raise InvalidRequestError(f"target {target!r} needs one label an image: {count} images, {given} labels.")


def _slices(count: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, count, batch_size):
        yield slice(start, min(start + batch_size, count))
